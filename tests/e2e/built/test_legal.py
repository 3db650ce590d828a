"""On AWS's own emulator, with a REST API's events: every invocation of every function is legal, late failures too."""

import json
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.built import artifacts
from tests.e2e.built.deployment import Deployment, request
from tests.e2e.emulators import rie
from tests.e2e.emulators.rie import Rie
from tests.e2e.streams import Frame, frames
from tests.e2e.test_runtime_on_emulators import DELIMITER, refusals
from tests.integration import gateway
from tests.integration.drivers import LARGE
from tests.integration.test_functions import TOO_LATE

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.timeout(180)]  # the first one builds

CHANGES: dict[str, dict[str, Any]] = {
    "list_sessions": {"query": {"limit": ["1"]}},
    "send_events": {"body": {"events": [{"type": "user.message", "content": [{"type": "text", "text": LARGE}]}]}},
}
"""What makes an operation use all that it may."""

BUFFERED = ["api", "delete_session", "get_session", "list_sessions"]


@pytest.fixture
def ids(deployment: Deployment) -> dict[str, str]:
    """Have a conversation whose message is a blob."""
    with deployment.send("execute", body={"input": LARGE}) as response:
        response.read()
    _, _, session_id, _, run_id = response.headers["content-location"].removeprefix("/prod").split("/")[1:]
    return {"session_id": session_id, "run_id": run_id, "event_id": "sevt_1"}


@contextmanager
def legally(deployment: Deployment, function: str, invocations: int) -> Iterator[Rie]:
    """Run a function; at its end the emulator has seen so many invocations, and met nothing that is not allowed."""
    with deployment.on_rie(function) as emulator:
        yield emulator
        assert refusals(emulator) == []
        assert emulator.output().count("INVOKE RTDONE(status: success") == invocations


def told(answer: httpx.Response) -> tuple[dict[str, Any], list[Frame]]:
    """Part what a streaming function answered: the prelude, and the frames behind it."""
    prelude, _, body = answer.content.partition(DELIMITER)
    return json.loads(prelude), list(frames(body.decode().splitlines()))


@pytest.mark.parametrize("function", BUFFERED)
def test_every_operation_of_a_buffered_function_is_legal(
    deployment: Deployment, ids: dict[str, str], function: str
) -> None:
    events = {name: request(name, ids=ids, **CHANGES.get(name, {})) for name in gateway.operations()}
    events["archive_session"] = request("archive_session", ids={"session_id": deployment.ask("create_session")["id"]})
    operations = [name for name, event in events.items() if deployment.route(event) == function]

    with legally(deployment, function, len(operations) + 1) as emulator:
        answers = {name: emulator.invoke(events[name]).json() for name in operations}
        refused = emulator.invoke(request(operations[0], headers={"X-Api-Key": "wrong"})).json()

    statuses = {name: answer["statusCode"] for name, answer in answers.items()}
    assert statuses == {name: TOO_LATE[name][0] if name in TOO_LATE else 200 for name in operations}
    assert refused["statusCode"] == 401


def test_second_thoughts_about_a_large_message_are_legal(deployment: Deployment, ids: dict[str, str]) -> None:
    with legally(deployment, "api", 3) as emulator:
        sent = emulator.invoke(request("send_events", ids=ids, **CHANGES["send_events"])).json()
        [message] = json.loads(sent["body"])["data"]
        waits, other = ids | {"event_id": message["id"]}, {"content": [{"type": "text", "text": LARGE[::-1]}]}
        edited = emulator.invoke(request("edit_event", ids=waits, body=other)).json()
        removed = emulator.invoke(request("remove_event", ids=waits)).json()

    assert json.loads(edited["body"]) == message | other
    assert json.loads(removed["body"])["type"] == "event_removed"


def test_every_way_to_execute_is_legal(deployment: Deployment, ids: dict[str, str]) -> None:
    once, gate = {"Idempotency-Key": uuid.uuid4().hex}, uuid.uuid4().hex
    events = {
        "begun": request("execute", headers=once),
        "again": request("execute", headers=once),
        "whole": request("execute", body={"input": "Hi", "session_id": ids["session_id"], "stream": False}),
        "unknown": request("execute", ids={"agent_id": "nobody"}),
    }

    with legally(deployment, "execute", len(events) + 1) as emulator:
        answers = {name: told(emulator.invoke(event)) for name, event in events.items()}
        with deployment.send("execute", body={"input": f"[[text 1x8 gate={gate}]]"}) as busy:
            session_id = busy.headers["location"].rpartition("/")[2]
            refused, _ = told(emulator.invoke(request("execute", body={"input": "Hi", "session_id": session_id})))
            deployment.let_through(gate)
            busy.read()

    statuses = {name: prelude["statusCode"] for name, (prelude, _) in answers.items()}
    assert statuses == {"begun": 200, "again": 200, "whole": 200, "unknown": 404}
    assert answers["begun"][1][-1].event == answers["again"][1][-1].event == "complete"
    assert answers["again"][0]["headers"]["idempotent-replayed"] == "true"
    assert refused["statusCode"] == 409


def test_a_stream_is_legal_when_its_end_is_an_error(deployment: Deployment, ids: dict[str, str]) -> None:
    damage_the_log(deployment, ids["session_id"])

    with legally(deployment, "stream_events", 1) as emulator:
        _, said = told(emulator.invoke(request("stream_events", ids=ids)))

    assert [frame.event for frame in said] == ["error"]
    assert said[0].data["code"] == "log_unreadable"


def test_a_stream_is_legal_when_its_end_is_a_failure_that_nobody_expected(
    deployment: Deployment, ids: dict[str, str]
) -> None:
    with legally(deployment, "stream_events", 2) as emulator:
        late = fail_late(deployment, emulator, ids)
        after = told(emulator.invoke(request("stream_events", ids=ids)))

    assert told(late)[0]["statusCode"] == after[0]["statusCode"] == 200
    assert after[1][-1].event == "session.status_idle"


def test_trailers_tell_a_failure_that_nobody_expected(
    deployment: Deployment, ids: dict[str, str], tmp_path: Path
) -> None:
    layers = [f"/var/layer/{name}/python" for name in ("DepsLayer", "CoreLayer", "AgentLayer")]
    environment = deployment.environment("stream_events", PARLEY_AGENT="agent:agent", PYTHONPATH=":".join(layers))
    python = Path(artifacts.interpreter()[0])
    runs = rie.reading_trailers(
        deployment.folder("stream_events"),
        tmp_path,
        layer=artifacts.built(),
        environment=environment,
        python=python,
        wrapper="RuntimeLayer/python/parley-runtime",
    )

    with runs as emulator:
        whole = emulator.invoke(request("stream_events", ids=ids))
        late = fail_late(deployment, emulator, ids)

    assert "Error-Type" not in whole.headers
    assert late.headers["Error-Type"] == "Function.ValueError"


def test_a_round_of_the_sweeper_and_a_session_that_lapsed_are_legal(
    deployment: Deployment, ids: dict[str, str]
) -> None:
    lapsed = gateway.recorded("session_expired")
    lapsed["Records"][0]["dynamodb"]["Keys"]["PK"]["S"] = f"S#default#{ids['session_id']}"

    with legally(deployment, "sweeper", 3) as emulator:
        round_ = emulator.invoke(gateway.recorded("sweep"))
        expired = emulator.invoke(lapsed)
        removed = emulator.invoke(gateway.recorded("sweep"))

    assert [round_.json(), expired.json(), removed.json()] == [{}, {"batchItemFailures": []}, {}]


def test_a_decision_that_nobody_made_is_legal(deployment: Deployment) -> None:
    body = {"input": f"{LARGE} [[tool forget]] [[then say done]]"}
    with deployment.send("execute", ids={"agent_id": "night"}, body=body) as response:
        response.read()
    session_id = response.headers["location"].rpartition("/")[2]
    time.sleep(1)

    with legally(deployment, "sweeper", 1) as emulator:
        round_ = emulator.invoke(gateway.recorded("sweep"))

    assert round_.json() == {}
    expected = ["session.status_idle", "approval.expired", "agent.tool_result"]
    assert [event["type"] for event in deployment.log(session_id)][-3:] == expected


def damage_the_log(deployment: Deployment, session_id: str) -> None:
    """Put an entry behind the others that nobody can read."""
    key = {"PK": {"S": f"S#default#{session_id}"}, "SK": {"S": f"E#{1000:012}"}}
    item = key | {"append_id": {"S": "-"}, "count": {"N": "1"}, "body": {"B": b"damaged"}}
    deployment.stack.client("dynamodb").put_item(TableName=deployment.stack.resource("Table"), Item=item)


def fail_late(deployment: Deployment, emulator: Rie, ids: dict[str, str]) -> httpx.Response:
    """Watch a session, and let AWS talk nonsense when the stream has begun."""
    marked = len(deployment.recorder.of("stream_events", "PutItem"))
    answers: list[httpx.Response] = []
    event = request("stream_events", ids=ids, query={"from": ["start"], "vocab": ["simple"]})
    watcher = threading.Thread(target=lambda: answers.append(emulator.invoke(event)))
    watcher.start()
    while len(deployment.recorder.of("stream_events", "PutItem")) == marked:
        time.sleep(0.02)
    deployment.recorder.garbled.add("stream_events")
    watcher.join()
    deployment.recorder.garbled.clear()
    return answers[0]
