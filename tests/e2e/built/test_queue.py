"""Runs from the queue: partial failures, a worker that is killed, a run that is longer than its deadline."""

import json
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest

from tests.e2e.built.deployment import DOOMED, Deployment
from tests.e2e.built.pump import Pump
from tests.integration import gateway

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.timeout(180)]  # the first one builds

LEASE_SECONDS = 2
MAX_RECEIVES = 4
DEADLINE_SECONDS = 8
NOTES = 7


def job(text: str, agent_id: str = "night", **more: str) -> str:
    return json.dumps({"agent_id": agent_id, "input": text, **more})


def with_task(deployment: Deployment, task_id: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = deployment.ask("list_sessions", query={"limit": ["100"]})["data"]
    return [session for session in listed if session["task_id"] == task_id]


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


def abandon(call: Callable[[], object]) -> None:
    """Call in a thread, and do not mind when the answer never comes."""

    def calling() -> None:
        with suppress(httpx.TransportError):
            call()

    threading.Thread(target=calling, daemon=True).start()


def wait_until(holds: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_of_five_messages_only_the_poison_one_comes_again_and_ends_among_the_dead_letters(
    deployment: Deployment, pump: Pump
) -> None:
    good = [pump.send(job(f"[[say job {number}]]", task_id=f"job-{number}")) for number in range(4)]
    poison = pump.send(job("Hi", "nobody", task_id="poison"))

    assert pump.pump(deployment.work) == [poison]
    assert pump.poll() == [], "what failed is hidden for a while"
    for _ in range(MAX_RECEIVES - 1):
        pump.let_time_pass(poison)
        assert pump.pump(deployment.work) == [poison]
    pump.let_time_pass(poison)

    assert pump.poll() == []
    assert [pump.receives(message) for message in good] == [[1]] * 4
    assert pump.receives(poison) == [1, 2, 3, 4]
    assert pump.counted("Queue") == (0, 0)
    assert pump.counted("DeadLetterQueue") == (1, 0)
    for number in range(4):
        [session] = with_task(deployment, f"job-{number}")
        log = deployment.log(session["id"])
        assert kinds(log).count("run.finished") == 1
        assert f"job {number}" in json.dumps(log)
    [shown] = with_task(deployment, "poison")
    [failed] = [event for event in deployment.log(shown["id"]) if event["type"] == "run.failed"]
    assert failed["code"] == "agent_not_found"


def test_a_run_whose_worker_is_killed_ends_after_the_lease_by_another_hint(deployment: Deployment, pump: Pump) -> None:
    deployment.forget_model_calls()
    message = pump.send(job('[[tool note {"number": 1}]] [[then text 2x8 gate=killed]]', task_id="killed"))

    with deployment.process("worker", DOOMED, PARLEY_LEASE_SECONDS=str(LEASE_SECONDS)) as process:
        abandon(lambda: pump.pump(lambda event: deployment.trigger(DOOMED, event)))
        wait_until(lambda: len(deployment.model_calls()) == 2)
        process.kill()
    killed = time.monotonic()
    wait_until(lambda: deployment.model_calls()[1]["outcome"] == "client left")
    deployment.trigger("sweeper", gateway.recorded("sweep"))
    assert pump.counted() == (0, 1), "the lease is still held, and the message in flight"
    wait_until(lambda: deployment.trigger("sweeper", gateway.recorded("sweep")) == {} and pump.counted() == (1, 1))
    assert time.monotonic() - killed > LEASE_SECONDS / 2
    deployment.let_through("killed", 2)
    assert pump.pump(deployment.work) == []

    [session] = with_task(deployment, "killed")
    log = deployment.log(session["id"])
    assert kinds(log).count("run.claimed") == 2
    assert kinds(log)[-2:] == ["run.finished", "session.status_idle"]
    assert deployment.noted(session["id"]) == [1]
    assert [call["outcome"] for call in deployment.model_calls()] == ["sent", "client left", "sent"]
    pump.let_time_pass(message)
    assert pump.pump(deployment.work) == []
    assert pump.receives(message) == [1, 2]
    assert pump.counted() == (0, 0)
    assert deployment.log(session["id"]) == log


def test_a_run_longer_than_its_deadline_goes_on_in_the_next_invocations(deployment: Deployment, pump: Pump) -> None:
    deployment.forget_model_calls()
    steps = [f'tool note {{"number": {number}, "seconds": 0.8}}]]' for number in range(NOTES)]
    pump.send(job(f"[[{' [[then '.join(steps)} [[then say done]]", task_id="long"))
    invocations = 0

    with deployment.on_rie("worker", DEADLINE_SECONDS) as worker:
        while pump.counted() != (0, 0):
            assert pump.pump(lambda event: worker.invoke(event).json()) == []
            invocations += 1

    [session] = with_task(deployment, "long")
    log = deployment.log(session["id"])
    assert invocations >= 3
    assert [event.get("reason") for event in log].count("handed_over") == invocations - 1
    assert kinds(log).count("run.claimed") == invocations
    assert kinds(log)[-2:] == ["run.finished", "session.status_idle"]
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
    assert deployment.noted(session["id"]) == list(range(NOTES))
    assert [call["outcome"] for call in deployment.model_calls()] == ["sent"] * (NOTES + 1)
