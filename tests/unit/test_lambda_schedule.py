"""The sweeper's edge: ticks of the schedule, and records of the table's stream."""

import asyncio
import io
import json
import logging
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from parley.adapters.sqlite import SqliteTable
from parley.lambda_app import schedule
from parley.ports import Delete
from parley.store import Ref
from parley.sweeper import Sweeper

from tests.build import REF, Stage, types
from tests.fakes.clock import VirtualClock
from tests.fakes.invocation import Invocation

T = TypeVar("T")

TICK = {"version": "0", "id": "t-1", "detail-type": "Scheduled Event", "source": "aws.events", "detail": {}}
THREE = [Ref("acme", f"sesn_{n}") for n in (1, 2, 3)]


class Function:
    """The sweeper's function on a stage."""

    def __init__(self, folder: Path) -> None:
        clock = VirtualClock()
        self.stage = Stage(folder / "stage.db", SqliteTable(folder / "stage.db", clock), clock)
        self.handle = schedule.handler(Sweeper(self.stage.store, self.stage.queue))
        self.loop = asyncio.get_event_loop()

    def do(self, work: Awaitable[T]) -> T:
        """Do something between two invocations."""
        return self.loop.run_until_complete(work)

    def invoke(self, event: dict[str, Any]) -> dict[str, Any]:
        return self.handle(event, Invocation())

    def last(self, ref: Ref) -> str:
        """Name the newest event of a session."""
        return types(self.do(self.stage.log(ref)))[-1]


@pytest.fixture
def function(tmp_path: Path) -> Iterator[Function]:
    made = Function(tmp_path)
    yield made
    made.do(made.stage.sqlite.close())
    made.loop.close()
    asyncio.set_event_loop(None)


def lapsed(ref: Ref, n: int) -> dict[str, Any]:
    """Make the record of a row that DynamoDB has removed because its `ttl` had passed."""
    return {
        "eventID": f"e-{n}",
        "eventName": "REMOVE",
        "userIdentity": {"type": "Service", "principalId": "dynamodb.amazonaws.com"},
        "dynamodb": {"Keys": {"PK": {"S": ref.pk}, "SK": {"S": "M"}}, "SequenceNumber": f"{n:03d}"},
    }


def failures(answer: dict[str, Any]) -> list[str]:
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


def month_later(function: Function) -> None:
    """Let three sessions lapse that have a run each, as DynamoDB does."""
    for ref in THREE:
        function.do(function.stage.begin(ref=ref))
    function.stage.clock.advance(31 * 86_400)
    for ref in THREE:
        function.do(function.stage.sqlite.write(Delete(ref.shown())))


def test_a_tick_is_a_round(function: Function, capsys: pytest.CaptureFixture[str]) -> None:
    function.do(function.stage.begin())
    function.stage.clock.advance(60)

    assert function.invoke(TICK) == {}

    assert function.stage.queue.hints == [REF]
    [metrics] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (metrics["SweeperRepairs"], metrics["SweeperFailures"]) == ([1.0], [0.0])


def test_a_round_that_finds_nothing_is_counted_too(function: Function, capsys: pytest.CaptureFixture[str]) -> None:
    function.invoke(TICK)
    function.invoke(TICK)

    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["SweeperRepairs"], each["SweeperFailures"]) for each in told] == [([0.0], [0.0])] * 2


def test_sessions_whose_rows_have_lapsed_are_ended(function: Function) -> None:
    month_later(function)

    answer = function.invoke({"Records": [lapsed(ref, n) for n, ref in enumerate(THREE[:2])]})

    assert answer == {"batchItemFailures": []}
    assert [function.last(ref) for ref in THREE] == ["session.deleted", "session.deleted", "run.claimed"]


def test_the_first_record_that_fails_and_all_behind_it_come_again(function: Function) -> None:
    month_later(function)
    records = [lapsed(ref, n) for n, ref in enumerate(THREE)]
    first = len(function.stage.table.writes) + 1
    function.stage.table.faults |= {first + n: "lost" for n in range(1, 9)}

    assert failures(function.invoke({"Records": records})) == ["001"]
    assert [function.last(ref) for ref in THREE] == ["session.deleted", "run.claimed", "run.claimed"]

    assert failures(function.invoke({"Records": records[1:]})) == []
    assert [function.last(ref) for ref in THREE] == ["session.deleted"] * 3


def test_a_session_that_is_used_again_is_not_ended(function: Function) -> None:
    function.do(function.stage.begin())

    assert failures(function.invoke({"Records": [lapsed(REF, 1)]})) == []

    assert function.last(REF) == "run.claimed"


def test_what_is_swept_is_a_line_of_numbers(function: Function) -> None:
    [handler] = logging.getLogger("parley").handlers
    assert isinstance(handler, logging.StreamHandler)
    written = io.StringIO()
    before = handler.setStream(written)
    function.do(function.stage.begin())
    function.stage.clock.advance(60)

    function.invoke(TICK)

    handler.setStream(before)
    [line] = [json.loads(line) for line in written.getvalue().splitlines()]
    found = {name: line[name] for name in ("message", "hints", "removed", "expired", "failed")}
    assert found == {"message": "swept", "hints": 1, "removed": 0, "expired": 0, "failed": 0}
    assert line["function_request_id"]
