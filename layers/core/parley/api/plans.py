"""`POST /v1/sessions/{id}/plans/{plan_id}/decision`: one decision on all calls of a plan, or on all but some."""

from contextlib import aclosing
from typing import Annotated, Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from parley.api.approvals import Message
from parley.api.depends import Refs, States
from parley.api.idempotency import REPLAYED
from parley.api.outcomes import Decided
from parley.api.words import Bys, tell
from parley.core import decisions
from parley.core.control import ApprovalDecided, ApprovalExpired, PlanApproved, PlanProposed, PlanRejected
from parley.core.decisions import PlanDecision
from parley.core.errors import Conflict, Gone, NotFound, ParleyError
from parley.core.event import Event
from parley.core.limits import MAX_BLOCKS_PER_ANSWER
from parley.state import State
from parley.store import Ref
from parley.store.words import Spoken

router = APIRouter(tags=["approvals"])


class DecidePlan(BaseModel):
    """A decision on every call of the plan that waits."""

    model_config = ConfigDict(extra="forbid")

    decision: Literal["approve", "deny"]
    message: Annotated[Message | None, Field(description="What the model is told of calls that are denied.")] = None
    but: Annotated[
        list[str],
        Field(alias="except", max_length=MAX_BLOCKS_PER_ANSWER, description="`tool_use_id`s that get the opposite."),
    ] = []


@router.post(
    "/v1/sessions/{session_id}/plans/{plan_id}/decision", summary="Decide a plan", response_model_exclude_none=True
)
async def decide_plan(
    session: Refs, plan_id: str, body: DecidePlan, response: Response, state: States, by: Bys
) -> Decided:
    """Approve or deny a plan's calls at once; all of it is stored, or nothing. The run then goes on."""
    await state.store.sessions.head(session, by.sees)
    decision = PlanDecision(body.decision, frozenset(body.but), body.message)
    try:
        said = await state.store.words.say(
            session, lambda scribe, folded: decisions.decide_plan(scribe, folded, plan_id, decision, by.actor.id), by
        )
    except (NotFound, Conflict, Gone) as error:
        said = Spoken(await _standing(state, session, plan_id, decision, error))
    if said.replayed:
        response.headers.update(REPLAYED)
    await tell(state, session)
    return Decided(data=list(said.events))


async def _standing(
    state: State, session: Ref, plan_id: str, decision: PlanDecision, otherwise: ParleyError
) -> tuple[Event, ...]:
    """Return what was stored when this decision stands already; the same again is no mistake."""
    async with aclosing(state.store.log.events(session, newest_first=True)) as events:
        async for event in events:
            match event:
                case PlanApproved() | PlanRejected() if event.plan_id == plan_id:
                    return _same(await state.store.log.around(session, event.seq), event, decision, otherwise)
                case PlanProposed() if event.plan_id == plan_id and isinstance(otherwise, NotFound):
                    message = "The run was stopped, so its calls are not made."
                    raise Gone(message, code="approval_cancelled") from otherwise
                case PlanProposed() if event.plan_id == plan_id:
                    break
                case _:
                    pass
    raise otherwise


def _same(
    stored: tuple[Event, ...], ended: PlanApproved | PlanRejected, decision: PlanDecision, otherwise: ParleyError
) -> tuple[Event, ...]:
    """Return the entry in which a plan was decided, if by this decision."""
    if any(isinstance(each, ApprovalExpired) for each in stored):
        raise Gone("Nobody decided on this plan in time.", code="approval_expired") from otherwise
    words = [each for each in stored if isinstance(each, ApprovalDecided)]
    if words and all(decision.on(each.tool_use_id).stands_in(each) for each in words):
        return stored
    message = f"This plan was decided before, by {ended.decided_by or 'somebody'}."
    raise Conflict(message, code="plan_decided") from otherwise
