"""`GET /v1/sessions/{id}/runs`: the execution log."""

from typing import Any

from fastapi import APIRouter

from parley.api.pages import Cursor, Limit, Order, PageOf, page_of
from parley.api.state import Principals, Refs, States
from parley.core.status import STATUS
from parley.core.value import rfc3339
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
) -> PageOf:
    """List a session's runs: input, status, duration, usage, error."""
    store = state.store
    await store.sessions.head(session, principal.owner)
    question = repr(("runs", session.id, order))
    after = await store.cursors.open(session.tenant, question, page) if page else None
    found, more = await runs(store.table, session, limit=limit, newest_first=order == "desc", after=after)
    next_page = await store.cursors.seal(session.tenant, question, found[-1].id) if more else None
    return page_of([run_shape(row) for row in found], next_page)


@router.get("/v1/sessions/{session_id}/runs/{run_id}", summary="Get a run")
async def get_run(session: Refs, run_id: str, state: States, principal: Principals) -> dict[str, Any]:
    """Return one run."""
    await state.store.sessions.head(session, principal.owner)
    return run_shape(await run_row(state.store.table, session, run_id))


def run_shape(row: RunRow) -> dict[str, Any]:
    """Write a run; `input` is the beginning of the message, the whole of it is event `first_seq`."""
    error = {"code": row.error_code, "message": row.error_message} if row.error_code else None
    return {
        "id": row.id,
        "type": "run",
        "status": STATUS[row.phase].run,
        "agent": {"id": row.agent_id, "version": row.agent_version},
        "task_id": row.task_id,
        "input": row.input,
        "stop_reason": row.stop_reason,
        "error": error,
        "usage": row.usage.model_dump(),
        "started_at": rfc3339(moment(row.started_ms)),
        "ended_at": rfc3339(moment(row.ended_ms)) if row.ended_ms else None,
        "duration_ms": row.ended_ms - row.started_ms if row.ended_ms else None,
        "first_seq": row.first_seq,
        "last_seq": row.last_seq,
    }
