"""A queue without a queue: the process that gives the hint follows it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Nudge = Callable[[str, str], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class InlineQueue:
    """Drives the session here, in a task of its own."""

    nudge: Nudge

    async def send(self, tenant: str, session_id: str) -> None:
        """Drive the session's open run, if it needs a driver; what goes wrong is for the next hint."""
        await self.nudge(tenant, session_id)
