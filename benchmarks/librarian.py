"""One conversation of 11 KB a turn: a message, a tool's call and result, an answer; all of it prose."""

from collections.abc import AsyncGenerator, Iterator
from typing import Any

import orjson
from parley.ports import ModelRequest

from benchmarks.agent import TOOL_OUTPUT_CHARS
from benchmarks.prose import Prose

MESSAGE_CHARS, THOUGHT_CHARS, QUERY_CHARS, ANSWER_CHARS = 1_000, 300, 700, 5_000
TURN_CHARS = MESSAGE_CHARS + THOUGHT_CHARS + QUERY_CHARS + TOOL_OUTPUT_CHARS + ANSWER_CHARS
DELTA_CHARS = 20

Event = dict[str, Any]


def message(number: int) -> str:
    """Write what the person says in a turn."""
    return Prose(f"message {number}").text(MESSAGE_CHARS)


def answer(number: int) -> str:
    """Write what the model says at the end of a turn."""
    return Prose(f"answer {number}").text(ANSWER_CHARS)


class Librarian:
    """A `Model` in this process: asks its tool once, then answers."""

    def __init__(self, number: int) -> None:
        self._number = number

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Event, None]:
        """Yield the raw stream events."""
        last = orjson.loads(request.messages[-1])
        searched = any(block["type"] == "tool_result" for block in last["content"])
        for event in self._answered() if searched else self._asks():
            yield event

    def _asks(self) -> Iterator[Event]:
        prose = Prose(f"query {self._number}")
        arguments = orjson.dumps({"query": prose.text(QUERY_CHARS)}).decode()
        call = {"type": "tool_use", "id": f"toolu_01{self._number:020d}", "name": "search", "input": {}}
        yield _started(1000 + 30 * self._number)
        yield from _block(0, {"type": "text", "text": ""}, "text_delta", "text", prose.text(THOUGHT_CHARS))
        yield from _block(1, call, "input_json_delta", "partial_json", arguments)
        yield from _ended("tool_use", 250)

    def _answered(self) -> Iterator[Event]:
        yield _started(2000 + 30 * self._number)
        yield from _block(0, {"type": "text", "text": ""}, "text_delta", "text", answer(self._number))
        yield from _ended("end_turn", 1250)


def _started(tokens: int) -> Event:
    usage = {"input_tokens": tokens, "output_tokens": 1, "cache_read_input_tokens": tokens * 8}
    return {"type": "message_start", "message": {"id": "msg_01", "usage": usage}}


def _block(index: int, start: Event, kind: str, name: str, text: str) -> Iterator[Event]:
    yield {"type": "content_block_start", "index": index, "content_block": start}
    for place in range(0, len(text), DELTA_CHARS):
        delta = {"type": kind, name: text[place : place + DELTA_CHARS]}
        yield {"type": "content_block_delta", "index": index, "delta": delta}
    yield {"type": "content_block_stop", "index": index}


def _ended(reason: str, tokens: int) -> Iterator[Event]:
    yield {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": tokens}}
    yield {"type": "message_stop"}
