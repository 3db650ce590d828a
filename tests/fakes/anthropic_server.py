"""A fake of the Anthropic Messages API: strict about requests, scripted in its answers, quick in benchmarks.

Decides what goes over the wire, when, and what is remembered of it. What is refused is in `anthropic_rules`;
what is answered, and the directives a user text may hold, in `anthropic_script`.

    python tests/fakes/anthropic_server.py --port 0      prints `listening on http://127.0.0.1:PORT`
    with serving(FakeApi()) as base_url: ...             in a thread of this process

    POST /v1/messages        streaming or not; needs x-api-key or a bearer token, and anthropic-version
    GET /_requests           what came in, oldest first; ?bodies=1 with the bodies, if they are kept
    DELETE /_requests        forgets them
    POST /_gates/WORD        lets one delta through, of those that a script holds back
    GET /healthz

Sources: events, errors and usage as in the types of the anthropic package 2.11, read 2026-11-20.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
import threading
import time
from collections import OrderedDict, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import uvicorn

if __name__ == "__main__":  # as a script: let the modules be found by the names they have in the test run
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.fakes import anthropic_rules as rules
from tests.fakes import anthropic_script as script
from tests.fakes.anthropic_rules import Json

Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]

MAX_BODY_BYTES = 32 * 1024 * 1024
MAX_ENTRIES = 10_000
MAX_KEPT_BODY_BYTES = 64 * 1024 * 1024
MAX_CACHED_PREFIXES = 100_000
WRITE_BYTES = 16 * 1024
CACHED_TEXT_CHARS = 4_096
STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
MESSAGES = {
    "429": "This request would exceed the rate limit",
    "500": "Internal server error",
    "529": "Overloaded",
}
UNKNOWN = ("status", "model", "messages", "stream", "stop_reason", "fault", "error")
PING = b'event: ping\ndata: {"type": "ping"}\n\n'


class ApiError(Exception):
    """An answer with an error status."""

    def __init__(self, status: int, kind: str, message: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.headers = status, kind, message, headers or []


class Gone(Exception):
    """The client left, or the script says that the connection drops here."""


class Frame(NamedTuple):
    """Bytes of the stream, the type of delta they hold, and what they wait for before a write of their own."""

    data: bytes
    delta: str = ""
    wait: float | None = None
    gate: str = ""


class Usage(NamedTuple):
    """Input tokens: past the cached prefix, read from the cache, written to it, and the time it is kept."""

    fresh: int
    read: int
    created: int
    ttl: str

    def wire(self, output_tokens: int) -> Json:
        """Write the counts as message_start has them."""
        created = {f"ephemeral_{ttl}_input_tokens": self.created * (ttl == self.ttl) for ttl in ("5m", "1h")}
        return {"input_tokens": self.fresh, "cache_creation_input_tokens": self.created,
                "cache_read_input_tokens": self.read, "cache_creation": created,
                "output_tokens": output_tokens, "service_tier": "standard"}  # fmt: skip


class PromptCache:
    """The prefixes that earlier requests marked."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, bytes], None] = OrderedDict()

    def count(self, request: Json, segments: list[rules.Segment]) -> Usage:
        """Count what is read from the cache, and remember this request's marked prefixes."""
        marked = [place for place, segment in enumerate(segments) if rules.is_marked(segment.block)]
        if request.get("cache_control"):
            marked.append(len(segments) - 1)
        end = marked[-1] + 1 if marked else 0
        keys = [(request["model"], segment.digest) for segment in segments[:end]]
        known = max((place + 1 for place, key in enumerate(keys) if key in self._seen), default=0)
        totals = [sum(segment.tokens for segment in segments[:stop]) for stop in (known, end, len(segments))]
        for place in marked:
            self._seen[keys[place]] = None
        while len(self._seen) > MAX_CACHED_PREFIXES:
            self._seen.popitem(last=False)
        ttl = (segments[marked[-1]].block.get("cache_control") or {}).get("ttl", "5m") if marked else "5m"
        return Usage(totals[2] - totals[1], totals[0], totals[1] - totals[0], ttl)


class Ledger:
    """The newest 10,000 requests of this process; bodies only if asked for, and at most 64 MB of them."""

    def __init__(self, *, keep_bodies: bool) -> None:
        self._entries: deque[Json] = deque(maxlen=MAX_ENTRIES)
        self._bodies: OrderedDict[int, bytes] = OrderedDict()
        self._body_bytes = 0
        self._keep_bodies = keep_bodies
        self._number = 0

    def open(self) -> Json:
        """Begin the entry of a request that has just come in."""
        self._number += 1
        entry: Json = {"number": self._number, "at": time.time(), "outcome": "open", **dict.fromkeys(UNKNOWN)}
        self._entries.append(entry)
        return entry

    def keep(self, entry: Json, body: bytes) -> None:
        """Keep a body, and forget the oldest ones beyond the limit."""
        if self._keep_bodies:
            self._bodies[entry["number"]] = body
            self._body_bytes += len(body)
        while self._body_bytes > MAX_KEPT_BODY_BYTES or len(self._bodies) > MAX_ENTRIES:
            self._body_bytes -= len(self._bodies.popitem(last=False)[1])

    def dump(self, *, bodies: bool) -> bytes:
        """Write the entries as a JSON list."""
        if not bodies:
            return json.dumps(list(self._entries)).encode()
        return json.dumps([{**entry, "body": self._body(entry)} for entry in self._entries]).encode()

    def _body(self, entry: Json) -> object:
        try:
            return rules.parse(self._bodies[entry["number"]])
        except (KeyError, rules.Refused):
            return None

    def clear(self) -> None:
        """Forget all entries."""
        self._entries.clear()
        self._bodies.clear()
        self._body_bytes = 0


class FakeApi:
    """The ASGI application."""

    def __init__(
        self, *, keep_bodies: bool = False, fresh_ids: bool = False, bind_thinking: bool = False, window: int = 0
    ) -> None:
        self.ledger = Ledger(keep_bodies=keep_bodies)
        self._cache = PromptCache()
        self._failed: OrderedDict[tuple[str | bytes, str], int] = OrderedDict()
        self._gates: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(0))
        self._fresh_ids = fresh_ids
        self._bind_thinking = bind_thinking
        self._window = window

    async def __call__(self, scope: Event, receive: Receive, send: Send) -> None:
        """Route one request."""
        if scope["type"] != "http":
            return
        match scope["method"], scope["path"]:
            case "POST", "/v1/messages":
                await self._messages(scope, receive, send)
            case "GET", "/_requests":
                await _respond(send, 200, self.ledger.dump(bodies=b"bodies=1" in scope["query_string"]))
            case "DELETE", "/_requests":
                self.ledger.clear()
                await _respond(send, 204, b"")
            case "POST", path if path.startswith("/_gates/"):
                self._gates[path.removeprefix("/_gates/")].release()
                await _respond(send, 204, b"")
            case "GET", "/healthz":
                await _respond(send, 200, b'{"status": "ok"}')
            case method, path:
                known = path in ("/v1/messages", "/_requests", "/healthz")
                error = ApiError(405 if known else 404, "not_found_error", f"not found: {method} {path}")
                await _refuse(send, error, _request_id())

    async def _messages(self, scope: Event, receive: Receive, send: Send) -> None:
        entry, request_id = self.ledger.open(), _request_id()
        try:
            request = await self._accept(scope, receive, entry)
            await self._answer(request, entry, request_id, receive, send)
            entry["outcome"] = "sent"
        except ApiError as error:
            entry.update(status=error.status, outcome="refused", error=error.message)
            await _refuse(send, error, request_id)
        except Gone as gone:
            entry["outcome"] = str(gone)

    async def _accept(self, scope: Event, receive: Receive, entry: Json) -> Json:
        headers = dict(scope["headers"])
        body = await _body(receive)
        self.ledger.keep(entry, body)
        if not headers.get(b"x-api-key") and not headers.get(b"authorization", b"").lower().startswith(b"bearer "):
            raise ApiError(401, "authentication_error", "x-api-key header is required")
        version = headers.get(b"anthropic-version", b"").decode("latin-1")
        if version not in rules.VERSIONS:
            raise ApiError(400, "invalid_request_error", f"anthropic-version: {version or 'header is required'!r}")
        try:
            request = rules.parse(body)
        except rules.Refused as refused:
            raise ApiError(400, "invalid_request_error", str(refused)) from refused
        if isinstance(request, dict):
            messages = request.get("messages")
            entry.update(model=request.get("model"), stream=request.get("stream", False),
                         messages=len(messages) if isinstance(messages, list) else None)  # fmt: skip
        if problem := rules.first_problem(request, version=version, bound=self._bind_thinking):
            raise ApiError(400, "invalid_request_error", problem)
        assert isinstance(request, dict)
        return request

    async def _answer(self, request: Json, entry: Json, request_id: str, receive: Receive, send: Send) -> None:
        segments = list(rules.segments(request))
        tokens = sum(segment.tokens for segment in segments)
        if 0 < self._window < tokens:
            told = f"prompt is too long: {tokens} tokens > {self._window} maximum"
            raise ApiError(400, "invalid_request_error", told)
        try:
            turn = script.read(request, segments[-1].digest)
            fault = self._due(turn)
            reply = script.answer(turn, fault, os.urandom(8) if self._fresh_ids else b"")
        except script.Unscripted as slip:
            raise ApiError(400, "invalid_request_error", f"fake model: {slip}") from slip
        entry["fault"] = fault.kind if fault else None
        if fault and fault.kind in script.STATUSES:
            raise _scripted_error(fault.kind, fault.retry_after)
        if fault and fault.kind == "hang" and fault.after is None:
            await _wait(receive, float(fault.value))
        usage = self._cache.count(request, segments)
        entry.update(status=200, stop_reason=reply.stop_reason)
        headers = [(b"request-id", request_id.encode())]
        if not request.get("stream"):
            await _send_whole(send, reply, usage, fault, headers)
            return
        await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS + headers})
        frames, drops = broken(frames_of(reply, usage), fault, request_id)
        await self._send_frames(frames, receive, send, drops=drops)

    async def _send_frames(self, frames: list[Frame], receive: Receive, send: Send, *, drops: bool) -> None:
        """Write frames, many at once unless one must wait or stand alone; then end the body, or do not."""
        ready = bytearray()
        for frame in frames:
            if ready and (frame.wait is not None or frame.gate or len(ready) >= WRITE_BYTES):
                await send({"type": "http.response.body", "body": bytes(ready), "more_body": True})
                ready.clear()
            if frame.wait:
                await _wait(receive, frame.wait)
            if frame.gate:
                await _stand(receive, self._gates[frame.gate])
            ready += frame.data
        await send({"type": "http.response.body", "body": bytes(ready), "more_body": drops})
        if drops:
            raise Gone("dropped")

    def _due(self, turn: script.Turn) -> script.Fault | None:
        """Choose the first fault of the step that has not failed often enough yet, and count it."""
        for fault in turn.step.faults:
            counted = (fault.key or turn.digest, fault.place)
            failed = self._failed.get(counted, 0)
            if fault.times is None or failed < fault.times:
                self._failed[counted] = failed + 1
                if len(self._failed) > MAX_ENTRIES:
                    self._failed.popitem(last=False)
                return fault
        return None


def frames_of(reply: script.Reply, usage: Usage) -> list[Frame]:
    """Write a message as the frames of a stream, one event in each."""
    frames = [_event("message_start", message=_message(reply, usage, started=True))]
    for index, block in enumerate(reply.blocks):
        frames.append(_event("content_block_start", index=index, content_block=block.start()))
        frames += [] if index else [Frame(PING)]
        if block.kind == "text" and len(block.text) <= CACHED_TEXT_CHARS:
            frames += _cached_deltas(index, block)
        else:
            frames += _deltas(index, block)
        frames.append(_event("content_block_stop", index=index))
    delta = {"stop_reason": reply.stop_reason, "stop_sequence": reply.stop_sequence, **_stop_details(reply)}
    counts = usage.wire(reply.output_tokens())
    del counts["cache_creation"], counts["service_tier"]
    counts["output_tokens_details"] = {"thinking_tokens": reply.output_tokens("thinking")}
    return [*frames, _event("message_delta", delta=delta, usage=counts), _event("message_stop")]


def _event(name: str, **fields: object) -> Frame:
    return Frame(f"event: {name}\ndata: {json.dumps({'type': name, **fields}, ensure_ascii=False)}\n\n".encode())


def _deltas(index: int, block: script.Block) -> list[Frame]:
    head = f'event: content_block_delta\ndata: {{"type":"content_block_delta","index":{index},"delta":{{"type":'
    return [
        Frame(
            f'{head}"{kind}","{name}":{json.dumps(piece, ensure_ascii=False)}}}}}\n\n'.encode(),
            kind,
            block.delay,
            block.gate,
        )
        for kind, name, piece in block.deltas()
    ]


_cached_deltas = lru_cache(maxsize=256)(_deltas)


def _message(reply: script.Reply, usage: Usage, *, started: bool) -> Json:
    """Write the message object, empty as message_start has it or whole."""
    return {
        "id": reply.id, "type": "message", "role": "assistant", "model": reply.model,
        "content": [] if started else [block.whole() for block in reply.blocks],
        "stop_reason": None if started else reply.stop_reason,
        "stop_sequence": None if started else reply.stop_sequence,
        **({"stop_details": None} if started else _stop_details(reply)),
        "usage": usage.wire(1 if started else reply.output_tokens()),
    }  # fmt: skip


def _stop_details(reply: script.Reply) -> Json:
    refusal = {"type": "refusal", "category": None, "explanation": None}
    return {"stop_details": refusal if reply.stop_reason == "refusal" else None}


def broken(frames: list[Frame], fault: script.Fault | None, request_id: str) -> tuple[list[Frame], bool]:
    """Apply a fault of the connection: the frames that are sent, and whether the connection then drops."""
    if fault is None or fault.kind not in ("cut", "cut_tool", "error_event", "hang"):
        return frames, False
    places = [place for place, frame in enumerate(frames)
              if frame.delta and (fault.kind != "cut_tool" or frame.delta == "input_json_delta")]  # fmt: skip
    after = len(places) // 2 if fault.after is None else fault.after
    end = places[after] if after < len(places) else len(frames) - 1
    match fault.kind:
        case "hang":
            pause = [Frame(b"", wait=float(fault.value))] if fault.after is not None else []
            return [*frames[:end], *pause, *frames[end:]], False
        case "error_event":
            kind = fault.value or "overloaded_error"
            error = {"error": {"type": kind, "message": "The scripted error"}, "request_id": request_id}
            return [*frames[:end], _event("error", **error)], False
        case _:
            return frames[:end], True


async def _send_whole(
    send: Send,
    reply: script.Reply,
    usage: Usage,
    fault: script.Fault | None,
    headers: list[tuple[bytes, bytes]],
) -> None:
    """Write a message that is not streamed; a cut sends half of it."""
    if fault and fault.kind == "error_event":
        raise _scripted_error(next((key for key, kind in script.STATUSES.items() if kind == fault.value), "529"))
    body = json.dumps(_message(reply, usage, started=False), ensure_ascii=False).encode()
    if not fault or not fault.kind.startswith("cut"):
        await _respond(send, 200, body, headers)
        return
    headers = [*headers, (b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    raise Gone("dropped")


async def _wait(receive: Receive, seconds: float) -> None:
    """Sleep, but not longer than the client stays."""
    try:
        async with asyncio.timeout(seconds):
            await receive()
    except TimeoutError:
        return
    raise Gone("client left")


async def _stand(receive: Receive, gate: asyncio.Semaphore) -> None:
    """Wait to be let through, but not longer than the client stays."""
    left, let = asyncio.ensure_future(receive()), asyncio.ensure_future(gate.acquire())
    done, waiting = await asyncio.wait({left, let}, return_when=asyncio.FIRST_COMPLETED)
    for each in waiting:
        each.cancel()
    if left in done:
        raise Gone("client left")


async def _body(receive: Receive) -> bytes:
    """Read the whole body; one that is too large is read to its end but not kept."""
    parts: list[bytes] = []
    size, more = 0, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise Gone("client left")
        size += len(event.get("body", b""))
        parts = [*parts, event.get("body", b"")] if size <= MAX_BODY_BYTES else []
        more = event.get("more_body", False)
    if size > MAX_BODY_BYTES:
        raise ApiError(413, "request_too_large", "Request exceeds the maximum size")
    return b"".join(parts)


def _scripted_error(status: str, retry_after: str = "") -> ApiError:
    headers = [(b"retry-after", retry_after.encode())] if retry_after else []
    return ApiError(int(status), script.STATUSES[status], MESSAGES.get(status, "The scripted error"), headers)


async def _refuse(send: Send, error: ApiError, request_id: str) -> None:
    body = {
        "type": "error",
        "error": {"type": error.kind, "message": error.message},
        "request_id": request_id,
    }
    await _respond(
        send, error.status, json.dumps(body).encode(), [(b"request-id", request_id.encode()), *error.headers]
    )


async def _respond(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    fixed = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": fixed + (headers or [])})
    await send({"type": "http.response.body", "body": body})


def _request_id() -> str:
    return f"req_{os.urandom(12).hex()}"


def _listen(app: FakeApi, host: str, port: int) -> tuple[uvicorn.Server, socket.socket, str]:
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, proto)  # with proto named, asyncio sets TCP_NODELAY; else 40 ms stalls
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(2048)
    config = uvicorn.Config(
        app, log_level="critical", access_log=False, lifespan="off", ws="none", server_header=False,
        date_header=False, timeout_keep_alive=75, timeout_graceful_shutdown=1,
    )  # fmt: skip
    return uvicorn.Server(config), listener, f"http://{host}:{listener.getsockname()[1]}"


@contextmanager
def serving(app: FakeApi, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve in a thread for as long as the block runs, and give the base URL."""
    server, listener, base_url = _listen(app, host, port)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        yield base_url
    finally:
        server.should_exit = True
        thread.join()


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description="A strict, scripted fake of the Anthropic Messages API.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8200, help="0 picks a free one (default: 8200)")
    parser.add_argument("--keep-bodies", action="store_true", help="let GET /_requests?bodies=1 show bodies")
    parser.add_argument("--fresh-ids", action="store_true", help="new message and tool ids for a repeated request")
    parser.add_argument("--bind-thinking", action="store_true", help="refuse thinking after a changed prefix")
    parser.add_argument("--window", type=int, default=0, help="refuse prompts of more tokens (default: 0, none)")
    options = vars(parser.parse_args())
    host, port = options.pop("host"), options.pop("port")
    server, listener, base_url = _listen(FakeApi(**options), host, port)
    print(f"listening on {base_url}", flush=True)
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
