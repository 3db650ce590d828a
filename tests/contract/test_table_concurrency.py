"""No update is lost and no slot has two owners: tasks, threads and processes at once. Never on moto, which fails."""

import asyncio
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
from parley.adapters.dynamodb import DynamoTable
from parley.adapters.sqlite import SqliteTable
from parley.core import control as c
from parley.ports import Absent, ConditionFailed, Key, Put, Table, Update
from parley.store import Ref, SlotTaken, Store
from parley.store.keys import allowance

from tests import build
from tests.contract import backends, racers
from tests.contract.backends import ManualClock
from tests.contract.racers import COUNTER, ROUNDS, SLOTS, TWIN
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.ids import CountingIds

pytestmark = pytest.mark.anyio

HANDLES = 4


@pytest.fixture(params=["sqlite", *backends.installed_emulators()])
async def tables(
    request: pytest.FixtureRequest, clock: ManualClock, endpoint: Callable[[str], str], tmp_path: Path
) -> AsyncIterator[list[Table]]:
    """Open one table several times; on SQLite each has its own connections and its own writer."""
    opened: list[SqliteTable | DynamoTable] = []
    if request.param == "sqlite":
        opened += [SqliteTable(tmp_path / "table.db", clock) for _ in range(HANDLES)]
    else:
        name, client = f"race-{uuid.uuid4().hex}", partial(backends.dynamodb_client, endpoint(request.param))
        dynamo = [DynamoTable(name, clock, client) for _ in range(HANDLES)]
        await dynamo[0].create_table_if_missing()
        opened += dynamo
    yield list(opened)
    for table in opened:
        await table.close()


async def number(table: Table, key: Key) -> int:
    """Return what a counter stands at."""
    item = await table.get(key)
    assert item is not None
    return int(item["n"])


def run_together(commands: list[list[str]]) -> list[str]:
    """Run processes at the same time; return what each printed, if all of them ended well."""
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    printed = [process.communicate(timeout=50)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(commands)
    return printed


def kill_while_printing(command: list[str]) -> list[int]:
    """Let a process print some numbers, kill it, and return all that it printed."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        printed = [int(process.stdout.readline()) for _ in range(50)]
        process.kill()
        return printed + [int(line) for line in process.stdout if line.endswith("\n")]


async def test_no_update_is_lost(tables: list[Table]) -> None:
    await asyncio.gather(*(racers.count(table) for table in tables * 2))

    assert await number(tables[0], COUNTER) == HANDLES * 2 * ROUNDS


async def test_no_half_of_a_transaction_is_lost(tables: list[Table]) -> None:
    await asyncio.gather(*(racers.count_twice(table) for table in tables * 2))

    assert await number(tables[0], COUNTER) == HANDLES * 2 * ROUNDS
    assert await number(tables[0], TWIN) == HANDLES * 2 * ROUNDS


async def test_each_slot_has_one_owner(tables: list[Table]) -> None:
    taken = await asyncio.gather(*(racers.take_slots(table, str(n)) for n, table in enumerate(tables * 2)))

    stored = (await tables[0].query("slots")).items
    assert sorted(slot for slots in taken for slot in slots) == list(range(SLOTS))
    assert [int(item["worker"]) for item in stored] == [
        next(n for n, slots in enumerate(taken) if slot in slots) for slot in range(SLOTS)
    ]


async def test_a_read_sees_what_was_acknowledged_to_anybody(tables: list[Table]) -> None:
    one, other, *_ = tables

    for n in range(20):
        await one.write(Put({"PK": "P", "SK": "a", "n": n}))
        assert await other.get(Key("P", "a")) == {"PK": "P", "SK": "a", "n": n}
        assert len((await other.query("P")).items) == 1


async def test_a_refused_write_leaves_those_beside_it_alone(tables: list[Table]) -> None:
    table = tables[0]
    await table.write(Put({"PK": "P", "SK": "taken"}))

    writes = [table.write(Put({"PK": "P", "SK": f"{n:02}"}), Put({"PK": "P", "SK": "x", "n": n})) for n in range(20)]
    refused = [
        table.write(Update(Key("P", "y"), add={"n": 1}), Put({"PK": "P", "SK": "taken"}, Absent())) for _ in range(20)
    ]
    outcomes = await asyncio.gather(
        *(w for pair in zip(writes, refused, strict=True) for w in pair), return_exceptions=True
    )

    assert outcomes[::2] == [None] * 20
    assert all(isinstance(outcome, ConditionFailed) for outcome in outcomes[1::2])
    assert len((await table.query("P")).items) == 22
    assert await table.get(Key("P", "y")) is None


async def test_no_more_of_a_day_is_set_aside_than_there_is(tables: list[Table]) -> None:
    async def drive(n: int, table: Table) -> bool:
        store = Store.over(table, MemoryBlobs(), ManualClock(), CountingIds())
        ref = Ref("acme", f"sesn_{n}")
        claim = await store.claims.begin(ref, build.agent(), "Hi", new=build.head(ref))
        start.release()
        await all_have_begun.wait()
        try:
            reserved = build.event(c.BudgetReserved, amount=100, day=day, cap=200)
            await store.drives.append(claim, claim.session, [reserved])
        except SlotTaken:
            [reached] = await store.log.tail(ref, claim.session.seq)
            assert isinstance(reached, c.BudgetReached)
            assert (reached.scope, reached.spent) == ("agent", 200)
            return False
        return True

    day = ManualClock().now().date().isoformat()
    start, all_have_begun = asyncio.Semaphore(0), asyncio.Event()
    drivers = [asyncio.create_task(drive(n, table)) for n, table in enumerate(tables)]
    for _ in drivers:
        await start.acquire()
    all_have_begun.set()
    began = await asyncio.gather(*drivers)

    counter = await tables[0].get(allowance("acme", "bank", day))
    assert sum(began) == 2
    assert counter is not None
    assert counter["spent"] == 200


async def test_threads_with_event_loops_of_their_own_may_share_a_file(tmp_path: Path, clock: ManualClock) -> None:
    table = SqliteTable(tmp_path / "table.db", clock)
    threads = [
        threading.Thread(target=lambda: asyncio.run(racers.count(table)), name=f"racer {n}") for n in range(HANDLES)
    ]

    for thread in threads:
        thread.start()
    await racers.count(table)
    for thread in threads:
        await asyncio.to_thread(thread.join)

    assert await number(table, COUNTER) == (HANDLES + 1) * ROUNDS
    await table.close()


async def test_processes_may_share_a_file(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "table.db"
    command = [sys.executable, racers.__file__, str(path)]

    printed = await asyncio.to_thread(run_together, [[*command, str(n)] for n in range(HANDLES)])

    assert sorted(int(slot) for text in printed for slot in text.split()) == list(range(SLOTS))
    async with SqliteTable(path, clock) as table:
        assert await number(table, COUNTER) == HANDLES * 3 * ROUNDS
        assert await number(table, TWIN) == HANDLES * ROUNDS


async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "table.db"
    command = [sys.executable, racers.__file__, str(path), "victim"]
    acknowledged = await asyncio.to_thread(kill_while_printing, command)

    async with SqliteTable(path, clock) as table:
        stored = [int(item["SK"]) for item in (await table.query("log")).items]

    assert stored[: len(acknowledged)] == acknowledged
    assert len(stored) <= len(acknowledged) + 1
