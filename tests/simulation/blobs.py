"""The `Blobs` port in memory, and all that can go wrong on the way."""

from parley.core.errors import Unavailable

from tests.fakes.blobs import MemoryBlobs
from tests.simulation.process import Process


class SimulatedBlobs:
    """One process's way to the blobs."""

    def __init__(self, process: Process, kept: MemoryBlobs) -> None:
        self.process = process
        self.kept = kept

    async def put(self, key: str, data: bytes) -> None:
        fault = await self._reach("blob put")
        await self.kept.put(key, data)
        await self.process.leave(fault)
        if fault == "answer lost":
            raise Unavailable("The blobs do not answer.")

    async def get(self, key: str) -> bytes | None:
        fault = await self._reach("blob get")
        data = await self.kept.get(key)
        await self.process.leave(fault)
        return data

    async def delete(self, key: str) -> None:
        fault = await self._reach("blob delete")
        await self.kept.delete(key)
        await self.process.leave(fault)

    async def delete_all(self, prefix: str) -> None:
        fault = await self._reach("blob delete")
        await self.kept.delete_all(prefix)
        await self.process.leave(fault)

    async def _reach(self, port: str) -> str | None:
        fault = await self.process.reach(port, "")
        if fault == "unavailable":
            raise Unavailable("The blobs do not answer.")
        return fault
