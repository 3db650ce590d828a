"""The simulator itself: time that passes by itself, processes that die, faults that do what they say."""

import asyncio
import os
import subprocess
import sys

import pytest
from parley.ports import Absent, ConditionFailed, Key, Put, WriteUncertain

from tests.simulation import loop
from tests.simulation.explore import by_chance, run
from tests.simulation.faults import FROZEN_SECONDS, LATE_SECONDS, Faults
from tests.simulation.process import Nature, Process
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.table import SimulatedTable, Storage

ITEM = {"PK": "P", "SK": "E#1"}
PUT = Put(ITEM, Absent())
KEY = Key("P", "E#1")


def a_table(fault: str | None = None) -> SimulatedTable:
    """Make a table whose first point goes wrong."""
    nature = Nature(Faults({1: fault} if fault else {}), 0)
    return SimulatedTable(Process(nature, "one"), Storage(nature, lambda ops: None))


def test_a_day_takes_no_time() -> None:
    async def main() -> float:
        await asyncio.sleep(86_400)
        return asyncio.get_running_loop().time()

    assert loop.run(main()) == 86_400


def test_who_waits_for_what_nobody_does_is_told_so() -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(loop.Stuck):
        loop.run(main())


@pytest.mark.parametrize(
    ("fault", "there"),
    [("refused", False), ("lost", False), ("answer lost", True), ("away", False)],
)
def test_a_write_goes_wrong_as_it_is_told_to(fault: str, there: bool) -> None:
    async def main() -> bool:
        table = a_table(fault)
        with pytest.raises(Exception, match=r"answer|refuses"):
            await table.write(PUT)
        return await table.storage.get(KEY) is not None

    assert loop.run(main()) is there


def test_a_late_write_arrives_when_nobody_waits_for_it() -> None:
    async def main() -> list[bool]:
        table = a_table("applied late")
        with pytest.raises(WriteUncertain):
            await table.write(PUT)
        seen = [await table.storage.get(KEY) is not None]
        await asyncio.sleep(LATE_SECONDS)
        return [*seen, await table.storage.get(KEY) is not None]

    assert loop.run(main()) == [False, True]


def test_a_transaction_that_is_sent_again_is_the_same_one() -> None:
    async def main() -> bool:
        table = a_table("applied late")
        other = Put({"PK": "P", "SK": "L"})
        with pytest.raises(WriteUncertain):
            await table.write(PUT, other)
        await table.write(PUT, other)
        await table.storage.write(Put({"PK": "P", "SK": "L", "newer": True}))
        await asyncio.sleep(LATE_SECONDS)
        item = await table.storage.get(Key("P", "L"))
        return bool(item and item.get("newer"))

    assert loop.run(main())


@pytest.mark.parametrize(("fault", "there"), [("crash before", False), ("crash after", True)])
def test_a_process_that_has_crashed_does_nothing_any_more(fault: str, there: bool) -> None:
    async def main() -> tuple[bool, bool]:
        table = a_table(fault)
        writing = asyncio.create_task(table.write(PUT))
        await asyncio.sleep(1000)
        table.process.nature.ending = True
        return writing.done(), await table.storage.get(KEY) is not None

    assert loop.run(main()) == (False, there)


def test_a_process_that_was_frozen_goes_on_as_if_nothing_had_been() -> None:
    async def main() -> float:
        table = a_table("frozen before")
        await table.write(PUT)
        return table.process.nature.seconds

    assert loop.run(main()) == pytest.approx(FROZEN_SECONDS, abs=1)


def test_a_condition_that_does_not_hold_is_told() -> None:
    async def main() -> None:
        table = a_table()
        await table.write(PUT)
        await table.write(PUT)

    with pytest.raises(ConditionFailed):
        loop.run(main())


def test_the_same_line_gives_the_same_run() -> None:
    scenario = SCENARIOS["three messages at once"]

    first, second = (by_chance(scenario, 7, 40) for _ in range(2))
    again = run(scenario, first.fired, 7)

    assert first.fired
    assert [ran.points for ran in (first, second, again)] == [first.points] * 3
    assert second.fired == again.fired == first.fired


def test_another_process_runs_the_same() -> None:
    """What has another order in each process: a set of words, a set of objects."""
    line = [
        "-m",
        "tests.simulation",
        "replay",
        "three tools at once",
        "--seed",
        "44",
        "--faults",
        "4:lost,9:crash after",
    ]

    told = [
        subprocess.run(
            [sys.executable, *line], env={**os.environ, "PYTHONHASHSEED": seed}, check=False, capture_output=True
        ).stdout
        for seed in ("1", "2")
    ]

    assert b"no promise is broken" in told[0]
    assert told[1] == told[0]
