"""The `Clock` and `Ids` ports on the machine's own clock and randomness."""

import asyncio
from datetime import UTC, datetime

from ulid import ULID


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the current time: aware, UTC, whole milliseconds."""
        moment = datetime.now(UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000)

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class UlidIds:
    """ULIDs of `python-ulid` (MIT, last release 2026-10-27): 48 bits of time, 80 random bits; 3 µs each."""

    def new(self, prefix: str) -> str:
        """Return `prefix_` and a new ULID."""
        return f"{prefix}_{ULID()}"
