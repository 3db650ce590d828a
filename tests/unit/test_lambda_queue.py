"""SQS's edge: batches, deadlines, and what is told and logged of them."""

import asyncio
import io
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
from inline_snapshot import snapshot
from parley.adapters.sqlite import SqliteTable
from parley.core import event as e
from parley.deadline import MARGIN_SECONDS
from parley.lambda_app import queue
from parley.state import Principal
from parley.store import Head, Ref
from parley.worker import Worker

from tests.build import REF, Stage, answer, asked, only, said
from tests.fakes.clock import VirtualClock
from tests.fakes.gate import Gate
from tests.fakes.invocation import Invocation

T = TypeVar("T")

CANARY = "the vault's number is 4711"


class Function:
    """The worker's function on a stage: the loop is the handler's, as on Lambda."""

    def __init__(self, folder: Path) -> None:
        clock = VirtualClock()
        sqlite = SqliteTable(folder / "stage.db", clock)
        self.stage = Stage(folder / "stage.db", sqlite, clock)
        self.delayed: list[tuple[str, int]] = []
        worker = Worker(self.stage.runner, Principal("acme", "robot", admin=True), 3)
        self.handle = queue.handler(worker, self.retry_later)
        self.loop = asyncio.get_event_loop()

    async def retry_later(self, receipt_handle: str, seconds: int) -> None:
        self.delayed.append((receipt_handle, seconds))

    def do(self, work: Awaitable[T]) -> T:
        """Do something between two invocations."""
        return self.loop.run_until_complete(work)

    def take(self, *records: dict[str, Any], seconds_left: float = 900.0) -> list[str]:
        """Invoke the function; return which messages failed."""
        self.invocation = Invocation(seconds_left)
        answer = self.handle({"Records": list(records)}, self.invocation)
        assert answer == json.loads(json.dumps(answer))
        return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]

    def log(self, ref: Ref = REF) -> list[e.Event]:
        return self.do(self.stage.log(ref))

    def heads(self) -> list[Head]:
        """List all sessions, the oldest first."""
        page = self.stage.store.sessions.page(
            "acme", question="", wanted=lambda _: True, limit=100, newest_first=False, page=None
        )
        return sorted(self.do(page).heads, key=lambda head: head.id)


@pytest.fixture
def function(tmp_path: Path) -> Iterator[Function]:
    made = Function(tmp_path)
    yield made
    made.do(made.stage.runner.close(0))
    made.do(made.stage.sqlite.close())
    left_running = asyncio.all_tasks(made.loop)
    made.loop.close()
    asyncio.set_event_loop(None)
    assert not left_running, left_running
    assert made.stage.model.problems == []


@pytest.fixture
def lines(function: Function) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    [handler] = logging.getLogger("parley").handlers
    assert isinstance(handler, logging.StreamHandler)
    written = io.StringIO()
    before = handler.setStream(written)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    handler.setStream(before)


def record(body: str, n: int = 1, receives: int = 1) -> dict[str, Any]:
    """Make a message as SQS hands it to a function."""
    return {
        "messageId": f"m-{n}",
        "receiptHandle": f"receipt-{n}-{receives}",
        "body": body,
        "attributes": {"ApproximateReceiveCount": str(receives), "SentTimestamp": "1763640000000"},
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-central-1:123456789012:parley",
        "awsRegion": "eu-central-1",
    }


def job(text: str = "Hi", **fields: Any) -> str:
    return json.dumps({"agent_id": "bank", "input": text} | fields)


# Batches.


def test_of_a_batch_of_five_with_a_poison_message_only_that_one_comes_again(function: Function) -> None:
    function.stage.plays(*(answer(said()) for _ in range(4)))
    batch = [record(job(f"Job {n}"), n) for n in (1, 2, 4, 5)]

    failed = function.take(*batch[:2], record("poison", 3), *batch[2:])

    assert failed == ["m-3"]
    assert [head.phase for head in function.heads()] == ["completed"] * 4


def test_a_batch_without_a_failure_says_so(function: Function) -> None:
    function.stage.plays(answer(said()))

    answered = function.handle({"Records": [record(job())]}, Invocation())

    assert answered == {"batchItemFailures": []}
    assert function.delayed == []


@pytest.mark.parametrize(("receives", "seconds"), [(1, 5), (2, 30), (3, 120), (4, 120), (9, 120)])
def test_a_message_that_failed_comes_again_soon_at_first_and_later_then(
    function: Function, receives: int, seconds: int
) -> None:
    function.take(record("poison", 1, receives))

    assert function.delayed == [(f"receipt-1-{receives}", seconds)]


def test_messages_of_a_batch_are_taken_at_the_same_time(function: Function) -> None:
    one, two = Gate(), Gate()

    async def wait_for_the_other(mine: Gate, other: Gate) -> None:
        mine.reached.set()
        await other.reached.wait()

    function.stage.plays(
        [lambda: wait_for_the_other(one, two), *answer(said())],
        [lambda: wait_for_the_other(two, one), *answer(said())],
    )

    assert function.take(record(job(), 1), record(job(), 2)) == []
    assert [head.phase for head in function.heads()] == ["completed"] * 2


def test_a_poison_message_is_shown_with_its_last_delivery(function: Function) -> None:
    for receives in (1, 2, 3):
        assert function.take(record("poison", 1, receives)) == ["m-1"]

    [shown] = function.heads()
    [failed] = only(e.RunFailed, function.log(Ref("acme", shown.id)))
    assert failed.code == "job_invalid"


def test_what_nobody_expected_is_one_messages_failure(function: Function) -> None:
    function.stage.plays(answer(said()))
    function.stage.table.fail_next("crash")

    failed = function.take(record(job(), 1), record(job(), 2))

    assert len(failed) == 1
    assert [seconds for _, seconds in function.delayed] == [5]
    assert [head.phase for head in function.heads()] == ["completed"]


def test_a_function_that_is_warm_takes_the_next_batch(function: Function) -> None:
    function.stage.plays(answer(said()), answer(said()))

    assert function.take(record(job(), 1)) == []
    assert function.take(record(job(), 2)) == []

    assert [head.phase for head in function.heads()] == ["completed"] * 2


# The function's time.


def test_a_run_that_does_not_fit_is_handed_over_and_its_message_is_done(function: Function) -> None:
    stage = function.stage.plays(answer(asked("look")), answer(said("Done.")))

    failed = function.take(record(job(), 1), seconds_left=MARGIN_SECONDS + 30)

    [shown] = function.heads()
    ref = Ref("acme", shown.id)
    assert failed == []
    assert function.delayed == []
    assert stage.queue.hints == [ref]
    assert [each.reason for each in only(e.StatusRescheduled, function.log(ref))] == ["handed_over"]


def test_a_run_that_is_cut_off_by_the_deadline_can_be_driven_on_at_once(function: Function) -> None:
    gate = Gate()
    stage = function.stage.plays([gate, *answer(said("Never said"))])

    failed = function.take(record(job(), 1), seconds_left=MARGIN_SECONDS + 0.05)

    [shown] = function.heads()
    ref = Ref("acme", shown.id)
    _, lock = function.do(stage.store.sessions.open(ref))
    assert failed == []
    assert stage.queue.hints == [ref]
    assert (lock.run is not None, lock.lease_until_ms) == (True, 0)
    assert function.invocation.get_remaining_time_in_millis() > 1000, "there was time for it"


def test_a_run_that_begins_when_the_time_is_up_is_cut_off_too(function: Function) -> None:
    stage = function.stage.plays([Gate(), *answer(said("Never said"))])
    stage.table.before_next(lambda: asyncio.sleep(0.2))

    failed = function.take(record(job(), 1), seconds_left=MARGIN_SECONDS + 0.05)

    [shown] = function.heads()
    assert failed == []
    assert stage.queue.hints == [Ref("acme", shown.id)]


def test_a_hint_lets_the_next_invocation_finish_what_was_cut_off(function: Function) -> None:
    stage = function.stage.plays([Gate(), *answer(said("Never said"))], answer(said("Said")))
    function.take(record(job(), 1), seconds_left=MARGIN_SECONDS + 0.05)
    [ref] = stage.queue.hints

    function.take(record(json.dumps({"hint": {"tenant": ref.tenant, "session_id": ref.id}}), 2))

    log = function.log(ref)
    assert [message.content[0].text for message in only(e.AgentMessage, log)] == ["Said"]
    assert [each.seq for each in log] == list(range(1, len(log) + 1))


def test_a_run_that_is_long_completes_over_several_invocations_and_makes_no_call_twice(function: Function) -> None:
    stage = function.stage
    stage.plays(answer(asked("look")), answer(asked("pay")), answer(asked("file")), answer(said("Done.")))
    function.take(record(job(), 1), seconds_left=MARGIN_SECONDS)
    invocations = 1

    while stage.queue.hints:
        ref = stage.queue.hints.pop()
        function.take(
            record(json.dumps({"hint": {"tenant": ref.tenant, "session_id": ref.id}}), invocations + 1),
            seconds_left=MARGIN_SECONDS,
        )
        invocations += 1

    log = function.log(ref)
    assert only(e.RunFinished, log)
    assert stage.tools.names == ["look", "pay", "file"]
    assert len(stage.model.requests) == 4
    assert [each.seq for each in log] == list(range(1, len(log) + 1))
    assert 2 < invocations < 10


# What is told.


def test_a_failure_is_a_line_of_keys(function: Function, lines: Callable[[], list[dict[str, Any]]]) -> None:
    function.take(record(f"not JSON: {CANARY}", 7, 2))

    [line] = lines()
    told = {"level", "message", "service", "function_name", "message_id", "receives", "code"}
    assert {name: line[name] for name in told} == snapshot(
        {
            "level": "WARNING",
            "message": "message_failed",
            "service": "parley",
            "function_name": "probe",
            "message_id": "m-7",
            "receives": 2,
            "code": "job_invalid",
        }
    )
    assert line["function_request_id"]


def test_what_was_said_is_never_logged(function: Function, lines: Callable[[], list[dict[str, Any]]]) -> None:
    function.stage.plays(answer(said(CANARY)))
    bodies = [job(CANARY), f"not JSON: {CANARY}", job(CANARY, colour=CANARY), job(CANARY, agent_id="gone")]
    function.stage.table.faults[3] = "crash"

    function.take(*(record(body, n, 3) for n, body in enumerate(bodies)))

    assert lines()
    assert CANARY not in json.dumps(lines(), ensure_ascii=False)


def test_runs_are_counted(function: Function, capsys: pytest.CaptureFixture[str]) -> None:
    function.stage.plays(answer(said()), answer(said(), stop_reason="refusal"))

    function.take(record(job(), 1), record(job(), 2))

    [metrics] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (sum(metrics["RunsStarted"]), sum(metrics["RunsFailed"])) == (2, 1)


def test_nothing_is_counted_of_a_batch_that_began_nothing(
    function: Function, capsys: pytest.CaptureFixture[str]
) -> None:
    function.take(record("poison", 1))

    assert capsys.readouterr().out == ""
