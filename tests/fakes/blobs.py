"""Blobs in memory."""

from collections.abc import Awaitable, Callable

from parley.core.errors import Unavailable


class MemoryBlobs:
    """A dictionary; tests look into `kept`, and break it."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.broken = False
        self.stuck = False
        """Whether nothing can be removed."""
        self.before_next_get: Callable[[], Awaitable[object]] | None = None

    async def put(self, key: str, data: bytes) -> None:
        if self.broken:
            raise Unavailable("The blobs are away.")
        self.kept[key] = data

    async def get(self, key: str) -> bytes | None:
        hook, self.before_next_get = self.before_next_get, None
        if hook:
            await hook()
        return self.kept.get(key)

    async def delete(self, key: str) -> None:
        if self.broken or self.stuck:
            raise Unavailable("The blobs are away.")
        self.kept.pop(key, None)

    async def delete_all(self, prefix: str) -> None:
        if self.broken or self.stuck:
            raise Unavailable("The blobs are away.")
        self.kept = {key: data for key, data in self.kept.items() if not key.startswith(prefix)}
