"""The `Model` port: answers by what was asked, holds every request to the API's rules, and fails in every way."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from parley.core.compaction import UNTOLD, asks_for_summary
from parley.core.errors import ModelError
from parley.ports import ModelRequest

from tests.build import Block, answer, said
from tests.fakes.model import Raw, refusal_of
from tests.simulation.process import Process

Answers = Mapping[str, Sequence[Sequence[Block]]]
"""By a message's text: the blocks of the first answer to it, of the second, once its calls have results, and so on."""

_FAILURES: dict[str, Callable[[], ModelError]] = {
    "overloaded": lambda: ModelError("overloaded", "Busy."),
    "rate limited": lambda: ModelError("rate_limited", "Slow down.", retry_after_seconds=7),
    "request failed": lambda: ModelError("request_failed", "No answer."),
    "request refused": lambda: ModelError("refused_request", "Not so."),
    "context full": lambda: ModelError("context_full", "The prompt is too long."),
}

_WHOLE = ("crash before", "crash after", "frozen before", "frozen after", "crash midway", "frozen midway")
"""Faults that leave the answer itself whole."""

_ENDINGS = {"refusal": "refusal", "pause": "pause_turn", "unheard-of ending": "a_new_one"}


@dataclass(slots=True)
class Provider:
    """What all processes' models are: one service."""

    answers: Answers
    seconds: float = 0.0
    """How long an answer takes."""
    sent: list[tuple[bytes, ...]] = field(default_factory=list)
    """The messages of every request."""
    refused: list[str] = field(default_factory=list)
    """Requests that the API would have refused."""
    whole: set[str] = field(default_factory=set)
    """The provider's ids of the calls that whole answers asked for."""
    calls: int = 0


class SimulatedModel:
    """One process's way to the provider."""

    def __init__(self, process: Process, provider: Provider) -> None:
        self.process = process
        self.provider = provider

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Raw, None]:
        fault = await self.process.reach("model", "")
        provider = self.provider
        if problem := refusal_of(request):
            provider.refused.append(problem)
            raise ModelError("refused_request", problem)
        if failure := _FAILURES.get(fault or ""):
            raise failure()
        provider.calls += 1
        provider.sent.append(request.messages)
        tokens = (sum(map(len, request.messages)) // 4, 5)
        events = answer(*self._blocks(request), stop_reason=_ENDINGS.get(fault or ""), tokens=tokens)
        half = len(events) // 2
        for n, event in enumerate(_spoilt(events, fault)):
            if n == half:
                await self._midway(fault)
            yield event
        if fault in (None, *_WHOLE):
            provider.whole |= {id for event in events if (id := event.get("content_block", {}).get("id"))}
        await self.process.leave(fault)

    async def _midway(self, fault: str | None) -> None:
        await asyncio.sleep(self.provider.seconds)
        if fault == "crash midway":
            self.process.crash()
        if fault == "frozen midway":
            self.process.freeze()
        await self.process.gate()

    def _blocks(self, request: ModelRequest) -> list[Block]:
        read = list(map(_read, request.messages))
        if asks_for_summary(request.messages[-1]):
            return [said(_SUMMARY.join(map(str, _place(read[:-1] or _excerpts(read[0].text)))))]
        text, answered = _place(read)
        answers = self.provider.answers[text]
        blocks = answers[min(answered, len(answers) - 1)]
        return [_numbered(block, self.provider.calls, n) for n, block in enumerate(blocks)]


_SUMMARY = " was said, and the answers to it are: "
"""What a summary must tell, for the answers to come are chosen by it."""


class _Message(NamedTuple):
    role: str
    text: str


def _place(messages: Sequence[_Message]) -> tuple[str, int]:
    """Find the text that was said last, and how many answers it has had."""
    asked = max(n for n, message in enumerate(messages) if message.role == "user" and message.text)
    answered = sum(message.role == "assistant" for message in messages[asked:])
    text = messages[asked].text
    if UNTOLD in text:  # excerpts in the place of a summary
        text, before = _place(_excerpts(text))
        return text, answered + before
    text, _, told = text.rpartition("\n\n")[2].partition(_SUMMARY)
    return text, answered + int(told or 0)


def _excerpts(text: str) -> list[_Message]:
    """Read the beginnings of messages; a person's are short enough here to be whole."""
    return [_read(each.encode()) for each in text.split("\n\n") if each.startswith('{"role"')]


def _read(message: bytes) -> _Message:
    try:
        parsed = json.loads(message)
    except ValueError:  # its end is missing
        return _Message("assistant", "")
    return _Message(parsed["role"], str(parsed["content"][0].get("text", "")))


def _numbered(block: Block, call: int, n: int) -> Block:
    """Give a call an id of its own."""
    start, *deltas = block
    return [start | ({"id": f"toolu_{call}_{n}"} if start["type"] == "tool_use" else {}), *deltas]


def _spoilt(events: list[Raw], fault: str | None) -> list[Raw]:
    """Do to a whole stream what the fault says."""
    match fault:
        case "error midway":
            error = {"type": "error", "error": {"type": "overloaded_error", "message": "Busy."}}
            return [*events[: len(events) // 2], error]
        case "cut short":
            return events[:-1]
        case "broken input":  # or, when there is no input, the same as the next
            whole = [event for event in events if event.get("delta", {}).get("type") == "input_json_delta"]
            return [event for event in events if event not in whole[-1:]] if whole else events[:-1]
        case "out of tokens":  # the last block is begun and never ended
            ended = {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}
            return [*events[:-3], ended, events[-1]]
        case _:
            return events
