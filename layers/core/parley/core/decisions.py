"""Several decisions in one append: of a whole plan, and in the words of the Managed Agents API. All or none is stored.

Each is decided behind the ones before it, as if it had come alone.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from parley.core import control as c
from parley.core import event as e
from parley.core.approval import Decision, decide
from parley.core.errors import Invalid, NotFound
from parley.core.fold import fold
from parley.core.scribe import Scribe
from parley.core.session import Session

MAX_CONFIRMATIONS = 20
"""Of one append: each is up to three events, and the plan's makes 61 of the 64 that an entry holds."""


@dataclass(frozen=True, slots=True)
class PlanDecision:
    """What a person decides on a plan; the calls in `but` get the opposite."""

    word: Literal["approve", "deny"]
    but: Collection[str] = ()
    message: str | None = None
    """What the model is told of the calls that are denied."""

    def on(self, call_id: str) -> Decision:
        """Return the decision on one call."""
        approved = (self.word == "approve") != (call_id in self.but)
        return Decision("approve") if approved else Decision("deny", message=self.message)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A decision on one call, in the words of the Managed Agents API."""

    call_id: str
    result: Literal["allow", "deny"]
    deny_message: str | None = None

    @property
    def decision(self) -> Decision:
        """The same in our words."""
        return Decision("approve") if self.result == "allow" else Decision("deny", message=self.deny_message)


def decide_plan(scribe: Scribe, session: Session, plan_id: str, decision: PlanDecision, by: str) -> list[e.Event]:
    """Write decisions on all calls of a plan that wait for one.

    Raises:
        NotFound: no such plan waits.
        Invalid: one of the exceptions is no call of the plan that waits.
        Conflict, Gone: as `decide`.
    """
    plan = session.run.plan if session.run and session.run.open else None
    waiting = [call.id for call in session.run.calls if call.waits] if session.run else []
    if plan is None or plan.id != plan_id or not waiting:
        raise NotFound("plan", plan_id)
    if foreign := sorted(set(decision.but) - set(waiting)):
        message = f"In `except` are no calls of this plan that wait for a decision: {', '.join(foreign)}."
        raise Invalid(message, code="not_in_plan")
    events: list[e.Event] = []
    for call_id in waiting:
        events += decide(scribe, fold(session, events), call_id, decision.on(call_id), by)
    return events


def confirm(scribe: Scribe, session: Session, confirmations: Sequence[Confirmation], by: str) -> list[e.Event]:
    """Write each confirmation, and behind it the decision that it is.

    Raises:
        NotFound, Conflict, Gone: as `decide`.
    """
    events: list[e.Event] = []
    for each in confirmations:
        said: dict[str, Any] = {"result": each.result, "deny_message": each.deny_message}
        events.append(scribe.write(c.UserToolConfirmation, tool_use_id=each.call_id, **said))
        events += decide(scribe, fold(session, events), each.call_id, each.decision, by)
    return events
