"""Requests, the strict fake as a process, and endpoints that answer with bytes of a test's own."""

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from parley.core.answer import Accumulator, Answer, Piece
from parley.core.errors import ModelError
from parley.core.message import dump
from parley.ports import Model, ModelRequest

ROOT = Path(__file__).parents[2]
QUOTE = {
    "name": "quote",
    "description": "Work out what a payment would cost.",
    "input_schema": {
        "type": "object",
        "properties": {"amount": {"type": "number"}, "to": {"type": "string"}},
        "required": ["amount", "to"],
    },
}

Handler = Callable[[bytes, bytes, asyncio.StreamWriter], Awaitable[None]]


def user(text: str) -> bytes:
    """Write what a person says."""
    return dump({"role": "user", "content": [{"type": "text", "text": text}]})


def request(*messages: str | bytes, **changes: Any) -> ModelRequest:
    """Build a request of a wallet with one tool."""
    asked = ModelRequest(
        model="claude-sonnet-5-5",
        system="You look after a wallet.",
        tools=dump([QUOTE]),
        messages=tuple(user(message) if isinstance(message, str) else message for message in messages),
        max_tokens=16_000,
        thinking_tokens=2_000,
    )
    return replace(asked, **changes)


async def events_of(model: Model, asked: ModelRequest) -> list[dict[str, Any]]:
    """Read every event."""
    async with aclosing(model.stream(asked)) as stream:
        return [event async for event in stream]


async def answer_of(model: Model, asked: ModelRequest) -> tuple[Answer, list[Piece]]:
    """Read an answer the way the engine does."""
    accumulator = Accumulator()
    async with aclosing(model.stream(asked)) as stream:
        pieces = [accumulator.take(event) async for event in stream]
    return accumulator.answer(), [piece for piece in pieces if piece]


async def failure_of(model: Model, asked: ModelRequest) -> ModelError:
    """Read an answer that fails."""
    with pytest.raises(ModelError) as caught:
        await answer_of(model, asked)
    return caught.value


@contextmanager
def fake_anthropic() -> Iterator[str]:
    """Run the strict fake as a process of its own; it also refuses thinking in a changed conversation."""
    command = [sys.executable, "tests/fakes/anthropic_server.py", "--port", "0"]
    command += ["--keep-bodies", "--bind-thinking"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    try:
        yield process.stdout.readline().split()[-1]
    finally:
        process.kill()
        process.communicate()


@asynccontextmanager
async def endpoint(handle: Handler) -> AsyncIterator[str]:
    """Serve HTTP: every request's head and body go to the handler, which writes the whole answer."""
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            await handle(head, body, writer)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def unused_url() -> str:
    """Find an address where nobody listens."""

    async def handle(*_: object) -> None: ...

    async with endpoint(handle) as url:
        return url


def head(status: str, content_type: str = "text/event-stream") -> bytes:
    """Write the head of an answer that ends with its connection."""
    return f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n".encode()


def hello_events() -> list[dict[str, Any]]:
    """Write the events of a short answer."""
    return [
        {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello \u00fc"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]
