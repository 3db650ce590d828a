"""The closed union of events: everything a session's log can hold.

Names are the wire's. `user.`, `agent.`, `session.` and `span.` are types of the Managed Agents API as the `anthropic`
package 2.11 has them (read 2026-11-20), with fields added; `run.` and `tool.` are ours.

An event's `seq` is its slot in the log: it is known when the event has been stored, and never stored in the body.
New fields must be optional: what any version wrote must load for ever.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from parley.core import control as c
from parley.core.tool import Effect
from parley.core.value import Author, Block, ErrorDetail, StopReason, TextBlock, Usage
from parley.core.value import EventBase as EventBase


class UserMessage(EventBase):
    """A person's, or another system's, words and images to the agent."""

    type: Literal["user.message"] = "user.message"
    content: tuple[Block, ...]


class AgentMessage(EventBase):
    """Text of the model."""

    type: Literal["agent.message"] = "agent.message"
    content: tuple[TextBlock, ...]
    author: Author | None = None


class AgentThinking(EventBase):
    """The model's thinking; `signature` or `redacted` is what the provider wants back unchanged."""

    type: Literal["agent.thinking"] = "agent.thinking"
    thinking: str = ""
    signature: str | None = None
    redacted: str | None = None


class AgentToolUse(EventBase):
    """The model asks for a call. Its id is the `tool_use_id` everywhere; `provider_id` is the model's own."""

    type: Literal["agent.tool_use"] = "agent.tool_use"
    name: str
    input: dict[str, Any]
    provider_id: str
    evaluated_permission: Literal["allow", "ask", "deny"] = "allow"


class AgentToolResult(EventBase):
    """What came of a call, as the model reads it."""

    type: Literal["agent.tool_result"] = "agent.tool_result"
    tool_use_id: str
    name: str = ""
    content: tuple[TextBlock, ...] = ()
    is_error: bool = False
    duration_ms: int | None = None


class ToolIntended(EventBase):
    """A call is about to be made; stored before it is."""

    type: Literal["tool.intended"] = "tool.intended"
    tool_use_id: str
    effect: Effect
    idempotency_key: str
    attempt: int = 1


class ToolOutcomeUnknown(EventBase):
    """A call was interrupted and may have happened; a person must say."""

    type: Literal["tool.outcome_unknown"] = "tool.outcome_unknown"
    tool_use_id: str
    attempt: int = 1


OutcomeWord = Literal["happened", "did_not_happen", "retry"]


class ToolOutcomeDecided(EventBase):
    """A person's word on an unknown outcome."""

    type: Literal["tool.outcome_decided"] = "tool.outcome_decided"
    tool_use_id: str
    outcome: OutcomeWord
    decided_by: str
    attempt: int = 1


class ModelRequestStart(EventBase):
    """A model call began; stored together with its end."""

    type: Literal["span.model_request_start"] = "span.model_request_start"


class ModelRequestEnd(EventBase):
    """A model call ended; what it answered lies between its start and this."""

    type: Literal["span.model_request_end"] = "span.model_request_end"
    model_request_start_id: str
    model_usage: Usage
    is_error: bool = False
    stop_reason: str | None = None
    duration_ms: int | None = None
    cost: int | None = None
    """Micro-dollars, as priced when it was written; none without a price."""


class ContextCompacted(EventBase):
    """A summary now stands for the first messages of what the model reads; the events they came from stay."""

    type: Literal["agent.thread_context_compacted"] = "agent.thread_context_compacted"
    summary: str = ""
    replaced: int = 0
    """Messages that it stands for."""
    context_tokens: int = 0
    """How long the conversation was, as the model counted it last."""


class RunStarted(EventBase):
    """One turn of work begins."""

    type: Literal["run.started"] = "run.started"
    agent_id: str
    agent_version: int


class RunClaimed(EventBase):
    """A driver takes the run; every driver with a lower epoch is out from here on."""

    type: Literal["run.claimed"] = "run.claimed"
    epoch: int


class RunFinished(EventBase):
    """The run closed with an answer."""

    type: Literal["run.finished"] = "run.finished"
    status: Literal["completed", "completed_with_errors"]
    stop_reason: str
    usage: Usage = Usage()
    cost: int = 0
    duration_ms: int = 0


class RunFailed(EventBase):
    """The run closed without one; the session stays usable."""

    type: Literal["run.failed"] = "run.failed"
    code: str
    message: str
    retryable: bool = False
    usage: Usage = Usage()
    cost: int = 0
    duration_ms: int = 0


class StatusIdle(EventBase):
    """The session waits for input or for a person."""

    type: Literal["session.status_idle"] = "session.status_idle"
    stop_reason: StopReason


class StatusRunning(EventBase):
    """The agent is at work."""

    type: Literal["session.status_running"] = "session.status_running"


class StatusRescheduled(EventBase):
    """Work goes on elsewhere or later: another driver, or another model call after `after_seconds`."""

    type: Literal["session.status_rescheduled"] = "session.status_rescheduled"
    reason: Literal["taken_over", "handed_over", "model_retry"] = "taken_over"
    after_seconds: float = 0.0


class SessionError(EventBase):
    """Something failed; `error.retry_status` says what happens next."""

    type: Literal["session.error"] = "session.error"
    error: ErrorDetail


class SessionDeleted(EventBase):
    """The barrier of a delete: nothing may follow."""

    type: Literal["session.deleted"] = "session.deleted"


Event = Annotated[
    UserMessage
    | c.UserInterrupt
    | c.UserToolConfirmation
    | AgentMessage
    | AgentThinking
    | AgentToolUse
    | AgentToolResult
    | ToolIntended
    | ToolOutcomeUnknown
    | ToolOutcomeDecided
    | c.ApprovalRequested
    | c.ApprovalDecided
    | c.ApprovalExpired
    | c.PlanProposed
    | c.PlanApproved
    | c.PlanRejected
    | c.BudgetReserved
    | c.BudgetWarning
    | c.BudgetReached
    | ModelRequestStart
    | ModelRequestEnd
    | ContextCompacted
    | RunStarted
    | RunClaimed
    | RunFinished
    | RunFailed
    | c.RunCancelled
    | StatusIdle
    | StatusRunning
    | StatusRescheduled
    | SessionError
    | c.SessionUpdated
    | c.SessionSuspended
    | c.SessionResumed
    | c.SessionTerminated
    | c.CheckpointCreated
    | c.SessionRestored
    | SessionDeleted,
    Field(discriminator="type"),
]

EVENT: TypeAdapter[Event] = TypeAdapter(Event)
"""Reads one event."""


def to_json(event: EventBase, *, with_seq: bool = False) -> bytes:
    """Write one event as JSON, on the wire (`with_seq`) or for storage."""
    exclude = None if with_seq else {"seq"}
    return event.model_dump_json(exclude=exclude, exclude_none=True).encode()
