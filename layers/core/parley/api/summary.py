"""What came of a run, told at once: to who wants no stream, and at a stream's end."""

from dataclasses import dataclass, field
from typing import Any

from parley.core import control as c
from parley.core import event as e
from parley.core import value as v

RUNNING = "running"
"""Status of a run in a summary until it is idle."""

DELETED = {"code": "session_deleted", "message": "The session was deleted.", "retryable": False}


@dataclass(slots=True)
class Summary:
    """What came of a run, gathered from its events: the answer to `stream: false`, and the `complete` frame."""

    session_id: str
    run_id: str
    status: str = RUNNING
    stop_reason: str | None = None
    usage: v.Usage = v.Usage()
    cost: int = 0
    texts: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None
    pending: tuple[str, ...] = ()
    suspension: str = ""
    approvals: dict[str, str] = field(default_factory=dict)
    """The approvals that were requested, by their calls."""

    def take(self, event: e.Event) -> None:
        """Add one event."""
        match event:
            case e.ModelRequestStart():
                self.texts = []
            case e.AgentMessage():
                self.texts += [block.text for block in event.content]
            case e.ModelRequestEnd():
                self.usage, self.cost = self.usage + event.model_usage, self.cost + (event.cost or 0)
            case c.ApprovalRequested():
                self.approvals[event.tool_use_id] = event.approval_id
            case e.RunClaimed():
                self.status, self.stop_reason, self.pending = RUNNING, None, ()
            case c.SessionSuspended():
                self.suspension = event.id
            case e.StatusIdle() if event.stop_reason.parks:
                pending = event.stop_reason.event_ids or ()
                paused = pending == (self.suspension,)
                self.status = "suspended" if paused else "waiting_approval"
                self.stop_reason = event.stop_reason.type
                self.pending = () if paused else pending
            case _:
                self._end(event)

    def _end(self, event: e.Event) -> None:
        match event:
            case e.RunFinished():
                self.status, self.stop_reason, self.pending = event.status, event.stop_reason, ()
            case e.RunFailed():
                self.status, self.stop_reason, self.pending = "error", "retries_exhausted", ()
                self.error = {"code": event.code, "message": event.message, "retryable": event.retryable}
            case c.RunCancelled():
                self.status, self.stop_reason, self.pending = "interrupted", event.reason, ()
            case e.SessionDeleted():
                self.status, self.error, self.pending = "error", DELETED, ()
            case _:
                pass

    def complete(self) -> dict[str, Any]:
        """Say how the run ended, or what it waits for."""
        told: dict[str, Any] = {
            "session_id": self.session_id,
            "run_id": self.run_id,
            "status": self.status,
            "output": "".join(self.texts),
            "stop_reason": self.stop_reason,
            "usage": self.usage.model_dump(),
            "cost": self.cost,
        }
        if self.pending:
            told["pending_tool_call_ids"] = list(self.pending)
            asked = [self.approvals[call] for call in self.pending if call in self.approvals]
            told |= {"pending_approval_ids": asked} if asked else {}
        if self.error:
            told["error"] = self.error
        return told
