"""`/v1/approvals`: the calls that wait for a person's decision, across sessions, and the decision itself."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from parley.api.depends import Principals, States, ref
from parley.api.idempotency import REPLAYED
from parley.api.pages import Cursor, Limit, Order, page_of
from parley.api.shapes import PageOf
from parley.api.words import Bys, tell
from parley.core.approval import Decision, decide
from parley.core.binding import asked_of
from parley.core.control import ApprovalDecided
from parley.core.errors import Conflict, Gone, NotFound, ParleyError
from parley.core.event import Event
from parley.core.limits import MAX_TOOL_OUTPUT_BYTES
from parley.core.policy import OnExpire
from parley.core.value import Timestamp
from parley.state import Principal, State
from parley.store import Ref
from parley.store.approvals import Approval, Status
from parley.store.head import moment

router = APIRouter(tags=["approvals"])

Message = Annotated[str, StringConstraints(max_length=MAX_TOOL_OUTPUT_BYTES // 4)]


class Decide(BaseModel):
    """What every decision may have."""

    model_config = ConfigDict(extra="forbid")

    binding: Annotated[str, Field(description="The approval's hash, if other arguments must not be decided on.")] = ""


class Approve(Decide):
    """Make the call as it is."""

    decision: Literal["approve"]


class Deny(Decide):
    """Do not make the call; `message` tells the model why."""

    decision: Literal["deny"]
    message: Message | None = None


class Edit(Decide):
    """Make the call with other arguments, which must fit the tool's schema."""

    decision: Literal["edit"]
    input: dict[str, Any]


class Answer(Decide):
    """Do not make the call: this is its result."""

    decision: Literal["answer"]
    answer: Message


Body = Annotated[Approve | Deny | Edit | Answer, Field(discriminator="decision")]


class ApprovalShape(BaseModel):
    """A call that a person was asked about; `input` is the model's, `edited_input` what a person made of it."""

    id: str
    type: Literal["approval"] = "approval"
    session_id: str
    run_id: str | None = None
    tool_use_id: str
    name: str
    input: dict[str, Any]
    binding: str
    plan_id: str | None = None
    status: Status
    requested_at: Timestamp
    expires_at: Timestamp | None = None
    on_expire: OnExpire
    decided_by: str | None = None
    decided_at: Timestamp | None = None
    message: str | None = None
    edited_input: dict[str, Any] | None = None


class DecisionShape(BaseModel):
    """The approval as it is decided now, and the events that were stored with the decision."""

    approval: ApprovalShape
    data: list[Event]


@router.get("/v1/approvals", summary="List approvals", response_model_exclude_none=True)
async def list_approvals(
    state: States,
    principal: Principals,
    status: Status = "pending",
    session_id: Annotated[str, Query(description="Only this session's.")] = "",
    order: Order = "desc",
    limit: Limit = 20,
    page: Cursor = None,
) -> PageOf[ApprovalShape]:
    """List what waits for a decision in all your sessions, or what was decided, by when it was requested."""
    session = ref(principal, session_id) if session_id else None
    if session:
        await state.store.sessions.head(session, principal.sees)
    found = await state.store.approvals.page(
        principal.tenant,
        status,
        session=session,
        owner=principal.sees,
        limit=limit,
        newest_first=order == "desc",
        page=page,
    )
    return page_of([approval_shape(each) for each in found.approvals], found.next_page)


@router.get("/v1/approvals/{approval_id}", summary="Get an approval", response_model_exclude_none=True)
async def get_approval(approval_id: str, state: States, principal: Principals) -> ApprovalShape:
    """Return one approval, whatever its status."""
    session, call_id = _address(principal, approval_id)
    return approval_shape(await state.store.approvals.one(session, call_id, principal.sees))


@router.post("/v1/approvals/{approval_id}/decision", summary="Decide", response_model_exclude_none=True)
async def decide_approval(
    approval_id: str, body: Body, response: Response, state: States, principal: Principals, by: Bys
) -> DecisionShape:
    """Approve a call, deny it, edit its arguments, or answer in its place; the run then goes on. The first counts."""
    session, call_id = _address(principal, approval_id)
    approvals, decision = state.store.approvals, _decision(body)
    await approvals.one(session, call_id, principal.sees)
    head = await state.store.sessions.head(session, principal.sees)
    agent = state.agents.get(head.agent_id)
    try:
        said = await state.store.words.say(
            session, lambda scribe, folded: decide(scribe, folded, call_id, decision, by.actor.id, agent), by
        )
    except (NotFound, Conflict, Gone) as error:
        approval = await standing(state, session, call_id, decision, error)
    else:
        approval = await approvals.one(session, call_id, principal.sees)
        if said.replayed:
            response.headers.update(REPLAYED)
    await tell(state, session)
    return DecisionShape(approval=approval_shape(approval), data=list(approval.stored))


async def standing(state: State, session: Ref, call_id: str, decision: Decision, otherwise: ParleyError) -> Approval:
    """Return the approval when this decision stands already; the same again is no mistake.

    Raises:
        Conflict: another decision stands.
        Gone: it has expired, or its run was stopped.
        ParleyError: `otherwise`, when nothing stands.
    """
    approval = await state.store.approvals.one(session, call_id)
    match approval.status, approval.decided:
        case "pending", _:
            raise otherwise
        case _, ApprovalDecided() as decided:
            if decision.stands_in(decided):
                return approval
            message = f"Another decision came first: '{decided.decision}' by {decided.decided_by or 'somebody'}."
            raise Conflict(message, code="approval_decided") from otherwise
        case "expired", _:
            message = "Nobody decided in time, and the run has gone on without it."
            raise Gone(message, code="approval_expired") from otherwise
        case _:
            raise Gone("The run was stopped, so its calls are not made.", code="approval_cancelled") from otherwise


def approval_shape(approval: Approval) -> ApprovalShape:
    """Write an approval."""
    asked, decided = approval.asked, approval.decided
    word = decided if isinstance(decided, ApprovalDecided) else None
    return ApprovalShape(
        **asked.model_dump(include={"run_id", "tool_use_id", "name", "input", "binding", "plan_id", "on_expire"}),
        id=asked.approval_id,
        session_id=approval.ref.id,
        status=approval.status,
        requested_at=asked.created_at,
        expires_at=asked.expires_at,
        decided_by=approval.decided_by or None,
        decided_at=moment(approval.decided_ms) if approval.decided_ms else None,
        message=word.message if word else None,
        edited_input=word.input if word else None,
    )


def _address(principal: Principal, approval_id: str) -> tuple[Ref, str]:
    found = asked_of(approval_id)
    if found is None:
        raise NotFound("approval", approval_id[:64])
    session_id, call_id = found
    return ref(principal, session_id), call_id


def _decision(body: Approve | Deny | Edit | Answer) -> Decision:
    seen = body.binding or None
    match body:
        case Approve():
            return Decision("approve", binding=seen)
        case Deny():
            return Decision("deny", message=body.message, binding=seen)
        case Edit():
            return Decision("edit", input=body.input, binding=seen)
        case Answer():
            return Decision("answer", message=body.answer, binding=seen)
