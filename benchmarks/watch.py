"""A watcher at another server: how long after the driver's own client it sees an event or a piece of text.

Two servers share nothing but a DynamoDB that an emulator plays. A stored event counts from the moment that it bears; a
piece of text from when the client of the server that drives has it, so that the model's own pace is not in the figure.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import orjson

from benchmarks import emulator, servers
from benchmarks.client import Connection, WrongAnswer, post
from benchmarks.report import Figure, Target, percentile, say

SESSIONS, RUNS = 4, 3
DELTAS, SECONDS_APART = 60, 0.04
TALK = f'[[tool lookup {{"key": "a"}}]] [[then]] [[text {DELTAS}x8 delay={SECONDS_APART}]]'
LETTERS = 8 * DELTAS
GROUP = "a watcher at another server"
TARGET = Target(500)


@dataclass(slots=True)
class Sight:
    """What one client saw of one session."""

    events: dict[int, tuple[dict[str, Any], float]] = field(default_factory=dict)
    """By `seq`, with the moment."""
    letters: list[float] = field(default_factory=list)
    """The moment of every letter, in their order."""


async def measure() -> list[Figure]:
    """Let one server drive and the other watch."""
    say(f"{SESSIONS} sessions of {RUNS} runs, driven at one server and watched at another")
    try:
        with emulator.running() as endpoint, servers.model() as model, servers.data_folder() as folder:
            shared = {
                "PARLEY_STORE": "dynamodb",
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_REGION": "eu-central-1",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
            }
            one = servers.parley(model.url, folder / "one", **shared)
            two = servers.parley(model.url, folder / "two", **shared)
            with one as driving, two as watching:
                return await _measure(driving.url, watching.url)
    except emulator.NoEmulator as error:
        say(f"skipped: {error}")
        return []


async def _measure(driving: str, watching: str) -> list[Figure]:
    found = await asyncio.gather(*(_session(driving, watching) for _ in range(SESSIONS)))
    events = [late for session in found for late in session[0]]
    letters = [late for session in found for late in session[1]]
    return [
        Figure(GROUP, "stored event, p50", percentile(events, 50), "ms"),
        Figure(GROUP, "stored event, p95", percentile(events, 95), "ms", TARGET),
        Figure(GROUP, "text, p50", percentile(letters, 50), "ms"),
        Figure(GROUP, "text, p95", percentile(letters, 95), "ms", TARGET),
    ]


async def _session(driving: str, watching: str) -> tuple[list[float], list[float]]:
    """Run messages one after the other; return how late, in milliseconds, each event and each letter was."""
    async with Connection(driving) as connection:
        made = await connection.ask(post(driving, "/v1/sessions", {"agent": "bench"}))
        path = f"/v1/sessions/{orjson.loads(made.body)['id']}/events"
        here, there = Sight(), Sight()
        ready = asyncio.Event()
        query = "?event_deltas%5B%5D=agent.message"
        watched = asyncio.create_task(_watch(watching, f"{path}/stream{query}", there, ready.set))
        await ready.wait()
        for _ in range(RUNS):
            body = {"input": TALK, "session_id": path.split("/")[3]}
            await _read(driving, "/v1/agents/bench/execute?vocab=native", here, body)
            await asyncio.sleep(0.3)
        await watched
    if list(there.events) != list(here.events) or not len(there.letters) == len(here.letters) == RUNS * LETTERS:
        raise WrongAnswer(f"{path}: the watcher saw something else than the driver's client")
    events = [(at - _made(event)) * 1000 for event, at in there.events.values() if _counts(event)]
    return events, [(late - early) * 1000 for early, late in zip(here.letters, there.letters, strict=True)]


def _counts(event: dict[str, Any]) -> bool:
    return bool(event["type"] != "span.model_request_start")  # it is stored with its end


def _made(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["created_at"]).timestamp()


async def _watch(url: str, path: str, into: Sight, ready: Callable[[], None]) -> None:
    """Follow a session until its last run has ended."""
    idle = 0
    async for name in _frames(url, f"GET {path} HTTP/1.1", b"", into, ready):
        idle += name == "session.status_idle"
        if idle == RUNS:
            return


async def _read(url: str, path: str, into: Sight, body: dict[str, Any]) -> None:
    """Execute, and read to the end of the stream."""
    async for name in _frames(url, f"POST {path} HTTP/1.1", orjson.dumps(body), into):
        if name == "session.status_idle":
            return


async def _frames(
    url: str, request: str, body: bytes, into: Sight, ready: Callable[[], None] = lambda: None
) -> AsyncIterator[str]:
    """Ask on a connection of its own and yield the names of frames, each noted with its moment."""
    address = urlsplit(url)
    async with AsyncExitStack() as stack:
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        stack.callback(writer.close)
        head = f"{request}\r\nhost: {address.netloc}\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        seq, name = None, ""
        while line := await reader.readline():
            field_name, _, value = line.decode().rstrip().partition(": ")
            match field_name:
                case "retry":
                    ready()
                case "id":
                    seq = int(value)
                case "event":
                    name = value
                case "data":
                    _note(into, seq, orjson.loads(value))
                    seq = None
                    yield name
                case _:  # the status line, headers, sizes of chunks
                    pass


def _note(into: Sight, seq: int | None, data: dict[str, Any]) -> None:
    now = time.time()
    if seq is not None:
        into.events[seq] = (data, now)
    elif data["type"] == "event_delta":
        into.letters += [now] * len(data["delta"]["content"]["text"])
