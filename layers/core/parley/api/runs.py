"""`GET /v1/sessions/{id}/runs`: the execution log."""

from fastapi import APIRouter

from parley.api.depends import Principals, Refs, States
from parley.api.pages import Cursor, Limit, Order, page_of
from parley.api.shapes import AgentVersionShape, PageOf, RunErrorShape, RunShape
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
        started_at=moment(row.started_ms),
        ended_at=moment(row.ended_ms) if row.ended_ms else None,
        duration_ms=row.ended_ms - row.started_ms if row.ended_ms else None,
        first_seq=row.first_seq,
        last_seq=row.last_seq,
    )
