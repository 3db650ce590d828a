"""The strict accumulator: raw stream events of a model in, deltas and one whole answer out.

Half an answer is never acted on: without `message_stop` there is no answer, a tool's input must be complete JSON, and
calls count only when the model stopped in order to make them. (The SDK's own accumulator is lenient on all three:
`anthropic` 2.11, read 2026-11-20.) Of an answer that a person has stopped, words are kept and calls are not. Nor is an
answer whole that the model has paused: to go on, a request would have to end with it, and newer models refuse that.
Shapes: raw message stream events of the same package.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from parley.core.arguments import arguments
from parley.core.errors import ModelError, ModelFailure, refusal
from parley.core.limits import MAX_BLOCKS_PER_ANSWER
from parley.core.value import Usage

INTERRUPTED = "interrupted"
"""Stop reason of an answer that was cut off because the run was stopped; no provider gives it."""

DraftKind = Literal["agent.message", "agent.thinking", "agent.tool_use"]

_DRAFTS: dict[str, DraftKind] = {
    "text": "agent.message",
    "thinking": "agent.thinking",
    "redacted_thinking": "agent.thinking",
    "tool_use": "agent.tool_use",
}

_FAILURES: dict[str, ModelFailure] = {
    "overloaded_error": "overloaded",
    "rate_limit_error": "rate_limited",
    "invalid_request_error": "refused_request",
}


@dataclass(slots=True)
class Draft:
    """One block on its way; `key` is its index in the answer."""

    key: int
    kind: DraftKind
    parts: list[str] = field(default_factory=list)
    name: str = ""
    provider_id: str = ""
    signature: str | None = None
    redacted: str | None = None
    done: bool = False

    @property
    def text(self) -> str:
        """Everything so far."""
        return "".join(self.parts)

    @property
    def input(self) -> dict[str, Any]:
        """The call's arguments.

        Raises:
            ModelError: they are not one complete JSON object.
        """
        try:
            value = json.loads("".join(self.parts) or "{}")
        except (ValueError, RecursionError) as error:
            raise _broken(f"the input of tool '{self.name}' is not complete JSON") from error
        try:
            return arguments(value)
        except ValueError as error:
            raise _broken(f"the input of tool '{self.name}' cannot be used: {error}") from error

    @property
    def whole(self) -> bool:
        """Whether it can be stored and sent back: ended, signed if it is thinking, named if it is a call."""
        match self.kind:
            case "agent.message":
                return self.done and bool(self.text.strip())
            case "agent.thinking":
                return self.done and bool(self.signature or self.redacted)
            case "agent.tool_use":
                return self.done and bool(self.name and self.provider_id)

    @property
    def says(self) -> bool:
        """Whether it is kept when its answer is over: whole, or text of which only the end is missing."""
        return self.whole or (self.kind == "agent.message" and bool(self.text.strip()))


@dataclass(frozen=True, slots=True)
class Piece:
    """A passing piece of a block; empty text announces the block."""

    key: int
    kind: DraftKind
    text: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: what was begun, was ended."""

    blocks: tuple[Draft, ...]
    stop_reason: str
    usage: Usage
    model: str = ""
    """Which model says that it answered."""


class Accumulator:
    """Takes raw events one by one; `answer` is whole after `message_stop`."""

    def __init__(self) -> None:
        self._blocks: dict[int, Draft] = {}
        self._usage: dict[str, int] = {}
        self._stop_reason: str | None = None
        self._model = ""
        self._stopped = False

    def take(self, event: dict[str, Any]) -> Piece | None:
        """Add one event; return the piece that a listener may see.

        Raises:
            ModelError: the stream carries an error or contradicts itself.
        """
        try:
            return self._take(event)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise _broken("the model's stream has an event that makes no sense") from error

    @property
    def usage(self) -> Usage:
        """What was used so far, as far as the stream has told."""
        return Usage.model_validate(self._usage)

    def answer(self) -> Answer:
        """Return the whole answer.

        Raises:
            ModelError: it is not whole.
        """
        if not self._stopped or self._stop_reason is None:
            raise _broken("the model's answer was cut short")
        if self._stop_reason == "pause_turn":
            raise _broken("the model paused for a tool of its provider's, and Parley offers none")
        blocks = [self._blocks[index] for index in sorted(self._blocks)]
        if self._stop_reason != "tool_use":
            blocks = [block for block in blocks if block.kind != "agent.tool_use"]
        if any(not block.done for block in blocks) and self._stop_reason != "max_tokens":
            raise _broken("the model's answer has an unfinished block")
        if any(block.kind == "agent.tool_use" and not (block.whole and block.input is not None) for block in blocks):
            raise _broken("the model asked for a call without saying which")
        kept = tuple(block for block in blocks if block.says)
        if len(kept) > MAX_BLOCKS_PER_ANSWER:
            raise _broken(f"the model's answer has more than {MAX_BLOCKS_PER_ANSWER} blocks")
        return Answer(kept, self._stop_reason, self.usage, self._model)

    def interrupted(self, *, words: bool = True) -> Answer:
        """Return what is kept of an answer that was stopped: whole blocks and the text so far, but no calls.

        Without `words`, what it has cost is all that is kept.
        """
        blocks = [self._blocks[index] for index in sorted(self._blocks)] if words else []
        kept = [block for block in blocks if block.says and block.kind != "agent.tool_use"]
        return Answer(tuple(kept[:MAX_BLOCKS_PER_ANSWER]), INTERRUPTED, self.usage, self._model)

    def _take(self, event: dict[str, Any]) -> Piece | None:
        match event.get("type"):
            case "content_block_delta":
                return self._delta(event["index"], event["delta"])
            case "content_block_start":
                return self._start(event["index"], event["content_block"])
            case "content_block_stop":
                self._block(event["index"]).done = True
            case "message_start":
                self._model = str(event["message"].get("model") or "")
                self._count(event["message"].get("usage") or {})
            case "message_delta":
                self._stop_reason = event["delta"].get("stop_reason") or self._stop_reason
                self._count(event.get("usage") or {})
            case "message_stop":
                self._stopped = True
            case "error":
                raise _reported(event.get("error") or {})
            case _:  # pings, and what later versions of the API add
                pass
        return None

    def _start(self, index: int, content: dict[str, Any]) -> Piece | None:
        kind = _DRAFTS.get(content.get("type", ""))
        if kind is None or index in self._blocks:
            raise _broken(f"the model sent a block that Parley does not know: '{content.get('type')}'")
        draft = Draft(index, kind, name=content.get("name", ""), provider_id=content.get("id", ""))
        draft.redacted = content.get("data")
        draft.signature = content.get("signature") or None
        draft.parts.append(_clean(content.get("text") or content.get("thinking") or ""))
        self._blocks[index] = draft
        return Piece(index, kind, draft.parts[0])

    def _delta(self, index: int, delta: dict[str, Any]) -> Piece | None:
        draft = self._block(index)
        match delta.get("type"):
            case "text_delta":
                text = _clean(delta["text"])
            case "thinking_delta":
                text = _clean(delta["thinking"])
            case "input_json_delta":
                draft.parts.append("" + delta["partial_json"])
                return None
            case "signature_delta":
                draft.signature = (draft.signature or "") + delta["signature"]
                return None
            case _:
                return None
        draft.parts.append(text)
        return Piece(index, draft.kind, text) if text else None

    def _block(self, index: int) -> Draft:
        draft = self._blocks.get(index)
        if draft is None or draft.done:
            raise _broken("the model's stream contradicts itself")
        return draft

    def _count(self, usage: dict[str, Any]) -> None:
        for name in Usage.model_fields:
            if isinstance(usage.get(name), int):
                self._usage[name] = usage[name]


def _reported(error: dict[str, Any]) -> ModelError:
    message = str(error.get("message") or "the model's stream reported an error")
    failure = _FAILURES.get(error.get("type", ""), "request_failed")
    return ModelError(refusal(message) if failure == "refused_request" else failure, message)


def _broken(message: str) -> ModelError:
    return ModelError("cut_short", message)


def _clean(text: str) -> str:
    """Replace halves of characters, which cannot be stored."""
    return text.encode("utf-8", "replace").decode()
