"""What a run says, in the words that the client asked for.

`simple`: `text`, `thinking`, `tool_call`, `tool_result`, `complete`, `error` … for curl and EventSource.
`native`: the stored events themselves, and `event_start` / `event_delta` of the Managed Agents API for drafts.
A stored event becomes at most one frame, with its `seq` as id; a draft becomes frames without id.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import orjson

from parley.api.sse import frame, frame_of
from parley.api.summary import DELETED, Summary
from parley.core import control as c
from parley.core import event as e
from parley.core.delta import DraftDiscarded, DraftGrew, DraftStarted, Kind, Output, Rotated
from parley.core.value import rfc3339

Vocabulary = Literal["simple", "native"]


class Speaker(Protocol):
    """Turns outputs of one run into frames, for one connection."""

    def say(self, output: Output) -> bytes:
        """Return the frame, or nothing."""
        ...


def speaker(vocabulary: Vocabulary, session_id: str, run_id: str) -> Speaker:
    """Make the speaker of a vocabulary."""
    return Native() if vocabulary == "native" else Simple(session_id, run_id)


@dataclass(frozen=True, slots=True)
class Native:
    """Events as they are stored.

    `previews` are the types whose drafts are told, as the Managed Agents API has it: messages in pieces, thinking by
    its start only, and what is discarded by the end of its model request. Without it every draft is told in full.
    """

    previews: frozenset[Kind] | None = None

    def say(self, output: Output) -> bytes:
        """Return the frame, or nothing for a draft that was not asked for."""
        if self.previews is not None and isinstance(output, DraftStarted | DraftGrew | DraftDiscarded):
            return self._preview(output, self.previews)
        return self._frame(output)

    def _preview(self, draft: DraftStarted | DraftGrew | DraftDiscarded, previews: frozenset[Kind]) -> bytes:
        if isinstance(draft, DraftDiscarded) or draft.kind not in previews:
            return b""
        told = isinstance(draft, DraftStarted) or draft.kind == "agent.message"
        return self._frame(draft) if told else b""

    def _frame(self, output: Output) -> bytes:
        match output:
            case DraftStarted():
                return frame(
                    "event_start",
                    {"type": "event_start", "event": {"id": output.event_id, "type": output.kind}},
                )
            case DraftGrew():
                key = "text" if output.kind == "agent.message" else "thinking"
                content = {"type": key, key: output.text}
                delta = {"type": "content_delta", "index": 0, "content": content}
                return frame("event_delta", {"type": "event_delta", "event_id": output.event_id, "delta": delta})
            case DraftDiscarded():
                return frame("draft.discarded", {"type": "draft.discarded", "event_id": output.event_id})
            case Rotated():
                return rotate(output)
            case _:
                return frame_of(output.type, e.to_json(output, with_seq=True), output.seq)


def rotate(output: Rotated) -> bytes:
    """Write the frame that ends a stream by plan; never an error, which some clients would raise."""
    told = {"type": "stream.rotate", "after": output.after, "reason": output.reason}
    return frame("stream.rotate", told)


@dataclass(slots=True)
class Simple:
    """Few words, of one run after another; the whole text of a message is sent once, in pieces or at the end."""

    session_id: str
    run_id: str
    summary: Summary = field(init=False)
    streamed: set[str] = field(default_factory=set)
    """Ids of the drafts whose text went over this connection."""
    whose: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Prepare what every frame carries."""
        self._turn_to(self.run_id)

    def take(self, event: e.Event) -> None:
        """Let an event count for what `complete` will say, without a word."""
        if event.run_id and event.run_id != self.run_id:
            self._turn_to(event.run_id)
        self.summary.take(event)

    def _turn_to(self, run_id: str) -> None:
        self.run_id = run_id
        self.summary = Summary(self.session_id, run_id)
        self.whose = orjson.dumps({"session_id": self.session_id, "run_id": self.run_id})[1:]

    def say(self, output: Output) -> bytes:
        """Return the frame, or nothing for what this vocabulary has no word for."""
        match output:
            case DraftStarted():
                return b""
            case DraftGrew():
                self.streamed.add(output.event_id)
                return self._piece(output)
            case DraftDiscarded():
                self.streamed.discard(output.event_id)
                return self._frame("draft_discarded", {"message_id": output.event_id})
            case Rotated():
                return rotate(output)
            case _:
                self.take(output)
                said = self._word(output)
                return self._frame(said[0], said[1], output.seq) if said else b""

    def _piece(self, draft: DraftGrew) -> bytes:
        """The hot path: one frame for every delta, without building a dictionary."""
        name = "text" if draft.kind == "agent.message" else "thinking"
        text = orjson.dumps(draft.text)
        data = b'{"text":%b,"message_id":"%b",%b' % (text, draft.event_id.encode(), self.whose)
        return frame_of(name, data)

    def _frame(self, name: str, data: dict[str, Any], seq: int | None = None) -> bytes:
        return frame(name, data | {"session_id": self.session_id, "run_id": self.run_id}, seq)

    def _word(self, event: e.Event) -> tuple[str, dict[str, Any]] | None:
        match event:
            case e.AgentMessage():
                return "text", self._final(event.id, "".join(block.text for block in event.content))
            case e.AgentThinking():
                return "thinking", self._final(event.id, event.thinking)
            case e.AgentToolUse():
                return "tool_call", {"id": event.id, "name": event.name, "input": event.input}
            case e.AgentToolResult():
                output = "".join(block.text for block in event.content)
                known = {"id": event.tool_use_id, "name": event.name}
                return "tool_result", known | {"output": output, "is_error": event.is_error}
            case e.ToolOutcomeUnknown():
                return "outcome_unknown", {"id": event.tool_use_id}
            case e.RunFinished() | c.RunCancelled():
                return "complete", self.summary.complete()
            case e.StatusIdle() if event.stop_reason.parks:
                return "complete", self.summary.complete()
            case _:
                return _asked(event) or _trouble(event)

    def _final(self, event_id: str, text: str) -> dict[str, Any]:
        text = "" if event_id in self.streamed else text
        return {"text": text, "final": True, "message_id": event_id}


def _asked(event: e.Event) -> tuple[str, dict[str, Any]] | None:
    match event:
        case c.PlanProposed():
            calls = [{"id": call.tool_use_id, "name": call.name, "input": call.input} for call in event.calls]
            return "plan", {"plan_id": event.plan_id, "calls": calls}
        case c.ApprovalRequested():
            known: dict[str, Any] = {"approval_id": event.approval_id, "tool_call_id": event.tool_use_id}
            ends = rfc3339(event.expires_at) if event.expires_at else None
            return "approval_required", known | {"name": event.name, "input": event.input, "expires_at": ends}
        case c.ApprovalDecided() | c.ApprovalExpired():
            word = event.decision if isinstance(event, c.ApprovalDecided) else "expired"
            known = {"approval_id": event.approval_id, "tool_call_id": event.tool_use_id}
            return "approval_decided", known | {"decision": word}
        case _:
            return None


def _trouble(event: e.Event) -> tuple[str, dict[str, Any]] | None:
    match event:
        case e.SessionError():
            return "error", error_of(event.error.code, event.error.message, event.error.retry_status.type)
        case e.SessionDeleted():
            return "error", DELETED
        case e.RunFailed():
            return "error", {"code": event.code, "message": event.message, "retryable": event.retryable}
        case _:
            return None


def error_of(code: str, message: str, retry_status: str) -> dict[str, Any]:
    """Describe a failed model call; `retrying` means that the run goes on by itself."""
    return {
        "code": code,
        "message": message,
        "retryable": retry_status != "terminal",
        "retrying": retry_status == "retrying",
    }
