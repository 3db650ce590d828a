"""A watcher that keeps every stored event and reconnects behind the last one, for as long as it is asked to."""

import asyncio
from dataclasses import dataclass, field

from parley.core.event import Event

from tests.simulation.client import PAUSE_SECONDS, Client
from tests.simulation.connection import Dropped
from tests.simulation.stream import Stream


@dataclass(slots=True)
class Watcher:
    """Follows one session from behind `after` on."""

    client: Client
    session_id: str
    after: int = 0
    seen: list[Event] = field(default_factory=list)
    """Every stored event, in the order of arrival."""
    wrong: list[str] = field(default_factory=list)
    task: "asyncio.Task[None] | None" = None

    async def watch(self) -> None:
        """Watch until the session is gone."""
        path = f"/v1/sessions/{self.session_id}/events/stream?event_deltas[]=agent.message&after={self.after}"
        while True:
            headers = {"last-event-id": str(self.seen[-1].seq)} if self.seen else {}
            try:
                if await self._connected(path, headers) == 404:
                    return
            except Dropped:
                pass
            await asyncio.sleep(PAUSE_SECONDS)

    async def _connected(self, path: str, headers: dict[str, str]) -> int:
        exchange, server, fault = await self.client.begin("GET", path, None, **headers)
        stream = Stream(wrong=self.wrong)
        try:
            while True:
                self.seen += stream.read(exchange.body)
                if fault in ("cut", "answer lost") and self.seen:
                    raise Dropped
                if exchange.over:
                    return exchange.status
                await exchange.more(server)
        finally:
            exchange.left.set()
