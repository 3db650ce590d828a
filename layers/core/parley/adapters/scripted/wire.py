"""A reply in the stream events of the Messages API: message, blocks, deltas, stop reason and usage.

Source: the raw stream events of the `anthropic` package 2.11, read 2026-11-20.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any

from parley.adapters.scripted.reply import Reply
from parley.ports import ModelRequest

MODEL = "scripted"
"""What the log says of who has answered."""

MIN_THINKING_TOKENS = 1024
JSON_PIECE_CHARS = 12
CHARS_PER_TOKEN = 4
IMAGE_TOKENS = 1600
"""What an image of a megapixel costs, however many bytes it has."""

_IMAGE_DATA = re.compile(rb'"data":"([A-Za-z0-9+/=]+)"\}\}')

Event = dict[str, Any]
Delta = dict[str, str]


def events(reply: Reply, request: ModelRequest) -> Iterator[Event]:
    """Write a reply; its ids are made from the request, so they are new in every conversation."""
    digest = hashlib.sha256(b"".join(request.messages)).hexdigest()
    usage = {"input_tokens": _read_tokens(request), "output_tokens": 1}
    message = {"id": f"msg_{digest[:24]}", "type": "message", "role": "assistant", "model": MODEL}
    empty: Event = {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    yield {"type": "message_start", "message": message | empty}
    said_chars = 0
    for index, (start, deltas) in enumerate(_blocks(reply, request, digest)):
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            said_chars += sum(map(len, delta.values())) - len(delta["type"])
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    stop = {"stop_reason": "tool_use" if reply.calls else "end_turn", "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": {"output_tokens": _tokens(said_chars)}}
    yield {"type": "message_stop"}


def _blocks(reply: Reply, request: ModelRequest, digest: str) -> Iterator[tuple[Event, list[Delta]]]:
    if MIN_THINKING_TOKENS <= request.thinking_tokens < request.max_tokens:
        seal = hashlib.sha256(f"{digest}.{reply.thinking}".encode()).digest()
        thinking = [{"type": "thinking_delta", "thinking": piece} for piece in _words(reply.thinking)]
        signature = {"type": "signature_delta", "signature": base64.b64encode(seal).decode()}
        yield {"type": "thinking", "thinking": "", "signature": ""}, [*thinking, signature]
    if reply.text:
        text = [{"type": "text_delta", "text": piece} for piece in _words(reply.text)]
        yield {"type": "text", "text": ""}, text
    for place, call in enumerate(reply.calls):
        number = hashlib.sha256(f"{digest}.{place}".encode()).hexdigest()[:24]
        start = {"type": "tool_use", "id": f"toolu_{number}", "name": call.name, "input": {}}
        pieces = ["", *_pieces(json.dumps(call.arguments, ensure_ascii=False))]
        yield start, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+\s*", text)


def _pieces(text: str) -> list[str]:
    return [text[place : place + JSON_PIECE_CHARS] for place in range(0, len(text), JSON_PIECE_CHARS)]


def _read_tokens(request: ModelRequest) -> int:
    chars, images = len(request.system) + len(request.tools), 0
    for message in request.messages:
        data = _IMAGE_DATA.findall(message)
        chars, images = chars + len(message) - sum(map(len, data)), images + len(data)
    return _tokens(chars) + IMAGE_TOKENS * images


def _tokens(chars: int) -> int:
    return chars // CHARS_PER_TOKEN + 1
