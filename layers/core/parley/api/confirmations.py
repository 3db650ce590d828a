"""Decisions in the words of the Managed Agents API: `user.tool_confirmation`, sent as any other event.

Shapes: `BetaManagedAgentsUserToolConfirmationEvent` and its params of the `anthropic` package 2.11 (read 2026-11-28).
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from fastapi import Response
from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from parley.api.approvals import Message, standing
from parley.api.idempotency import REPLAYED
from parley.api.words import tell
from parley.core.control import UserToolConfirmation
from parley.core.decisions import MAX_CONFIRMATIONS, Confirmation, confirm
from parley.core.errors import Conflict, Gone, Invalid, NotFound, ParleyError
from parley.core.event import Event
from parley.state import State
from parley.store import Ref
from parley.store.approvals import Approval
from parley.store.audit import By


class ConfirmationInput(BaseModel):
    """A decision on a call that waits for one."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "if": {"properties": {"result": {"const": "deny"}}},
            "else": {"properties": {"deny_message": {"type": "null"}}},
        },
    )

    type: Literal["user.tool_confirmation"]
    tool_use_id: Annotated[str, StringConstraints(max_length=64)]
    result: Literal["allow", "deny"]
    deny_message: Message | None = None

    @model_validator(mode="after")
    def _message_only_with_deny(self) -> Self:
        if self.deny_message is not None and self.result != "deny":
            raise ValueError("`deny_message` goes with `deny` only")
        return self


def among(events: Sequence[object]) -> list[Confirmation]:
    """Pick the confirmations that a request sends; none if it sends other events.

    Raises:
        Invalid: it sends both, or too many.
    """
    found = [each for each in events if isinstance(each, ConfirmationInput)]
    if found and len(found) < len(events):
        message = "Send confirmations in a request of their own: other events wait for their turn, these do not."
        raise Invalid(message, code="mixed_events")
    if len(found) > MAX_CONFIRMATIONS:
        raise Invalid(f"Send at most {MAX_CONFIRMATIONS} confirmations in one request.", code="too_many_confirmations")
    return [Confirmation(each.tool_use_id, each.result, each.deny_message) for each in found]


async def store(
    state: State, session: Ref, confirmations: Sequence[Confirmation], by: By, response: Response
) -> list[UserToolConfirmation]:
    """Store confirmations, all or none, with the decisions that they are; the run then goes on."""
    try:
        said = await state.store.words.say(
            session, lambda scribe, folded: confirm(scribe, folded, confirmations, by.actor.id), by
        )
    except (NotFound, Conflict, Gone) as error:
        stands = [await _standing(state, session, each, error) for each in confirmations]
    else:
        stands = _confirmed(said.events)
        if said.replayed:
            response.headers.update(REPLAYED)
    await tell(state, session)
    return stands


async def _standing(
    state: State, session: Ref, confirmation: Confirmation, otherwise: ParleyError
) -> UserToolConfirmation:
    """Return what stands of a confirmation; one that was decided elsewhere is told as if it had been sent."""
    try:
        approval = await standing(state, session, confirmation.call_id, confirmation.decision, otherwise)
    except NotFound:
        raise otherwise from None
    sent = [each for each in _confirmed(approval.stored) if each.tool_use_id == confirmation.call_id]
    return sent[0] if sent else _as_if_sent(approval, confirmation)


def _as_if_sent(approval: Approval, confirmation: Confirmation) -> UserToolConfirmation:
    decided = approval.decided
    assert decided is not None, "it stands"  # noqa: S101 - narrows a type
    belongs = decided.model_dump(
        include={"id", "seq", "created_at", "processed_at", "run_id", "task_id", "tool_use_id"}
    )
    return UserToolConfirmation(**belongs, result=confirmation.result, deny_message=confirmation.deny_message)


def _confirmed(events: Sequence[Event]) -> list[UserToolConfirmation]:
    return [event for event in events if isinstance(event, UserToolConfirmation)]
