"""`GET /v1/sessions/{id}/runs`: the execution log; and the stop of one run."""

from fastapi import APIRouter, Response

from parley.api.depends import Principals, Refs, States
from parley.api.idempotency import REPLAYED
from parley.api.pages import Cursor, Limit, Order, page_of
from parley.api.shapes import AgentVersionShape, PageOf, RunErrorShape, RunShape
from parley.api.words import Bys, tell
from parley.core import busy
from parley.core.errors import Conflict
from parley.core.status import STATUS
from parley.store.head import moment
from parley.store.rows import RunRow, run_row, runs

router = APIRouter(tags=["runs"])


@router.get("/v1/sessions/{session_id}/runs", summary="List runs")
async def list_runs(
    session: Refs,
    state: States,
    principal: Principals,
    order: Order = "desc",
    limit: Limit = 20,
    page: Cursor = None,
) -> PageOf[RunShape]:
    """List a session's runs: input, status, duration, usage, error."""
    store = state.store
    await store.sessions.head(session, principal.sees)
    question = repr(("runs", session.id, order))
    after = await store.cursors.open(session.tenant, question, page) if page else None
    found, more = await runs(store.table, session, limit=limit, newest_first=order == "desc", after=after)
    next_page = await store.cursors.seal(session.tenant, question, found[-1].id) if more else None
    return page_of([run_shape(row) for row in found], next_page)


@router.get("/v1/sessions/{session_id}/runs/{run_id}", summary="Get a run")
async def get_run(session: Refs, run_id: str, state: States, principal: Principals) -> RunShape:
    """Return one run."""
    await state.store.sessions.head(session, principal.sees)
    return run_shape(await run_row(state.store.table, session, run_id))


@router.post("/v1/sessions/{session_id}/runs/{run_id}/cancel", summary="Stop a run")
async def cancel_run(session: Refs, run_id: str, response: Response, state: States, by: Bys) -> RunShape:
    """Stop a run: no call with an effect starts from then on; an answer under way is cut, a tool at work ends.

    The run closes soon after as `interrupted`. One that was stopped before is returned as it is.
    """
    store = state.store
    await store.sessions.head(session, by.sees)
    row = await run_row(store.table, session, run_id)
    said = await store.words.say(session, lambda scribe, folded: busy.stop(scribe, folded, by.actor.id, run_id), by)
    await tell(state, session, said.events)
    if said.replayed:
        response.headers.update(REPLAYED)
    if not said.events:
        row = await run_row(store.table, session, run_id)
    if row.ended_ms and not said.events and row.phase != "interrupted":
        raise Conflict(f"Run '{run_id}' has ended: it is '{STATUS[row.phase].run}'.", code="run_ended")
    return run_shape(row)


def run_shape(row: RunRow) -> RunShape:
    """Write a run."""
    return RunShape(
        id=row.id,
        status=STATUS[row.phase].run,
        agent=AgentVersionShape(id=row.agent_id, version=row.agent_version),
        task_id=row.task_id,
        input=row.input,
        stop_reason=row.stop_reason,
        error=RunErrorShape(code=row.error_code, message=row.error_message) if row.error_code else None,
        usage=row.usage,
        cost=row.cost,
        started_at=moment(row.started_ms),
        ended_at=moment(row.ended_ms) if row.ended_ms else None,
        duration_ms=row.ended_ms - row.started_ms if row.ended_ms else None,
        first_seq=row.first_seq,
        last_seq=row.last_seq,
    )
