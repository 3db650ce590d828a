"""A lean HTTP client: one connection, one exchange at a time, bytes in and times out.

It must not be what limits a server, so it parses nothing while an answer comes; whether the answer is right is looked
at afterwards, and a wrong one is an error and never a figure.
"""

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import urlsplit

import httptools
import orjson

_TEXT = re.compile(rb'"text":\s*"((?:[^"\\]|\\.)*)"')


class WrongAnswer(Exception):
    """What came is not what should have come; its speed means nothing."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole response; times in seconds of `time.perf_counter`. `first` is when its first delta came."""

    status: int
    body: bytes
    began: float
    first: float
    ended: float
    location: str = ""
    """The header of that name."""

    @property
    def ms(self) -> float:
        """From the request to the end of the answer."""
        return (self.ended - self.began) * 1000

    @property
    def first_ms(self) -> float:
        """From the request to the first delta."""
        return (self.first - self.began) * 1000


@dataclass(frozen=True, slots=True)
class Route:
    """Where turns go and what an answer looks like there."""

    name: str
    url: str
    path: str
    body: Callable[[str], Any]
    """From a message to what is posted."""
    delta: bytes
    """Bytes that only a delta has."""
    end: bytes
    """Bytes that only a whole answer has."""
    headers: dict[str, str] = field(default_factory=dict)

    def request(self, message: str) -> bytes:
        """Write the request of one turn."""
        return post(self.url, self.path, self.body(message), self.headers)


def post(url: str, path: str, body: object, headers: dict[str, str] | None = None) -> bytes:
    """Write a request with JSON."""
    data = orjson.dumps(body)
    lines = [f"{name}: {value}\r\n" for name, value in (headers or {}).items()]
    head = f"POST {path} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\ncontent-type: application/json\r\n"
    return f"{head}{''.join(lines)}content-length: {len(data)}\r\n\r\n".encode() + data


def get(url: str, path: str) -> bytes:
    """Write a request without a body."""
    return f"GET {path} HTTP/1.1\r\nhost: {urlsplit(url).netloc}\r\n\r\n".encode()


class Connection(asyncio.Protocol):
    """One connection that is kept; use it as a context manager."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._transport: asyncio.WriteTransport | None = None
        self._done: asyncio.Future[Answer] | None = None
        self._parts: list[bytes] = []
        self._delta = b""
        self._began = self._first = 0.0
        self._location = ""

    async def __aenter__(self) -> Self:
        """Connect."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: self, self._url.hostname or "", self._url.port or 80)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hang up."""
        if self._transport:
            self._transport.close()

    async def ask(self, request: bytes, delta: bytes = b"") -> Answer:
        """Send a request and wait for the whole answer; `delta` are bytes whose first sight is timed.

        Raises:
            ConnectionError: the server hung up.
        """
        if self._transport is None:
            raise ConnectionResetError("the server hung up")
        self._done = asyncio.get_running_loop().create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._parts, self._delta, self._first, self._location = [], delta, 0.0, ""
        self._began = time.perf_counter()
        self._transport.write(request)
        return await self._done

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's says so by duck

    def connection_lost(self, error: Exception | None) -> None:
        """Tell who waits."""
        self._transport = None
        if self._done and not self._done.done():
            self._done.set_exception(error or ConnectionResetError("the server hung up"))

    def data_received(self, data: bytes) -> None:
        """Time the first delta, then parse."""
        if not self._first and self._delta in data:
            self._first = time.perf_counter()
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the one header that matters."""
        if name.lower() == b"location":
            self._location = value.decode()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        self._parts.append(body)

    def on_message_complete(self) -> None:
        """Hand over the answer."""
        ended = time.perf_counter()
        status, body = self._parser.get_status_code(), b"".join(self._parts)
        answer = Answer(status, body, self._began, self._first or ended, ended, self._location)
        if self._done and not self._done.done():
            self._done.set_result(answer)


async def load(route: Route, messages: list[str], concurrency: int) -> list[Answer]:
    """Send all messages over so many connections, each as soon as one is free; check every answer afterwards."""
    waiting = [route.request(message) for message in reversed(messages)]
    answers: list[Answer] = []

    async def work(connection: Connection) -> None:
        while waiting:
            answers.append(await connection.ask(waiting.pop(), route.delta))

    async with asyncio.TaskGroup() as group:
        for _ in range(min(concurrency, len(messages))):
            group.create_task(_connected(route.url, work))
    return answers


async def _connected(url: str, work: Callable[[Connection], Any]) -> None:
    async with Connection(url) as connection:
        await work(connection)


def text_of(body: bytes) -> str:
    """Join the text of all deltas."""
    return "".join(orjson.loads(b'"%b"' % part) for part in _TEXT.findall(body))


def check(route: Route, answer: Answer, expected: str) -> None:
    """Hold an answer against what the model said.

    Raises:
        WrongAnswer: status, text or end differ.
    """
    said = text_of(answer.body)
    if answer.status != 200 or said != expected or route.end not in answer.body:
        told = answer.body[-500:].decode(errors="replace")
        raise WrongAnswer(f"{route.name}: status {answer.status}, {len(said)} of {len(expected)} characters: …{told}")
