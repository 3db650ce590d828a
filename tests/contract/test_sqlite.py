"""What only the file has: sharing, closing, sweeping, and a disk that says no."""

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from parley.adapters.sqlite import SqliteTable
from parley.adapters.sqlite.rows import SIZE, to_row
from parley.adapters.sqlite.writer import Writer
from parley.core.errors import Unavailable
from parley.ports import Key, Match, Put, Update, WriteUncertain

from tests.contract.backends import ManualClock

pytestmark = pytest.mark.anyio

FULL_DISK = """
import asyncio, resource, sys
from pathlib import Path
from parley.adapters.sqlite import SqliteTable
from parley.adapters.system import SystemClock
from parley.core.errors import Unavailable
from parley.ports import Key, Put, WriteUncertain

async def main(path):
    async with SqliteTable(path, SystemClock()) as table:
        await table.write(Put({"PK": "P", "SK": "before"}))
        largest = path.with_name(path.name + "-wal").stat().st_size + 20_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
        writes = [table.write(Put({"PK": "P", "SK": f"{n}", "body": bytes(100_000)})) for n in range(3)]
        for outcome in await asyncio.gather(*writes, return_exceptions=True):
            print(type(outcome).__name__)
        print((await table.get(Key("P", "before")))["SK"])
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await table.write(Put({"PK": "P", "SK": "after"}))
        print((await table.get(Key("P", "after")))["SK"])

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_items_survive_the_end_of_the_process(tmp_path: Path, clock: ManualClock) -> None:
    async with SqliteTable(tmp_path / "table.db", clock) as table:
        await table.write(Put({"PK": "P", "SK": "a", "body": b"kept"}))

    async with SqliteTable(tmp_path / "table.db", clock) as table:
        assert await table.get(Key("P", "a")) == {"PK": "P", "SK": "a", "body": b"kept"}


def test_one_table_serves_one_event_loop_after_the_other(tmp_path: Path, clock: ManualClock) -> None:
    table = SqliteTable(tmp_path / "table.db", clock)

    for _ in range(3):
        asyncio.run(table.write(Update(Key("P", "a"), add={"n": 1})))

    assert asyncio.run(table.get(Key("P", "a"))) == {"PK": "P", "SK": "a", "n": 3}
    asyncio.run(table.close())


async def test_a_write_whose_caller_left_disturbs_nobody(tmp_path: Path, clock: ManualClock) -> None:
    async with SqliteTable(tmp_path / "table.db", clock) as table:
        left = asyncio.create_task(table.write(Put({"PK": "P", "SK": "a"})))
        await asyncio.sleep(0)
        left.cancel()

        await table.write(Put({"PK": "P", "SK": "b"}))

        assert await table.get(Key("P", "b")) is not None
        assert left.cancelled()


async def test_closing_finishes_what_waits_and_may_be_done_twice(tmp_path: Path, clock: ManualClock) -> None:
    table = SqliteTable(tmp_path / "table.db", clock)
    writes = [asyncio.create_task(table.write(Put({"PK": "P", "SK": f"{n}"}))) for n in range(10)]
    await asyncio.sleep(0)

    await table.close()
    await table.close()

    await asyncio.gather(*writes)
    with pytest.raises(Unavailable):
        await table.write(Put({"PK": "P", "SK": "late"}))
    with pytest.raises(Unavailable):
        await table.get(Key("P", "0"))


async def test_closing_ends_the_thread(tmp_path: Path, clock: ManualClock) -> None:
    before = threading.active_count()
    async with SqliteTable(tmp_path / "table.db", clock):
        during = threading.active_count()

    assert during == before + 1
    assert not [thread for thread in threading.enumerate() if thread.name == "parley-sqlite-writer"]


async def test_a_commit_reaches_the_disk_before_it_is_acknowledged(tmp_path: Path, clock: ManualClock) -> None:
    async with SqliteTable(tmp_path / "table.db", clock) as table:
        mode = await table._writer.run(lambda connection: connection.execute("PRAGMA synchronous").fetchone())

    assert mode == (2,), "FULL: an fsync for every commit"


async def test_a_sweep_removes_what_has_lapsed_oldest_first(tmp_path: Path, clock: ManualClock) -> None:
    async with SqliteTable(tmp_path / "table.db", clock) as table:
        for sk, seconds in (("a", 30), ("b", 10), ("c", 20), ("d", 1000)):
            await table.write(Put({"PK": "P", "SK": sk, "ttl": clock.seconds() + seconds}))
        await table.write(Put({"PK": "P", "SK": "e"}))
        clock.advance(30)

        swept = await table.sweep_expired(2)
        rest = await table.sweep_expired()
        nothing = await table.sweep_expired()

        assert (swept, rest, nothing) == ([Key("P", "b"), Key("P", "c")], [Key("P", "a")], [])
        assert [item["SK"] for item in (await table.query("P")).items] == ["d", "e"]


async def test_a_sweep_tells_of_what_it_is_to_spare_and_leaves_it(tmp_path: Path, clock: ManualClock) -> None:
    async with SqliteTable(tmp_path / "table.db", clock) as table:
        for pk, sk, seconds in (("P", "M", 5), ("Q", "M", 6), ("P", "a", 10), ("Q", "b", 20), ("R", "M", 1000)):
            await table.write(Put({"PK": pk, "SK": sk, "ttl": clock.seconds() + seconds}))
        clock.advance(30)

        first = await table.sweep_expired(3, spared="M")
        second = await table.sweep_expired(3, spared="M")
        await table.write(Put({"PK": "P", "SK": "M"}, Match({"ttl": clock.seconds() - 25})))
        third = await table.sweep_expired(3, spared="M")

        assert first == [Key("P", "a"), Key("Q", "b"), Key("P", "M")]
        assert second == [Key("P", "M"), Key("Q", "M")]
        assert third == [Key("Q", "M")]


async def test_a_file_that_stays_locked_is_unavailable_and_nothing_is_written(
    tmp_path: Path, clock: ManualClock
) -> None:
    async with SqliteTable(tmp_path / "table.db", clock, busy_timeout_seconds=0.05) as table:
        holder = sqlite3.connect(tmp_path / "table.db", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")

        with pytest.raises(Unavailable, match="locked"):
            await table.write(Put({"PK": "P", "SK": "a"}))
        read_meanwhile = await table.get(Key("P", "a"))
        holder.execute("ROLLBACK")
        holder.close()
        await table.write(Put({"PK": "P", "SK": "b"}))

        assert read_meanwhile is None
        assert [item["SK"] for item in (await table.query("P")).items] == ["b"]


def test_a_full_disk_is_said_and_survived(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "table.db")]

    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert result.stderr == ""
    *outcomes, before, after = result.stdout.split()
    assert set(outcomes) <= {"Unavailable", "WriteUncertain"}
    assert (len(outcomes), before, after) == (3, "before", "after")


async def test_an_error_of_the_file_takes_its_own_group_back_and_no_other(tmp_path: Path) -> None:
    writer = Writer(lambda: sqlite3.connect(tmp_path / "table.db", isolation_level=None))
    together = threading.Event()
    await writer.run(lambda connection: connection.execute("CREATE TABLE kept (n)"))

    def insert(n: int) -> Callable[[sqlite3.Connection], object]:
        return lambda connection: connection.execute("INSERT INTO kept VALUES (?)", (n,))

    first = asyncio.create_task(writer.run(lambda _: together.wait()))
    await asyncio.sleep(0.05)
    good = asyncio.create_task(writer.run(insert(1)))
    bad = asyncio.create_task(writer.run(lambda connection: connection.execute("SELECT * FROM nowhere")))
    await asyncio.sleep(0)
    together.set()
    outcomes = await asyncio.gather(first, good, bad, return_exceptions=True)
    await writer.run(insert(2))
    kept = await writer.run(lambda connection: connection.execute("SELECT n FROM kept").fetchall())
    await writer.close()

    assert outcomes[0] is True
    assert [type(outcome) for outcome in outcomes[1:]] == [Unavailable, Unavailable]
    assert kept == [(2,)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_bug_in_the_writer_leaves_nobody_waiting() -> None:
    writer = Writer(lambda: sqlite3.connect(":memory:", isolation_level=None))

    def bug(_: sqlite3.Connection) -> None:
        raise ZeroDivisionError

    with pytest.raises(WriteUncertain):
        await writer.run(bug)
    await writer.close()
    with pytest.raises(Unavailable):
        await writer.run(bug)


@pytest.mark.parametrize("contents", [b"not a database" * 100, None])
def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path, clock: ManualClock, contents: bytes | None) -> None:
    path = tmp_path / "table.db"
    if contents is None:
        path.mkdir()
    else:
        path.write_bytes(contents)

    with pytest.raises(Unavailable, match="cannot be opened"):
        SqliteTable(path, clock)


def test_a_new_file_may_be_opened_by_many_at_once(tmp_path: Path, clock: ManualClock) -> None:
    def open_it(path: Path, together: threading.Barrier, opened: list[SqliteTable]) -> None:
        together.wait()
        opened.append(SqliteTable(path, clock))

    for n in range(20):
        opened: list[SqliteTable] = []
        shared = (tmp_path / f"{n}.db", threading.Barrier(8), opened)
        threads = [threading.Thread(target=open_it, args=shared) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for table in opened:
            asyncio.run(table.close())

        assert len(opened) == 8


async def test_bytes_take_no_more_room_than_they_have(tmp_path: Path, clock: ManualClock) -> None:
    async with SqliteTable(tmp_path / "table.db", clock) as table:
        await table.write(Put({"PK": "P", "SK": "a", "body": bytes(30_000), "beside": [b"1", b"22"]}))

    with sqlite3.connect(tmp_path / "table.db") as connection:
        [[attributes, chunks]] = connection.execute("SELECT attributes, chunks FROM items").fetchall()
    connection.close()
    assert len(attributes) < 50
    assert len(chunks) == 30_000 + 3 + 3 * 4


def test_sizes_are_counted_as_dynamodb_counts_them() -> None:
    item = {
        "PK": "P", "SK": "ü", "text": "😀", "number": -123, "flag": True, "nothing": None, "body": b"12345",
        "list": [1, "a"], "map": {"k": b"22"},
    }  # fmt: skip
    names = len("PKSKtextnumberflagnothingbodylistmap")
    values = 1 + 2 + 4 + (2 + 1) + 1 + 1 + 5
    nested = (3 + 1 + 2 + 1 + 1) + (3 + 1 + 1 + 2)

    assert to_row(item)[SIZE] == names + values + nested
