"""`GET /v1/audit`: who did what."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel

from parley.api.depends import Principals, States
from parley.api.pages import CreatedAt, CreatedAts, Cursor, Limit, Order, page_of
from parley.api.shapes import PageOf
from parley.core.value import Timestamp
from parley.store.audit import KEPT_DAYS, Act, Action, How, page
from parley.store.head import milliseconds, moment

router = APIRouter(tags=["audit"])


class ActorShape(BaseModel):
    """Who did it, and by what they were known."""

    id: str
    how: How


class ActShape(BaseModel):
    """One act of a person; `target` is what it was about besides the session, `detail` has ids and words only."""

    id: str
    type: Literal["act"] = "act"
    action: Action
    actor: ActorShape
    created_at: Timestamp
    session_id: str
    run_id: str | None
    target: str | None
    detail: dict[str, str | int]
    request_id: str


Exactly = Annotated[str | None, Query(max_length=256)]


@router.get("/v1/audit", summary="List what people did")
async def list_acts(
    state: States,
    principal: Principals,
    created_at: CreatedAts,
    action: Action | None = None,
    session_id: Exactly = None,
    actor: Exactly = None,
    order: Order = "desc",
    limit: Limit = 20,
    page_: Cursor = None,
) -> PageOf[ActShape]:
    """List decisions, stops, changes and deletes, the newest first; they are kept for 400 days."""
    cursors = state.store.cursors
    question = repr(("audit", action, session_id, actor, order, created_at, principal.sees))
    after = await cursors.open(principal.tenant, question, page_) if page_ else None

    def wanted(act: Act) -> bool:
        pairs = ((action, act.action), (session_id, act.session_id), (actor, act.actor.id))
        mine = principal.sees in (None, act.owner, act.actor.id)
        return mine and all(asked in (None, found) for asked, found in pairs) and created_at.admits(moment(act.at_ms))

    from_ms, to_ms = _times(created_at, milliseconds(state.store.log.clock.now()))
    acts, position = await page(
        state.store.table, principal.tenant, from_ms=from_ms, to_ms=to_ms, wanted=wanted, limit=limit,
        newest_first=order == "desc", after=after,
    )  # fmt: skip
    next_page = await cursors.seal(principal.tenant, question, position) if position else None
    return page_of([_shape(act) for act in acts], next_page)


def _times(created_at: CreatedAt, now_ms: int) -> tuple[int, int]:
    """Return the first and the last moment that an act can be of."""
    kept = round(timedelta(days=KEPT_DAYS).total_seconds() * 1000)
    froms = [milliseconds(asked) for asked in (created_at.gt, created_at.gte) if asked]
    tos = [milliseconds(asked) for asked in (created_at.lt, created_at.lte) if asked]
    return max([now_ms - kept, *froms]), min([now_ms + _AHEAD_MS, *tos])


_AHEAD_MS = 60_000
"""So far another machine's clock may be ahead."""


def _shape(act: Act) -> ActShape:
    return ActShape(
        id=act.id,
        action=act.action,
        actor=ActorShape(id=act.actor.id, how=act.actor.how),
        created_at=moment(act.at_ms),
        session_id=act.session_id,
        run_id=act.run_id,
        target=act.target,
        detail=dict(act.detail),
        request_id=act.actor.request_id,
    )
