"""One process of an arrangement: started, killed, frozen, thawed, and started again."""

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

from tests.soak.life import Role, begin

START_SECONDS = 60.0
READY = b" is ready"
"""Is in the line that a process writes when it does its work."""


@dataclass
class Fault:
    """What was done to one life of a process; a process that is killed while it is frozen had one fault."""

    life: str
    kind: Literal["kill", "freeze"]
    at: float
    until: float | None = None
    """When it was thawed or killed."""


@dataclass
class Member:
    """A process that has many lives."""

    role: Role
    name: str
    environment: Mapping[str, str]
    folder: Path
    """Where the output of every life is kept."""
    url: str = ""
    lives: int = 0
    state: Literal["down", "starting", "up", "frozen"] = "down"
    disturbed_at: float = 0.0
    """When it was last started or thawed."""
    born: list[float] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    slowest_start: float = 0.0
    """In seconds."""
    process: BaseProcess | None = None

    @property
    def life(self) -> str:
        """Name the present life."""
        return f"{self.name}.{self.lives:03d}"

    @property
    def output(self) -> Path:
        """The file that the present life writes to."""
        return self.folder / f"{self.life}.log"

    @property
    def died(self) -> bool:
        """Say whether it has ended although nobody has ended it."""
        return self.state != "down" and self.process is not None and not self.process.is_alive()

    async def start(self) -> None:
        """Begin a new life and wait until it does its work, or is killed."""
        self.lives += 1
        self.state = "starting"
        self.born.append(time.time())
        self.output.touch()
        self.process = begin(self.role, self.environment, self.output)
        life, end = self.life, time.monotonic() + START_SECONDS
        while self.life == life and self.state == "starting" and not self._ready():
            if self.died or time.monotonic() > end:
                raise RuntimeError(f"{life} did not start: see {self.output}\n{self.output.read_text()[-2000:]}")
            await asyncio.sleep(0.05)
        if self.life == life and self.state == "starting":
            self.state, self.disturbed_at = "up", time.time()
            self.slowest_start = max(self.slowest_start, self.disturbed_at - self.born[-1])

    def _ready(self) -> bool:
        return READY in self.output.read_bytes()

    def kill(self) -> None:
        """End this life the hard way."""
        at = time.time()
        if self.state == "frozen":
            self.faults[-1].until = at
        else:
            self.faults.append(Fault(self.life, "kill", at, at))
        self._end()

    def freeze(self) -> None:
        """Stop it where it is."""
        self.faults.append(Fault(self.life, "freeze", time.time()))
        self.state = "frozen"
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on as if nothing had been."""
        self._signal(signal.SIGCONT)
        self.faults[-1].until = self.disturbed_at = time.time()
        self.state = "up"

    def end(self) -> None:
        """End it, whatever state it is in, without counting it."""
        if self.process is not None and self.state != "down":
            self._end()

    def _end(self) -> None:
        self.state = "down"
        self._signal(signal.SIGKILL)
        assert self.process is not None
        self.process.join()

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        assert self.process.pid is not None
        os.kill(self.process.pid, number)
