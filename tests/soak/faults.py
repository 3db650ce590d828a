"""Who is killed or frozen, and when: all of it drawn from the seed. What the processes make of it is their own affair.

At most one of a role is out of order at a time, if there are two: who is to take over must be there.
"""

import asyncio
import time
from dataclasses import dataclass, field
from random import Random

from tests.soak.fleet import LEASE_SECONDS, RESTART_PAUSE_SECONDS, Fleet
from tests.soak.member import Member

PAUSES = {"sqlite": (0.3, 3.0), "dynamodb": (0.3, 2.0)}
"""Seconds between two faults, from and to."""

CALM_SECONDS = {"sqlite": 0.0, "dynamodb": 3.0}
"""After a thaw, in which a process is not frozen again: a person asks the ledger when what was thawed has acted."""


@dataclass
class Attacker:
    """Kills and freezes until told to stop; what it has begun then, it mends."""

    fleet: Fleet
    random: Random
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    hurt: set[str] = field(default_factory=set)
    """Names of those that a fault is being done to."""

    async def attack(self) -> None:
        """Do faults until stopped, then wait until all are up again."""
        async with asyncio.TaskGroup() as mending:
            while not await self._pause(self.random.uniform(*PAUSES[self.fleet.kind])):
                victims = [member for member in self.fleet.members if self._may_be_hit(member)]
                if not victims:
                    continue
                victim = self.random.choice(victims)
                freezes = self.random.random() < (0.4 if self.fleet.kind == "dynamodb" else 0.1)
                calm = time.time() - victim.disturbed_at > CALM_SECONDS[self.fleet.kind]
                self.hurt.add(victim.name)
                mending.create_task(self._hurt(victim, freezes=freezes and calm))

    def _may_be_hit(self, member: Member) -> bool:
        of_its_role = [each for each in self.fleet.members if each.role == member.role]
        return all(each.state == "up" and each.name not in self.hurt for each in of_its_role)

    async def _hurt(self, member: Member, *, freezes: bool) -> None:
        await (self._freeze(member) if freezes else self._kill(member))
        self.hurt.discard(member.name)

    async def _kill(self, member: Member) -> None:
        member.kill()
        await self._pause(self.random.uniform(0, RESTART_PAUSE_SECONDS))
        if self.random.random() < 0.15 and not self.stopped.is_set():  # again, while it starts and recovers
            begun = asyncio.create_task(member.start())
            await self._pause(self.random.uniform(0.2, 1.5))
            member.kill()
            await begun
        await member.start()

    async def _freeze(self, member: Member) -> None:
        seconds = self.random.choice([self.random.uniform(0.2, 1.5), LEASE_SECONDS + self.random.uniform(2.5, 5)])
        dies = self.random.random() < 0.2
        member.freeze()
        await self._pause(seconds)
        if dies:
            await self._kill(member)
        else:
            member.thaw()

    async def _pause(self, seconds: float) -> bool:
        """Sleep, but not longer than the attack lasts; say whether it is over."""
        try:
            async with asyncio.timeout(seconds):
                await self.stopped.wait()
        except TimeoutError:
            return False
        return True
