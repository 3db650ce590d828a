"""The same server over DynamoDB: an emulator that somebody else wrote, and leases instead of a locked folder."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.backends import emulator
from tests.e2e.processes import Process, client, fake_anthropic, parley, running, with_claude
from tests.e2e.streams import execute, ids_of, text_of
from tests.e2e.test_kill import attempts, begin, events, wait_for, wait_until

pytestmark = pytest.mark.xdist_group("processes")

LEASE_SECONDS = 2


@pytest.fixture(scope="module")
def fake() -> Iterator[Process]:
    with running(fake_anthropic) as process:
        yield process


@pytest.fixture(scope="module")
def over_dynamodb(fake: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with emulator("ministack", tmp_path_factory.mktemp("dynamodb")) as endpoint:
        yield with_claude(fake) | {
            "PARLEY_STORE": "dynamodb",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "PARLEY_LEASE_SECONDS": str(LEASE_SECONDS),
            "PARLEY_RECOVER_SECONDS": "0.5",
        }


def test_a_session_goes_on_in_another_server(over_dynamodb: dict[str, str], tmp_path: Path) -> None:
    with running(lambda: parley(tmp_path / "one", **over_dynamodb)) as one, client(one) as http:
        first = execute(http, "desk", '[[tool send {"seconds": 0}]]', key="first")
        again = execute(http, "desk", '[[tool send {"seconds": 0}]]', key="first")
    session_id = first[-1].data["session_id"]

    with running(lambda: parley(tmp_path / "two", **over_dynamodb)) as two, client(two) as http:
        second = execute(http, "desk", "[[count]]", session_id=session_id)
        listed = [session["id"] for session in http.get("/v1/sessions").json()["data"]]
        deleted = http.delete(f"/v1/sessions/{session_id}")
        gone = http.get(f"/v1/sessions/{session_id}/events")

    assert ids_of(again) == ids_of(first)
    assert "user_texts=2" in text_of(second)
    assert session_id in listed
    assert (deleted.status_code, gone.status_code) == (200, 404)


def test_a_run_whose_server_was_killed_is_taken_over_when_its_lease_lapses(
    over_dynamodb: dict[str, str], tmp_path: Path
) -> None:
    doomed = parley(tmp_path / "doomed", **over_dynamodb)
    with running(lambda: parley(tmp_path / "other", **over_dynamodb)) as other:
        session_id = begin(doomed, "desk", '[[tool book {"seconds": 1.5}]]', lambda line: line == "event: tool_call")
        wait_until(lambda: len(attempts(tmp_path / "doomed", "book")) == 1)

        doomed.kill()
        killed = time.monotonic()
        wait_for(other, session_id, "completed")
        waited = time.monotonic() - killed
        kinds = [event["type"] for event in events(other, session_id)]

    assert waited > LEASE_SECONDS / 2, "the lease was still held"
    assert kinds.count("run.claimed") == 2
    assert kinds.count("agent.tool_result") == 1
    (there,), (here,) = attempts(tmp_path / "doomed", "book"), attempts(tmp_path / "other", "book")
    assert there["key"] == here["key"]


def test_without_credentials_it_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="AWS"):
        parley(tmp_path, PARLEY_STORE="dynamodb", AWS_ENDPOINT_URL="http://127.0.0.1:9", AWS_CONFIG_FILE="/dev/null")
