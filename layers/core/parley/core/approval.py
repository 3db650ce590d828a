"""A person's decision on a call, and what comes of none. The first durable decision counts.

A decision is bound to one call by its id, and to the hash of its tool and arguments: nothing else may run by it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parley.core import control as c
from parley.core import event as e
from parley.core import value as v
from parley.core.agent import Agent
from parley.core.arguments import arguments
from parley.core.binding import binding
from parley.core.compose import no_result
from parley.core.errors import Conflict, Gone, Invalid, TooLarge
from parley.core.fold import fold
from parley.core.limits import MAX_TOOL_OUTPUT_BYTES
from parley.core.scribe import Scribe
from parley.core.session import Approval, Call, Session

EXPIRED = "Nobody decided on this call in time, so it was not made. This is no denial."
DENIED = "A person denied this call. It was not made."
DENIED_BECAUSE = "A person denied this call, and it was not made: "

BY_EXPIRY = "expiry"
"""Who has decided on a plan of which nobody did."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decides."""

    word: c.DecisionWord
    input: dict[str, Any] | None = None
    """With `edit`: arguments, which must fit the tool's schema."""
    message: str | None = None
    """With `deny`: the reason. With `answer`: the call's result."""
    binding: str | None = None
    """The hash that the person has seen, if they say which."""

    def stands_in(self, event: c.ApprovalDecided) -> bool:
        """Say whether that is what this event has stored."""
        said = (event.decision, event.input, event.message or "")
        return said == (self.word, self.input, self.message or "")


def decide(
    scribe: Scribe, session: Session, call_id: str, decision: Decision, by: str, agent: Agent | None = None
) -> list[e.Event]:
    """Write the decision, and with it the result that the model will read when the call is not made.

    Raises:
        NotFound: no open run has such a call.
        Conflict: it does not wait for a decision, or not with these arguments.
        Gone: its time is over, or its run is being stopped.
        Invalid: the edited arguments do not fit the tool that `agent` has.
        TooLarge: they are longer than what the model may read of a result.
    """
    call = session.call(call_id)
    asked = _asked(scribe, session, call, decision)
    edited = _edited(call, decision, agent) if decision.word == "edit" else None
    runs = call.input if edited is None else edited
    decided: e.Event = scribe.write(
        c.ApprovalDecided,
        approval_id=asked.id,
        tool_use_id=call.id,
        decision=decision.word,
        binding=binding(call.name, runs) if decision.word in ("approve", "edit") else "",
        input=edited,
        message=decision.message,
        decided_by=by,
    )
    return _with_plan(scribe, session, [decided, *_result(scribe, call, decision)], by)


def expire(scribe: Scribe, session: Session) -> list[e.Event]:
    """Write what comes of the approvals whose time is over; nothing when there are none."""
    now, events = scribe.now(), list[e.Event]()
    for call in session.run.calls if session.run and session.run.open and not session.run.cancel else ():
        asked = call.approval
        if call.waits and asked and asked.lapsed(now):
            ids: dict[str, Any] = {"approval_id": asked.id, "tool_use_id": call.id}
            events.append(scribe.write(c.ApprovalExpired, **ids, on_expire=asked.on_expire))
            events += [no_result(scribe, call, EXPIRED)] if asked.on_expire == "deny" else []
    return _with_plan(scribe, session, events, BY_EXPIRY) if events else []


def _asked(scribe: Scribe, session: Session, call: Call, decision: Decision) -> Approval:
    """Return what a person was asked about the call, if this decision can still be the answer."""
    asked = call.approval
    if not call.waits:
        raise Conflict(f"Tool call '{call.id}' does not wait for a decision.", code="approval_decided")
    if session.run and session.run.cancel:
        raise Gone("The run is being stopped: none of its calls is made any more.", code="approval_cancelled")
    if asked is None:
        raise Conflict(f"Nobody was asked about '{call.id}' yet. Wait for its approval.", code="approval_not_requested")
    if asked.lapsed(scribe.now()):
        raise Gone(f"The approval of tool call '{call.id}' has expired.", code="approval_expired")
    if decision.binding not in (None, asked.binding):
        raise Conflict(
            "The decision is about other arguments than the call has. Read the approval again.", code="approval_changed"
        )
    return asked


def _edited(call: Call, decision: Decision, agent: Agent | None) -> dict[str, Any]:
    tool = agent.tool(call.name) if agent else None
    if tool is None:
        message = f"Tool '{call.name}' is not deployed, so its call cannot be edited. Deny it, or answer in its place."
        raise Invalid(message, code="tool_not_found")
    try:
        tool.parse(arguments(decision.input))
    except ValueError as error:
        raise Invalid(f"`input` does not fit tool '{call.name}': {error}", code="input_invalid") from error
    if len(json.dumps(decision.input, ensure_ascii=False).encode()) > MAX_TOOL_OUTPUT_BYTES:  # the model reads them
        raise TooLarge(f"`input` is larger than {MAX_TOOL_OUTPUT_BYTES:,} bytes.")
    return decision.input or {}


def _result(scribe: Scribe, call: Call, decision: Decision) -> list[e.Event]:
    match decision.word:
        case "deny":
            return [no_result(scribe, call, DENIED_BECAUSE + decision.message if decision.message else DENIED)]
        case "answer":
            content = (v.TextBlock(text=decision.message or ""),)
            return [scribe.write(e.AgentToolResult, tool_use_id=call.id, name=call.name, content=content)]
        case "approve" | "edit":
            return []


def _with_plan(scribe: Scribe, session: Session, events: Sequence[e.Event], by: str) -> list[e.Event]:
    """Add what has come of the plan when these events leave none of its calls waiting."""
    plan, after = session.run.plan if session.run else None, fold(session, events)
    if plan is None or after.run is None or any(call.waits for call in after.run.calls):
        return list(events)
    calls = after.run.calls or (session.run.calls if session.run else ())  # none is left when all have results
    runs = tuple(call.id for call in calls if call.may_run)
    if runs:
        return [*events, scribe.write(c.PlanApproved, plan_id=plan.id, tool_use_ids=runs, decided_by=by)]
    return [*events, scribe.write(c.PlanRejected, plan_id=plan.id, decided_by=by)]
