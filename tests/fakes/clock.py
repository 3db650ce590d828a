"""A clock that the test owns."""

import asyncio
from datetime import UTC, datetime, timedelta

NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


class VirtualClock:
    """Short sleeps return at once and move the time; longer ones last until the test moves it past their end.

    So retries and polls cost nothing, while a lease is renewed only when the test says that time has passed.
    """

    def __init__(self, start: datetime = NOON, *, skips_seconds: float = 9.0) -> None:
        self.moment = start
        self.skips_seconds = skips_seconds
        self.slept: list[float] = []
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self.moment

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds <= self.skips_seconds:
            self.advance(seconds)
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.moment + timedelta(seconds=seconds), woken))
        await woken

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake who has slept long enough."""
        self.moment += timedelta(seconds=seconds)
        due = [woken for end, woken in self._sleepers if end <= self.moment]
        self._sleepers = [(end, woken) for end, woken in self._sleepers if end > self.moment]
        for woken in due:
            if not woken.done():
                woken.set_result(None)

    def freeze(self) -> None:
        """Let those who wait now never hear of the time again: their process stands still."""
        self._sleepers.clear()

    @property
    def asleep(self) -> int:
        """How many wait for the test to let time pass."""
        return sum(not woken.done() for _, woken in self._sleepers)

    def milliseconds(self) -> int:
        return round(self.moment.timestamp() * 1000)
