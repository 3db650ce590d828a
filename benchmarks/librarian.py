"""One conversation of 11 KB a turn: a message, a tool's call and result, an answer; all of it prose."""

from collections.abc import AsyncGenerator, Iterator
from typing import Any

import orjson
from parley.core.compaction import asks_for_summary
from parley.ports import ModelRequest

from benchmarks.agent import TOOL_OUTPUT_CHARS
from benchmarks.prose import Prose

SUMMARY_CHARS = 4_000
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
    """A `Model` in this process: asks its tool once, then answers; it also summarises. Four bytes are a token."""

    def __init__(self, number: int) -> None:
        self._number = number

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Event, None]:
        """Yield the raw stream events."""
        yield _started(sum(map(len, request.messages)) // 4)
        last = orjson.loads(request.messages[-1])
        searched = any(block["type"] == "tool_result" for block in last["content"])
        if asks_for_summary(request.messages[-1]):
            events = _says(Prose(f"summary {self._number}").text(SUMMARY_CHARS))
        else:
            events = _says(answer(self._number)) if searched else self._asks()
        for event in events:
            yield event

    def _asks(self) -> Iterator[Event]:
        prose = Prose(f"query {self._number}")
        arguments = orjson.dumps({"query": prose.text(QUERY_CHARS)}).decode()
        call = {"type": "tool_use", "id": f"toolu_01{self._number:020d}", "name": "search", "input": {}}
        yield from _block(0, {"type": "text", "text": ""}, "text_delta", "text", prose.text(THOUGHT_CHARS))
        yield from _block(1, call, "input_json_delta", "partial_json", arguments)
        yield from _ended("tool_use", 250)


def _says(text: str) -> Iterator[Event]:
    yield from _block(0, {"type": "text", "text": ""}, "text_delta", "text", text)
    yield from _ended("end_turn", len(text) // 4)


def _started(tokens: int) -> Event:
    usage = {"input_tokens": tokens - tokens * 8 // 9, "output_tokens": 1, "cache_read_input_tokens": tokens * 8 // 9}
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
