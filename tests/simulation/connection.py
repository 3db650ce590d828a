"""A connection between a client and a server: a request straight into the ASGI app of a process.

Byte for byte what a connection would carry; it ends when the process dies.
"""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI

from tests.simulation.process import Process


class Dropped(Exception):
    """The connection ended before the answer did."""


@dataclass(slots=True)
class Server:
    """A process that answers requests."""

    process: Process
    app: FastAPI


@dataclass(slots=True)
class Exchange:
    """One request and its answer, as far as it has come."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    over: bool = False
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether the client has hung up."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def more(self, server: Server) -> None:
        """Wait until more of the answer is here.

        Raises:
            Dropped: the server is gone.
        """
        self.news.clear()
        news, dead = asyncio.create_task(self.news.wait()), asyncio.create_task(server.process.dead.wait())
        try:
            await asyncio.wait({news, dead}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
            dead.cancel()
        if server.process.dead.is_set() and not self.over:
            raise Dropped

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message.get("body", b"")
            self.over = not message.get("more_body", False)
        self.news.set()


async def answer(
    server: Server, exchange: Exchange, method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    data = b"" if body is None else json.dumps(body).encode()
    route, _, query = path.partition("?")
    sent = {"content-type": "application/json", **headers}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": route,
        "raw_path": route.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in sent.items()],
        "server": ("parley", 80),
        "client": ("client", 1),
    }
    messages = [{"type": "http.request", "body": data, "more_body": False}]

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await exchange.left.wait()
        return {"type": "http.disconnect"}

    await server.app(scope, receive, exchange.send)
