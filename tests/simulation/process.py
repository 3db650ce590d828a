"""What can crash and freeze. Everything a process does to the outside goes through `reach` and `leave`.

A process that has crashed stays where it is for ever: none of its tasks does anything any more, not even tidy up.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from datetime import datetime, timedelta
from random import Random
from typing import Any

from tests.fakes.clock import NOON
from tests.simulation.faults import FROZEN_SECONDS, LATE_SECONDS, SKEW_SECONDS, Faults


class Nature:
    """What all processes of a world share: its faults, its chance, its time; the `Clock` of who only looks."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self.faults = faults
        self.random = Random(seed)
        self.seed = seed
        self.quiet_from = 0.0
        """When the last fault is over."""
        self.nap_seconds = 0.0
        self.ending = False
        """Whether the world ends: then what hangs is let go."""

    @property
    def seconds(self) -> float:
        return asyncio.get_running_loop().time()

    def now(self) -> datetime:
        return NOON + timedelta(milliseconds=round(self.seconds * 1000))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def latency(self) -> float:
        """How long half a round trip takes: always the same without a seed, else chance says who comes first."""
        return 0.001 if self.seed == 0 else self.random.choice((0.0005, 0.001, 0.003, 0.02))

    def troubled_for(self, seconds: float) -> None:
        self.quiet_from = max(self.quiet_from, self.seconds + seconds)


class Process:
    """One process, from its start to its death; who takes its place is another."""

    def __init__(self, nature: Nature, name: str) -> None:
        self.nature = nature
        self.name = name
        self.dead = asyncio.Event()
        self.thawed = asyncio.Event()
        self.thawed.set()
        self.skew = 0.0
        self.away_until = 0.0
        self.tasks: set[asyncio.Task[Any]] = set()
        self.context = copy_context()
        self._stuck: list[asyncio.Future[None]] = []

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Do something in this process."""
        task = asyncio.create_task(work, context=self.context)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def crash(self) -> None:
        self.dead.set()

    def freeze(self, seconds: float = FROZEN_SECONDS) -> None:
        """Stop, and go on after a while as if nothing had been."""
        self.nature.troubled_for(seconds)
        self.thawed.clear()
        asyncio.get_running_loop().call_later(seconds, self.thawed.set)

    async def gate(self) -> None:
        """Wait while frozen; for ever, when dead, or when the world turns without end."""
        await self.thawed.wait()
        if self.dead.is_set() or self.nature.faults.endless:
            if self.nature.ending:
                raise asyncio.CancelledError
            for_ever: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._stuck.append(for_ever)  # whom nobody refers to, Python would end
            await for_ever

    async def reach(self, port: str, place: str) -> str | None:
        """Come to an I/O point; return the fault that the port has to bring about."""
        await self.gate()
        fault = self.nature.faults.strike(port, place)
        if fault:
            self.nature.troubled_for(0)
        match fault:
            case "crash before":
                self.crash()
            case "frozen before":
                self.freeze()
            case "clock ahead":
                self.skew += SKEW_SECONDS
                self.nature.troubled_for(SKEW_SECONDS)
            case _:
                pass
        await asyncio.sleep(self.nature.latency())
        await self.gate()
        return fault

    async def leave(self, fault: str | None) -> None:
        """Come back with the answer."""
        match fault:
            case "crash after":
                self.crash()
            case "frozen after":
                self.freeze()
            case _:
                pass
        await asyncio.sleep(self.nature.latency())
        await self.gate()

    def later(self, do: Callable[[], object], seconds: float = LATE_SECONDS) -> None:
        """Let something reach the outside when nobody waits for it any more, whatever becomes of this process."""
        self.nature.troubled_for(seconds)
        asyncio.get_running_loop().call_later(seconds, do)


class ProcessClock:
    """The `Clock` port: a process's own clock, which may be wrong."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def now(self) -> datetime:
        return self._process.nature.now() + timedelta(seconds=self._process.skew)

    async def sleep(self, seconds: float) -> None:
        """Sleep, and for a nap at least, as on a busy machine: who polls more often mostly sees nothing more."""
        await asyncio.sleep(max(seconds, self._process.nature.nap_seconds) if seconds else 0)
        await self._process.gate()
