"""A queue without a queue: the process that gives the hint follows it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Resume = Callable[[str, str], Awaitable["asyncio.Task[None] | None"]]


@dataclass(frozen=True, slots=True)
class InlineQueue:
    """Drives the session here; with `wait` until its run is idle: a Lambda is frozen once it has answered."""

    resume: Resume
    wait: bool = False

    async def send(self, tenant: str, session_id: str) -> None:
        """Drive the session's open run, if it needs a driver."""
        task = await self.resume(tenant, session_id)
        if task and self.wait:
            await asyncio.wait([task])
