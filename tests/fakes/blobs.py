"""Blobs in memory."""

from parley.core.errors import Unavailable


class MemoryBlobs:
    """A dictionary; tests look into `kept`, and break it."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.broken = False

    async def put(self, key: str, data: bytes) -> None:
        if self.broken:
            raise Unavailable("The blobs are away.")
        self.kept[key] = data

    async def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    async def delete(self, key: str) -> None:
        self.kept.pop(key, None)
