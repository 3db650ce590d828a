"""The bytes of an event stream, split into events: once per event, and nothing is made of it but parsed JSON.

Lines end in LF, CRLF or CR; an event without its blank line is incomplete and dropped. Source: the event
stream format of the HTML standard and `_streaming.py` of the `anthropic` package 2.11, read 2026-11-20.
"""

import json
from collections.abc import Iterator
from typing import Any

import orjson

from parley.core.errors import ModelError


class EventSplitter:
    """Takes bytes however they come; gives the data of every event that is complete."""

    def __init__(self) -> None:
        self._rest = b""

    def take(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of each event that this chunk completes, its lines joined."""
        text, held = self._rest + chunk, b""
        if b"\r" in text:
            if text.endswith(b"\r"):  # perhaps half of a CRLF
                text, held = text[:-1], b"\r"
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *frames, rest = text.split(b"\n\n")
        self._rest = rest + held
        for frame in frames:
            lines = [line[5:].removeprefix(b" ") for line in frame.split(b"\n") if line.startswith(b"data:")]
            if lines:
                yield b"\n".join(lines)


def parse(data: bytes) -> dict[str, Any]:
    """Parse the data of one event.

    Raises:
        ModelError: it is not a JSON object.
    """
    try:
        event = orjson.loads(data)
    except ValueError:
        event = _parse_leniently(data)
    if not isinstance(event, dict):
        raise ModelError("cut_short", "The model's stream holds something that is not an event.")
    return event


def _parse_leniently(data: bytes) -> object:
    """Read what only orjson refuses: half of a surrogate pair, which becomes `?`."""
    try:
        return orjson.loads(json.dumps(json.loads(data), ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise ModelError("cut_short", "The model's stream holds an event that is not JSON.") from error
