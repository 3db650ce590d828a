"""Events out of decisions: what a step stores before it acts, and what an answer, a result or a failure becomes.

Pure: ids and the time come from the caller's `Scribe`.
"""

import json
from datetime import datetime, timedelta
from typing import Any

from parley.core import control as c
from parley.core import event as e
from parley.core import value as v
from parley.core.agent import Agent
from parley.core.binding import approval_id, binding
from parley.core.limits import MAX_TOOL_OUTPUT_BYTES
from parley.core.run import (
    AskBudget,
    AskPerson,
    CallModel,
    CallTools,
    Cancel,
    Close,
    Compact,
    Fail,
    Finish,
    HandOver,
    Pause,
    Step,
    Wait,
)
from parley.core.scribe import Scribe
from parley.core.session import Call, Run, Session
from parley.core.spending import pausing, reservation, warnings
from parley.core.tool import ToolOutcome

CANCELLED = "The run was stopped before this call was made. It was not made."
LEFT_UNKNOWN = "The run was stopped while this call was at work. Whether it happened is not known."
EDITED = "A person changed the arguments, and the call was made with these:"


def user_message(scribe: Scribe, content: v.Content, at: datetime | None = None) -> e.UserMessage:
    """Write a message that has just come in."""
    return scribe.write(e.UserMessage, at=at, content=blocks(content))


def blocks(content: v.Content) -> tuple[v.Block, ...]:
    """Write what a person says as blocks."""
    return (v.TextBlock(text=content),) if isinstance(content, str) else content


def opening(scribe: Scribe, agent: Agent, message: e.UserMessage, epoch: int) -> list[e.Event]:
    """Write what begins a run; a message that has waited keeps its id and the moment it came."""
    belongs = {"processed_at": scribe.now(), "run_id": scribe.run_id, "task_id": scribe.task_id}
    return [
        message.model_copy(update=belongs),
        scribe.write(e.RunStarted, agent_id=agent.id, agent_version=agent.version),
        scribe.write(e.StatusRunning),
        scribe.write(e.RunClaimed, epoch=epoch),
    ]


def refused(scribe: Scribe, why: Fail) -> e.SessionError:
    """Write why a run that begins can only fail."""
    ends = v.RetryStatus(type="terminal")
    detail = v.ErrorDetail(type="unknown_error", message=why.message, retry_status=ends, code=why.code)
    return scribe.write(e.SessionError, error=detail)


def taking_over(scribe: Scribe, epoch: int) -> list[e.Event]:
    """Write what puts another driver in charge of an open run."""
    return [
        scribe.write(e.RunClaimed, epoch=epoch),
        scribe.write(e.StatusRescheduled, reason="taken_over"),
    ]


def announcement(scribe: Scribe, step: Step, session: Session, agent: Agent) -> list[e.Event]:
    """Write what must be in the log before the step is acted on; a warning stands beside the facts that it is about."""
    run = session.run
    if run is None or isinstance(step, Wait):
        return []
    return [*warnings(scribe, session, agent), *_announced(scribe, step, session, run, agent)]


def _announced(scribe: Scribe, step: Step, session: Session, run: Run, agent: Agent) -> list[e.Event]:
    match step:
        case Wait():
            return []
        case CallModel() | Compact():
            return reservation(scribe, session, agent)
        case CallTools():
            return [_intent(scribe, call, session.id, agent) for call in step.calls if _effect(call, agent) != "read"]
        case AskBudget():
            return pausing(scribe, step)
        case AskPerson():
            waiting = v.StopReason(type="requires_action", event_ids=tuple(call.id for call in step.calls))
            unknown = [_unknown(scribe, call) for call in step.interrupted]
            asked = [_asked(scribe, call, run, session.id, agent) for call in step.unasked]
            return [*unknown, *asked, scribe.write(e.StatusIdle, stop_reason=waiting)]
        case Pause():
            held = v.StopReason(type="requires_action", event_ids=(step.suspension,))
            return [scribe.write(e.StatusIdle, stop_reason=held)]
        case HandOver():
            return [scribe.write(e.StatusRescheduled, reason="handed_over")]
        case Finish() | Fail() | Cancel():
            return closing_events(scribe, step, run)


def _asked(scribe: Scribe, call: Call, run: Run, session_id: str, agent: Agent) -> c.ApprovalRequested:
    policy = agent.policy
    return scribe.write(
        c.ApprovalRequested,
        approval_id=approval_id(session_id, call.id),
        tool_use_id=call.id,
        name=call.name,
        input=call.input,
        binding=binding(call.name, call.input),
        plan_id=run.plan.id if run.plan else None,
        expires_at=scribe.now() + timedelta(seconds=policy.approval_seconds) if policy.approval_seconds else None,
        on_expire=policy.on_expire,
    )


def _unknown(scribe: Scribe, call: Call) -> e.ToolOutcomeUnknown:
    return scribe.write(e.ToolOutcomeUnknown, tool_use_id=call.id, attempt=call.attempt)


def _intent(scribe: Scribe, call: Call, session_id: str, agent: Agent) -> e.ToolIntended:
    return scribe.write(
        e.ToolIntended,
        tool_use_id=call.id,
        effect=_effect(call, agent),
        idempotency_key=idempotency_key(session_id, call.id),
        attempt=call.attempt,
    )


def idempotency_key(session_id: str, tool_use_id: str) -> str:
    """Name a call, the same for each of its attempts."""
    return f"{session_id}.{tool_use_id}"


def _effect(call: Call, agent: Agent) -> str:
    """The effect stored with an earlier intent counts, then the deployed tool's; an unknown tool is never run."""
    tool = agent.tool(call.name)
    return call.effect or (tool.effect if tool else "read")


def closing_events(scribe: Scribe, step: Close, run: Run) -> list[e.Event]:
    """Write the end of a run; of one that is stopped, first what has become of its calls."""
    spent: dict[str, Any] = {
        "usage": run.usage,
        "cost": run.cost,
        "duration_ms": max(0, round((scribe.now() - run.started_at).total_seconds() * 1000)),
    }
    idle, closed = v.StopReason(type="end_turn"), list[e.Event]()
    match step:
        case Finish():
            closed = [scribe.write(e.RunFinished, status=step.status, stop_reason=step.stop_reason, **spent)]
        case Fail():
            idle = v.StopReason(type="refusal" if step.code == "model_refused" else "retries_exhausted")
            why: dict[str, Any] = {"code": step.code, "message": step.message, "retryable": step.retryable}
            closed = [scribe.write(e.RunFailed, **why, **spent)]
        case Cancel():
            left = [_left(scribe, call) for call in run.calls if call.state != "settled"]
            closed = [*left, scribe.write(c.RunCancelled, reason=step.reason, **spent)]
    return [*closed, scribe.write(e.StatusIdle, stop_reason=idle)]


def _left(scribe: Scribe, call: Call) -> e.AgentToolResult:
    return no_result(scribe, call, CANCELLED if call.state == "requested" else LEFT_UNKNOWN)


def no_result(scribe: Scribe, call: Call | e.AgentToolUse, why: str) -> e.AgentToolResult:
    """Write, as an error that the model reads, why nobody makes a call."""
    content = (v.TextBlock(text=why),)
    return scribe.write(e.AgentToolResult, tool_use_id=call.id, name=call.name, content=content, is_error=True)


def result_event(scribe: Scribe, call: Call, outcome: ToolOutcome, duration_ms: int) -> e.Event:
    """Write what came of a call, cut to what the model may read."""
    if outcome.status == "unknown":
        return _unknown(scribe, call)
    return scribe.write(
        e.AgentToolResult,
        tool_use_id=call.id,
        name=call.name,
        content=told(call, _cut(outcome.text)),
        is_error=outcome.status == "error",
        duration_ms=duration_ms,
    )


def told(call: Call, text: str) -> tuple[v.TextBlock, ...]:
    """Write a result as the model reads it; of a call that a person has edited, it learns with what it was made."""
    said = v.TextBlock(text=text)
    if not call.edited:
        return (said,)
    arguments = json.dumps(call.input, ensure_ascii=False)
    return (v.TextBlock(text=f"{EDITED} {arguments}"), said)


def _cut(text: str) -> str:
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= MAX_TOOL_OUTPUT_BYTES:
        return encoded.decode()
    head = encoded[:MAX_TOOL_OUTPUT_BYTES].decode("utf-8", "ignore")
    return f"{head}\n[cut: {len(encoded) - MAX_TOOL_OUTPUT_BYTES} of {len(encoded)} bytes left out]"
