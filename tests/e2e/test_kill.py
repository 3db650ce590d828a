"""SIGKILL at the worst moments, with real processes. What was accepted goes on by itself, and nothing happens twice."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.processes import Process, client, fake_anthropic, parley, running, with_claude
from tests.e2e.streams import execute, frames, text_of

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture(scope="module")
def fake() -> Iterator[Process]:
    with running(fake_anthropic) as process:
        yield process


def begin(server: Process, agent: str, text: str, until: Callable[[str], bool]) -> str:
    """Start a run in a thread, wait for a line of its stream, and return the session's id."""
    seen: list[str] = []
    reached = threading.Event()

    def read() -> None:
        try:
            with (
                client(server) as http,
                http.stream("POST", f"/v1/agents/{agent}/execute", json={"input": text}) as answer,
            ):
                seen.append(answer.headers["location"].rsplit("/", 1)[1])
                for line in answer.iter_lines():
                    if until(line):
                        reached.set()
        except httpx.TransportError:
            return

    threading.Thread(target=read, daemon=True).start()
    assert reached.wait(20), "the stream did not get that far"
    return seen[0]


def wait_for(server: Process, session_id: str, run_status: str) -> dict[str, Any]:
    """Wait until the session has come to rest there."""
    with client(server) as http:
        for _ in range(200):
            session: dict[str, Any] = http.get(f"/v1/sessions/{session_id}").json()
            if session["run_status"] == run_status:
                return session
            time.sleep(0.1)
    raise AssertionError(f"not {run_status} after 20 s: {session['run_status']}")


def events(server: Process, session_id: str) -> list[dict[str, Any]]:
    """Read the whole log."""
    with client(server) as http:
        answer = http.get(f"/v1/sessions/{session_id}/events", params={"limit": 100})
        return list(answer.json()["data"])


def attempts(data: Path, tool: str) -> list[dict[str, Any]]:
    """Read what the tools themselves wrote down."""
    ledger = data / "attempts.jsonl"
    lines = ledger.read_text().splitlines() if ledger.exists() else []
    return [attempt for line in lines if (attempt := json.loads(line))["tool"] == tool]


def payments(data: Path) -> list[dict[str, Any]]:
    """Read the wallet's own ledger."""
    ledger = data / "ledger.jsonl"
    return [json.loads(line) for line in ledger.read_text().splitlines()] if ledger.exists() else []


def test_a_run_killed_during_a_delta_ends_by_itself_after_a_restart(fake: Process, tmp_path: Path) -> None:
    server = parley(tmp_path, **with_claude(fake))
    session_id = begin(server, "desk", "[[text 40x8 delay=0.05]]", lambda line: line == "event: text")

    server.kill()
    with running(lambda: parley(tmp_path, **with_claude(fake))) as restarted:
        wait_for(restarted, session_id, "completed")
        log = events(restarted, session_id)
        with client(restarted) as http:
            again = execute(http, "desk", "[[recall]]", session_id=session_id)

    kinds = [event["type"] for event in log]
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
    assert kinds.count("agent.message") == 1
    assert kinds.count("run.claimed") == 2
    assert "session.status_rescheduled" in kinds
    assert "[[text 40x8 delay=0.05]]" in text_of(again)


def test_a_read_killed_in_its_middle_is_made_again_with_the_same_key(fake: Process, tmp_path: Path) -> None:
    server = parley(tmp_path, **with_claude(fake))
    session_id = begin(server, "desk", '[[tool look {"seconds": 1.5}]]', lambda line: line == "event: tool_call")
    wait_until(lambda: len(attempts(tmp_path, "look")) == 1)

    server.kill()
    with running(lambda: parley(tmp_path, **with_claude(fake))) as restarted:
        wait_for(restarted, session_id, "completed")
        kinds = [event["type"] for event in events(restarted, session_id)]

    made = attempts(tmp_path, "look")
    assert len(made) == 2
    assert len({attempt["key"] for attempt in made}) == 1
    assert kinds.count("agent.tool_result") == 1
    assert "tool.outcome_unknown" not in kinds


def test_an_idempotent_call_killed_in_its_middle_is_made_again_with_the_same_key(fake: Process, tmp_path: Path) -> None:
    server = parley(tmp_path, **with_claude(fake))
    session_id = begin(server, "desk", '[[tool book {"seconds": 1.5}]]', lambda line: line == "event: tool_call")
    wait_until(lambda: len(attempts(tmp_path, "book")) == 1)

    server.kill()
    with running(lambda: parley(tmp_path, **with_claude(fake))) as restarted:
        wait_for(restarted, session_id, "completed")

    made = attempts(tmp_path, "book")
    assert len(made) == 2
    assert len({attempt["key"] for attempt in made}) == 1


@pytest.mark.parametrize(
    ("word", "payments_after", "status"),
    [
        ({"outcome": "happened", "result": "paid, says the bank"}, 1, "completed"),
        ({"outcome": "did_not_happen"}, 1, "completed_with_errors"),
        ({"outcome": "retry"}, 2, "completed"),
    ],
    ids=["it happened", "it did not", "try again"],
)
def test_a_payment_killed_in_its_middle_is_made_once_and_waits_for_a_person(
    fake: Process, tmp_path: Path, word: dict[str, str], payments_after: int, status: str
) -> None:
    pay = '[[tool pay {"amount": "5.00", "to": "alice"}]]'
    server = parley(tmp_path, WALLET_PAY_SECONDS="4", **with_claude(fake))
    session_id = begin(server, "wallet", pay, lambda line: line == "event: tool_call")
    wait_until(lambda: len(payments(tmp_path)) == 1)

    server.kill()
    with running(lambda: parley(tmp_path, WALLET_PAY_SECONDS="0", **with_claude(fake))) as restarted:
        waiting = wait_for(restarted, session_id, "waiting_approval")
        log = events(restarted, session_id)
        paid_while_waiting = len(payments(tmp_path))
        (unknown,) = (event for event in log if event["type"] == "tool.outcome_unknown")
        with client(restarted) as http:
            busy = http.post("/v1/agents/wallet/execute", json={"input": "hello?", "session_id": session_id})
            path = f"/v1/sessions/{session_id}/tool_calls/{unknown['tool_use_id']}/outcome"
            decided = http.post(path, json=word)
        wait_for(restarted, session_id, status)
        with client(restarted) as http:
            again = execute(http, "wallet", "[[recall]]", session_id=session_id)

    assert waiting["status"] == "idle"
    assert paid_while_waiting == 1
    assert busy.status_code == 409
    assert decided.status_code == 200, decided.text
    assert len(payments(tmp_path)) == payments_after
    assert len({payment["idempotency_key"] for payment in payments(tmp_path)}) == 1
    assert again[-1].event == "complete"


def test_a_client_that_leaves_does_not_end_the_run(fake: Process, tmp_path: Path) -> None:
    with running(lambda: parley(tmp_path, **with_claude(fake))) as server, client(server) as http:
        body = {"input": "[[text 30x8 delay=0.03]]"}
        with http.stream("POST", "/v1/agents/desk/execute", json=body) as answer:
            session_id = answer.headers["location"].rsplit("/", 1)[1]
            first = next(frame for frame in frames(answer.iter_lines()) if frame.event == "text")

        wait_for(server, session_id, "completed")
        (message,) = (event for event in events(server, session_id) if event["type"] == "agent.message")

    assert message["content"][0]["text"].startswith(first.data["text"])
    assert len(message["content"][0]["text"]) == 30 * 8


def test_a_second_server_on_the_same_folder_says_so_and_ends(tmp_path: Path) -> None:
    with running(lambda: parley(tmp_path)), pytest.raises(RuntimeError, match="Another Parley server is using"):
        parley(tmp_path)


def wait_until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for something outside."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
