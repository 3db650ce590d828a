"""Events out of decisions: what a step stores before it acts, and what an answer, a result or a failure becomes.

Pure: ids and the time come from the caller's `Scribe`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from parley.core import event as e
from parley.core import value as v
from parley.core.agent import Agent
from parley.core.answer import Answer, Draft
from parley.core.compaction import summary_of
from parley.core.errors import ModelError
from parley.core.limits import MAX_RETRY_SECONDS, MAX_TOOL_OUTPUT_BYTES
from parley.core.run import AskPerson, CallModel, CallTools, Compact, Fail, Finish, HandOver, Step, Wait, make_room
from parley.core.session import Call, Run, Session
from parley.core.tool import ToolOutcome

E = TypeVar("E", bound=e.EventBase)


@dataclass(frozen=True, slots=True)
class Scribe:
    """Writes events of one run: gives each its id, time, run and task."""

    new_id: Callable[[str], str]
    now: Callable[[], datetime]
    run_id: str | None
    task_id: str | None = None

    def write(self, kind: type[E], *, id: str | None = None, at: datetime | None = None, **fields: Any) -> E:
        """Make one event; `id` and `at` are given when they were fixed earlier."""
        at = at or self.now()
        return kind(
            id=id or self.new_id("sevt"),
            created_at=at,
            processed_at=at,
            run_id=self.run_id,
            task_id=self.task_id,
            **fields,
        )


def user_message(scribe: Scribe, content: v.Content, at: datetime | None = None) -> e.UserMessage:
    """Write a message that has just come in."""
    blocks = (v.TextBlock(text=content),) if isinstance(content, str) else content
    return scribe.write(e.UserMessage, at=at, content=blocks)


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


def announcement(scribe: Scribe, step: Step, run: Run, session_id: str, agent: Agent) -> list[e.Event]:
    """Write what must be in the log before the step is acted on."""
    match step:
        case CallModel() | Compact() | Wait():
            return []
        case CallTools():
            return [_intent(scribe, call, session_id, agent) for call in step.calls if _effect(call, agent) != "read"]
        case AskPerson():
            waiting = v.StopReason(type="requires_action", event_ids=tuple(call.id for call in step.calls))
            unknown = [
                scribe.write(e.ToolOutcomeUnknown, tool_use_id=call.id, attempt=call.attempt)
                for call in step.interrupted
            ]
            return [*unknown, scribe.write(e.StatusIdle, stop_reason=waiting)]
        case HandOver():
            return [scribe.write(e.StatusRescheduled, reason="handed_over")]
        case Finish() | Fail():
            return closing_events(scribe, step, run)


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


def closing_events(scribe: Scribe, step: Finish | Fail, run: Run) -> list[e.Event]:
    """Write the end of a run."""
    spent: dict[str, Any] = {
        "usage": run.usage,
        "duration_ms": max(0, round((scribe.now() - run.started_at).total_seconds() * 1000)),
    }
    if isinstance(step, Finish):
        idle = v.StopReason(type="end_turn")
        closed: e.Event = scribe.write(e.RunFinished, status=step.status, stop_reason=step.stop_reason, **spent)
    else:
        idle = v.StopReason(type="refusal" if step.code == "model_refused" else "retries_exhausted")
        closed = scribe.write(e.RunFailed, code=step.code, message=step.message, retryable=step.retryable, **spent)
    return [closed, scribe.write(e.StatusIdle, stop_reason=idle)]


def answer_events(scribe: Scribe, agent: Agent, answer: Answer, began: datetime, ids: dict[int, str]) -> list[e.Event]:
    """Write a whole answer; `ids` holds the ids that its blocks got with their first delta."""
    start = scribe.write(e.ModelRequestStart, at=began)
    author = v.Author(agent_id=agent.id, name=agent.name or agent.id, model=answer.model or agent.model)
    blocks = [_block(scribe, author, block, ids.get(block.key)) for block in answer.blocks]
    end = _request_end(scribe, start, usage=answer.usage, stop_reason=answer.stop_reason)
    return [start, *blocks, end]


def compaction_events(
    scribe: Scribe, answer: Answer, began: datetime, step: Compact, session: Session
) -> list[e.Event]:
    """Write a summary of the beginning of the context.

    Raises:
        ModelError: the answer holds none.
    """
    start = scribe.write(e.ModelRequestStart, at=began)
    summary, tokens = summary_of(answer, session.context[: step.replaced]), session.context_tokens
    compacted = scribe.write(e.ContextCompacted, summary=summary, replaced=step.replaced, context_tokens=tokens)
    return [start, compacted, _request_end(scribe, start, usage=answer.usage, stop_reason=answer.stop_reason)]


def _block(scribe: Scribe, author: v.Author, block: Draft, id: str | None) -> e.Event:
    match block.kind:
        case "agent.message":
            return scribe.write(e.AgentMessage, id=id, content=(v.TextBlock(text=block.text),), author=author)
        case "agent.thinking":
            text, signature = block.text, block.signature
            return scribe.write(e.AgentThinking, id=id, thinking=text, signature=signature, redacted=block.redacted)
        case "agent.tool_use":
            name, provider_id = block.name, block.provider_id
            return scribe.write(e.AgentToolUse, id=id, name=name, input=block.input, provider_id=provider_id)


def _request_end(
    scribe: Scribe, start: e.ModelRequestStart, *, usage: v.Usage, stop_reason: str | None
) -> e.ModelRequestEnd:
    ended = scribe.now()
    return scribe.write(
        e.ModelRequestEnd,
        at=ended,
        model_request_start_id=start.id,
        model_usage=usage,
        stop_reason=stop_reason,
        is_error=stop_reason is None,
        duration_ms=max(0, round((ended - start.created_at).total_seconds() * 1000)),
    )


_ERROR_TYPES = {
    "overloaded": "model_overloaded_error",
    "rate_limited": "model_rate_limited_error",
    "request_failed": "model_request_failed_error",
    "refused_request": "model_request_failed_error",
    "no_access": "model_request_failed_error",
    "context_full": "model_request_failed_error",
    "cut_short": "model_request_failed_error",
}


def failure_events(scribe: Scribe, error: ModelError, began: datetime, session: Session, agent: Agent) -> list[e.Event]:
    """Write a model call that gave no answer, and whether another follows."""
    run = session.run
    assert run is not None, "only a run asks the model"  # noqa: S101 - narrows a type
    start = scribe.write(e.ModelRequestStart, at=began)
    end = _request_end(scribe, start, usage=v.Usage(), stop_reason=None)
    again = error.retryable and run.failures < agent.limits.max_model_retries
    if error.failure == "context_full":
        full = run.model_copy(update={"too_long": run.too_long + 1})
        again = isinstance(make_room(session, full, agent.limits), Compact)
    retry_status = "retrying" if again else ("exhausted" if error.retryable else "terminal")
    detail = v.ErrorDetail(
        type=_ERROR_TYPES[error.failure],
        message=error.message,
        retry_status=v.RetryStatus.model_validate({"type": retry_status}),
        code=error.code,
    )
    events: list[e.Event] = [start, end, scribe.write(e.SessionError, error=detail)]
    if again and error.retryable:
        wait = max(min(error.retry_after_seconds or 0, MAX_RETRY_SECONDS), min(0.5 * 2**run.failures, 8.0))
        events.append(scribe.write(e.StatusRescheduled, reason="model_retry", after_seconds=wait))
    return events


def result_event(scribe: Scribe, call: Call, outcome: ToolOutcome, duration_ms: int) -> e.Event:
    """Write what came of a call, cut to what the model may read."""
    if outcome.status == "unknown":
        return _unknown(scribe, call)
    return scribe.write(
        e.AgentToolResult,
        tool_use_id=call.id,
        name=call.name,
        content=(v.TextBlock(text=_cut(outcome.text)),),
        is_error=outcome.status == "error",
        duration_ms=duration_ms,
    )


def _cut(text: str) -> str:
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= MAX_TOOL_OUTPUT_BYTES:
        return encoded.decode()
    head = encoded[:MAX_TOOL_OUTPUT_BYTES].decode("utf-8", "ignore")
    return f"{head}\n[cut: {len(encoded) - MAX_TOOL_OUTPUT_BYTES} of {len(encoded)} bytes left out]"
