"""On an emulator that streams: what the model says reaches who listens before the model says more."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.e2e.built.deployment import Deployment
from tests.e2e.built.pump import Pump
from tests.e2e.streams import frames
from tests.integration.drivers import LARGE

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.timeout(180)]  # the first one builds

PIECES = ["0000000 ", "0000001 ", "0000002 ", "0000003 ", "0000004 ", "0000005."]


@pytest.fixture
def gate() -> str:
    return uuid.uuid4().hex


def text(gate: str) -> str:
    """Ask for pieces; so large that the message is a blob."""
    return f"{LARGE} [[text {len(PIECES)}x8 gate={gate}]]"


def pieces_of(watcher: httpx.Response, deployment: Deployment, gate: str) -> tuple[list[str], list[int]]:
    """Read deltas, each before the next is made; return them, and the ids of what was stored."""
    received: list[str] = []
    stored: list[int] = []
    deployment.let_through(gate)
    for frame in frames(watcher.iter_lines()):
        stored += [frame.id] if frame.id else []
        if frame.event == "event_delta":
            received.append(frame.data["delta"]["content"]["text"])
            deployment.let_through(gate)
    return received, stored


def test_execute_passes_a_delta_on_before_the_model_makes_the_next(deployment: Deployment, gate: str) -> None:
    received: list[str] = []

    deployment.let_through(gate)
    with deployment.send("execute", body={"input": text(gate)}) as response:
        for frame in frames(response.iter_lines()):
            if frame.event == "text" and frame.data["text"]:
                received.append(frame.data["text"])
                deployment.let_through(gate)

    assert received == PIECES
    assert frame.event == "complete"
    assert response.headers["content-type"].startswith("text/event-stream")


def test_who_watches_a_run_of_execute_has_a_delta_before_the_model_makes_the_next(
    deployment: Deployment, gate: str
) -> None:
    with deployment.send("execute", body={"input": text(gate)}) as listener:
        ids = {"session_id": listener.headers["location"].rpartition("/")[2]}
        with deployment.send("stream_events", ids=ids) as watcher:
            seen = deployment.ask("get_session", ids=ids)
            received, stored = pieces_of(watcher, deployment, gate)
        heard = "".join(frame.data["text"] for frame in frames(listener.iter_lines()) if frame.event == "text")

    assert seen["status"] == "running"
    assert received == PIECES
    assert heard == "".join(PIECES)
    assert stored == [event["seq"] for event in deployment.log(ids["session_id"])]


def test_who_watches_a_run_of_the_worker_has_a_delta_before_the_model_makes_the_next(
    deployment: Deployment, pump: Pump, gate: str
) -> None:
    ids = {"session_id": deployment.ask("create_session")["id"]}
    message = {"type": "user.message", "content": [{"type": "text", "text": text(gate)}]}

    with deployment.send("stream_events", ids=ids) as watcher, ThreadPoolExecutor() as threads:
        deployment.ask("send_events", ids=ids, body={"events": [message]})
        worked = threads.submit(pump.pump, deployment.work)
        received, stored = pieces_of(watcher, deployment, gate)

    assert worked.result() == []
    assert received == PIECES
    assert stored == [event["seq"] for event in deployment.log(ids["session_id"])]
    assert pump.counted() == (0, 0)
