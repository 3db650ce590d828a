"""`GET /v1/sessions/{id}/events`: the log."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from parley.api.depends import Principals, Refs, States
from parley.api.pages import CreatedAt, CreatedAts, Cursor, IncludeTotal, Limit, Offset, Order, page_of, take
from parley.api.send import queued_shape
from parley.api.shapes import PageOf, QueuedShape
from parley.core.event import Event
from parley.state import State
from parley.store import Ref

router = APIRouter(tags=["events"])

Types = Annotated[list[str] | None, Query(alias="types[]", description="Only these types.")]


@router.get("/v1/sessions/{session_id}/events", summary="List events", response_model_exclude_none=True)
async def list_events(
    session: Refs,
    state: States,
    principal: Principals,
    created_at: CreatedAts,
    types: Types = None,
    order: Order = "asc",
    limit: Limit = 20,
    page: Cursor = None,
    after: Annotated[int, Query(ge=0, description="Only events with a higher `seq`.")] = 0,
    offset: Offset = 0,
    include_total: IncludeTotal = False,
) -> PageOf[Event | QueuedShape]:
    """List a session's events in the order of their `seq`; messages that wait for their turn come last, without one."""
    await state.store.sessions.head(session, principal.sees)
    question = repr(("events", session.id, types, order, created_at, after))
    position = await state.store.cursors.open(session.tenant, question, page) if page else None

    def wanted(event: Event) -> Event | None:
        fits = event.seq > after and (not types or event.type in types) and created_at.admits(event.created_at)
        return event if fits else None

    newest_first = order == "desc"
    events = state.store.log.events(
        session,
        after=after if position is None or newest_first else position,
        before=position if newest_first else None,
        newest_first=newest_first,
        expect=limit + 1 + offset,
    )
    found: tuple[list[Event], bool] = await take(events, wanted, offset, limit)
    shown, more = found
    next_page = await state.store.cursors.seal(session.tenant, question, shown[-1].seq) if more else None
    totals: dict[str, Any] = {}
    if include_total:
        total = [event async for event in state.store.log.events(session, after=after) if wanted(event)]
        totals = {"total": len(total), "total_is_lower_bound": False}
    log_ends_here = page is None if newest_first else next_page is None
    waiting = await _waiting(state, session, types, created_at) if log_ends_here else []
    rows = [*reversed(waiting), *shown] if newest_first else [*shown, *waiting]
    return page_of(rows, next_page, **totals)


async def _waiting(state: State, session: Ref, types: Types, created_at: CreatedAt) -> list[QueuedShape]:
    """Return the messages that are not in the log yet; they count in no limit, offset or total."""
    if types and "user.message" not in types:
        return []
    messages = [queued.message for queued in await state.store.inputs.all(session)]
    return [queued_shape(message) for message in messages if created_at.admits(message.created_at)]
