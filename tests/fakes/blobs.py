"""Blobs in memory."""

from collections.abc import Awaitable, Callable

from parley.core.errors import Unavailable


class MemoryBlobs:
    """A dictionary; tests look into `kept`, and break it."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.puts: list[tuple[str, int]] = []
        """Key and bytes of every put."""
        self.gets: list[str] = []
        self.broken = False
        self.room: int | None = None
        """How many more can be stored."""
        self.stuck = False
        """Whether nothing can be removed."""
        self.before_next_get: Callable[[], Awaitable[object]] | None = None

    async def put(self, key: str, data: bytes) -> None:
        if self.broken or self.room == 0:
            raise Unavailable("The blobs are away.")
        self.room = None if self.room is None else self.room - 1
        self.kept[key] = data
        self.puts.append((key, len(data)))

    async def get(self, key: str) -> bytes | None:
        hook, self.before_next_get = self.before_next_get, None
        if hook:
            await hook()
        self.gets.append(key)
        return self.kept.get(key)

    async def delete(self, key: str) -> None:
        if self.broken or self.stuck:
            raise Unavailable("The blobs are away.")
        self.kept.pop(key, None)

    async def delete_all(self, prefix: str) -> None:
        if self.broken or self.stuck:
            raise Unavailable("The blobs are away.")
        self.kept = {key: data for key, data in self.kept.items() if not key.startswith(prefix)}
