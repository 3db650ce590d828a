"""How customers ask: at any server, and again with the same key until they are answered."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from tests.soak.book import Book
from tests.soak.fleet import Fleet
from tests.soak.member import Member

ANSWER_SECONDS = 6.0
STREAM_SECONDS = 15.0
"""Of silence: a server says something every ten."""

LATER = {"session_busy", "run_in_progress", "queue_full"}
"""Codes of 409 that ask to come again."""


class GaveUp(Exception):
    """The time for trying is over."""


@dataclass
class Asking:
    """A customer's HTTP client, for all servers of a fleet."""

    fleet: Fleet
    book: Book
    random: Random
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """From when on nobody tries again."""
    http: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
        self.http = httpx.AsyncClient(timeout=ANSWER_SECONDS, limits=limits)

    async def insist(self, method: str, path: str, key: str | None = None, **request: Any) -> httpx.Response:
        """Ask until the answer is one that will not change.

        Raises:
            GaveUp: there was none in time.
        """
        headers = {"idempotency-key": key} if key else {}
        while True:
            try:
                answer = await self.http.request(method, self.server().url + path, headers=headers, **request)
            except httpx.TransportError:
                await self.again()
                continue
            if not asks_to_come_again(answer):
                self.book.requests += 1
                return answer
            await self.again()

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, headers: dict[str, str], **request: Any
    ) -> AsyncIterator[tuple[Member, httpx.Response]]:
        """Open a stream at one server."""
        server = self.server()
        timeout = httpx.Timeout(ANSWER_SECONDS, read=STREAM_SECONDS)
        async with self.http.stream(method, server.url + path, headers=headers, timeout=timeout, **request) as answer:
            self.book.requests += 1
            yield server, answer

    async def again(self) -> None:
        """Wait a moment before the next try.

        Raises:
            GaveUp: there is none.
        """
        self.book.retries += 1
        await asyncio.sleep(self.random.uniform(0.2, 0.8))
        if self.over.is_set():
            raise GaveUp

    def server(self) -> Member:
        """Choose a server; a customer does not know which are up."""
        return self.random.choice(self.fleet.servers)


def asks_to_come_again(answer: httpx.Response) -> bool:
    """Say whether the same request may be answered otherwise a moment later."""
    if answer.status_code == 409:
        return answer.json().get("code") in LATER
    return answer.status_code >= 500
