"""Runs as numbers: one line of the embedded metric format, and none when there is nothing to tell."""

import json

import pytest
from parley.core import control as c
from parley.core import event as e
from parley.core.value import StopReason
from parley.lambda_app.metrics import Counted
from parley.sweeper import Swept

from tests.build import event, failed_call, idle

WAITING = event(e.StatusIdle, stop_reason=StopReason(type="requires_action", event_ids=("call",)))


def told(counted: Counted, capsys: pytest.CaptureFixture[str]) -> dict[str, float]:
    """Tell what a flush writes."""
    counted.flush()
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found: dict[str, float] = {}
    for line in lines:
        [directive] = line["_aws"]["CloudWatchMetrics"]
        assert (directive["Namespace"], directive["Dimensions"], line["service"]) == ("Parley", [["service"]], "parley")
        assert {metric["Unit"] for metric in directive["Metrics"]} == {"Count"}
        found |= {metric["Name"]: sum(line[metric["Name"]]) for metric in directive["Metrics"]}
    return found


@pytest.mark.parametrize(
    ("counts", "name"),
    [
        (event(e.RunStarted), "RunsStarted"),
        (event(e.RunFailed), "RunsFailed"),
        (event(c.RunCancelled), "RunsCancelled"),
        (WAITING, "RunsParked"),
        (failed_call(code="model_overloaded")[-1], "ModelThrottles"),
        (failed_call(code="model_rate_limited")[-1], "ModelThrottles"),
    ],
    ids=["started", "failed", "cancelled", "parked", "overloaded", "rate limited"],
)
def test_what_happened_is_counted(counts: e.Event, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    counted = Counted()

    for _ in range(3):
        counted.take(counts)

    assert told(counted, capsys) == {name: 3}


@pytest.mark.parametrize(
    "passes_by",
    [event(e.RunFinished), idle(), failed_call(code="model_request_failed")[-1], event(e.RunClaimed)],
    ids=["finished", "idle", "another failure", "claimed"],
)
def test_what_nobody_asks_about_is_not(passes_by: e.Event, capsys: pytest.CaptureFixture[str]) -> None:
    counted = Counted()

    counted.take(passes_by)

    assert told(counted, capsys) == {}


def test_a_round_of_the_sweeper_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    counted = Counted()

    counted.swept(Swept(hints=2, removed=5, expired=1, failed=3))

    assert told(counted, capsys) == {"SweeperRepairs": 2, "SweeperFailures": 3}


def test_what_was_told_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    counted = Counted()
    counted.take(event(e.RunStarted))
    told(counted, capsys)

    assert told(counted, capsys) == {}
