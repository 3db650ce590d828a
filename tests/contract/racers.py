"""What many workers do to one table at once. As a program, `racers.py <file> <worker>`: the same in a process."""

import asyncio
import sys
from pathlib import Path

from parley.adapters.sqlite import SqliteTable
from parley.adapters.system import SystemClock
from parley.ports import Absent, ConditionFailed, Key, Match, Put, Table, Update

COUNTER = Key("race", "counter")
TWIN = Key("race", "twin")
SLOTS = 25
ROUNDS = 10


async def count(table: Table, rounds: int = ROUNDS) -> None:
    """Read, add one and write back under the condition that nobody else has."""
    while rounds:
        item = await table.get(COUNTER)
        n = item["n"] if item else None
        try:
            await table.write(Update(COUNTER, set={"n": (n or 0) + 1}, condition=Match({"n": n}) if item else Absent()))
        except ConditionFailed:
            continue
        rounds -= 1


async def count_twice(table: Table, rounds: int = ROUNDS) -> None:
    """Raise two counters by one together, if the first is where it was."""
    while rounds:
        item = await table.get(COUNTER)
        n = item["n"] if item else None
        here = Match({"n": n}) if item else Absent()
        try:
            await table.write(Update(TWIN, add={"n": 1}), Update(COUNTER, add={"n": 1}, condition=here))
        except ConditionFailed:
            continue
        rounds -= 1


async def take_slots(table: Table, worker: str) -> list[int]:
    """Put the own name into every slot that is free; return those that were."""
    taken = []
    for slot in range(SLOTS):
        try:
            await table.write(Put({"PK": "slots", "SK": f"{slot:03}", "worker": worker}, Absent()))
        except ConditionFailed:
            continue
        taken.append(slot)
    return taken


async def append_until_killed(table: Table) -> None:
    """Append one small entry after the other; say of each, once it is acknowledged."""
    n = 0
    while True:
        await table.write(Put({"PK": "log", "SK": f"{n:06}", "body": b"x" * 500}, Absent()))
        print(n, flush=True)
        n += 1


async def main(path: Path, worker: str) -> None:
    """Race as one of several processes."""
    async with SqliteTable(path, SystemClock()) as table:
        if worker == "victim":
            await append_until_killed(table)
        await asyncio.gather(count(table), count(table), count_twice(table))
        print(*await take_slots(table, worker))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
