"""The strict accumulator: raw stream events of a model in, deltas and one whole answer out.

Half an answer is never acted on: without `message_stop` there is no answer, a tool's input must be complete JSON, and
calls count only when the model stopped in order to make them. (The SDK's own accumulator is lenient on all three:
`anthropic` 2.11, read 2026-11-20.) Shapes: raw message stream events of the same package.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from parley.core.errors import ModelError, ModelFailure
from parley.core.limits import MAX_BLOCKS_PER_ANSWER
from parley.core.value import Usage

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
        """Everything so far, fit to be stored as UTF-8."""
        return "".join(self.parts).encode("utf-8", "replace").decode()

    @property
    def input(self) -> dict[str, Any]:
        """The call's arguments.

        Raises:
            ModelError: they are not one complete JSON object.
        """
        try:
            value = json.loads(self.text or "{}", parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise _broken(f"the input of tool '{self.name}' is not complete JSON") from error
        if not isinstance(value, dict):
            raise _broken(f"the input of tool '{self.name}' is not an object")
        return value


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


class Accumulator:
    """Takes raw events one by one; `answer` is whole after `message_stop`."""

    def __init__(self) -> None:
        self._blocks: dict[int, Draft] = {}
        self._usage: dict[str, int] = {}
        self._stop_reason: str | None = None
        self._stopped = False

    def take(self, event: dict[str, Any]) -> Piece | None:
        """Add one event; return the piece that a listener may see.

        Raises:
            ModelError: the stream carries an error or contradicts itself.
        """
        match event.get("type"):
            case "content_block_delta":
                return self._delta(event["index"], event["delta"])
            case "content_block_start":
                return self._start(event["index"], event["content_block"])
            case "content_block_stop":
                self._block(event["index"]).done = True
            case "message_start":
                self._count(event["message"].get("usage") or {})
            case "message_delta":
                self._stop_reason = event["delta"].get("stop_reason") or self._stop_reason
                self._count(event.get("usage") or {})
            case "message_stop":
                self._stopped = True
            case "error":
                error = event.get("error") or {}
                failure = _FAILURES.get(error.get("type", ""), "request_failed")
                raise ModelError(failure, str(error.get("message") or "the model's stream reported an error"))
            case _:  # pings, and what later versions of the API add
                pass
        return None

    def answer(self) -> Answer:
        """Return the whole answer.

        Raises:
            ModelError: it is not whole.
        """
        blocks = tuple(self._blocks[index] for index in sorted(self._blocks))
        if not self._stopped or self._stop_reason is None:
            raise _broken("the model's answer was cut short")
        if self._stop_reason != "tool_use":
            blocks = tuple(block for block in blocks if block.kind != "agent.tool_use")
        blocks = tuple(block for block in blocks if block.kind != "agent.message" or block.text.strip())
        if any(not block.done for block in blocks) and self._stop_reason != "max_tokens":
            raise _broken("the model's answer has an unfinished block")
        if len(blocks) > MAX_BLOCKS_PER_ANSWER:
            raise _broken(f"the model's answer has more than {MAX_BLOCKS_PER_ANSWER} blocks")
        for block in blocks:
            if block.kind == "agent.tool_use":
                _ = block.input
        return Answer(blocks, self._stop_reason, Usage.model_validate(self._usage))

    def _start(self, index: int, content: dict[str, Any]) -> Piece | None:
        kind = _DRAFTS.get(content.get("type", ""))
        if kind is None or index in self._blocks:
            raise _broken(f"the model sent a block that Parley does not know: '{content.get('type')}'")
        draft = Draft(index, kind, name=content.get("name", ""), provider_id=content.get("id", ""))
        draft.redacted = content.get("data")
        draft.parts.append(content.get("text") or content.get("thinking") or "")
        self._blocks[index] = draft
        return Piece(index, kind, draft.parts[0])

    def _delta(self, index: int, delta: dict[str, Any]) -> Piece | None:
        draft = self._block(index)
        match delta.get("type"):
            case "text_delta":
                text = delta["text"]
            case "thinking_delta":
                text = delta["thinking"]
            case "input_json_delta":
                draft.parts.append(delta["partial_json"])
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


def _broken(message: str) -> ModelError:
    return ModelError("cut_short", message)


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
