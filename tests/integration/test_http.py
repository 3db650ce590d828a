"""The whole dev app over HTTP: the production routers, engine and store on SQLite, with a model that plays."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from anthropic.types.beta import BetaManagedAgentsAgent, BetaManagedAgentsDeletedSession, BetaManagedAgentsSession
from anthropic.types.beta.sessions import BetaManagedAgentsSessionEvent
from fastapi import FastAPI
from inline_snapshot import snapshot
from parley import dev
from parley.adapters.inline import InlineQueue
from parley.api.problems import Problem
from parley.core import event as e
from parley.core.tool import ToolContext, ToolOutcome
from parley.ports import Put
from parley.settings import load
from parley.state import Principal, State
from parley.store import Ref
from pydantic import TypeAdapter

from tests import build
from tests.build import Stage, answer, asked, said, thought, types
from tests.fakes.gate import Gate

pytestmark = pytest.mark.anyio

SDK_EVENT: TypeAdapter[Any] = TypeAdapter(BetaManagedAgentsSessionEvent)
EXECUTE = "/v1/agents/bank/execute"
SLOT = {"idempotency-key": "key-1"}


@dataclass
class Frame:
    """One frame of a stream as a client reads it."""

    id: int | None
    name: str
    data: dict[str, Any]


def frames(response: httpx.Response) -> list[Frame]:
    """Read a whole stream."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in response.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
        if "data" in fields:
            id = int(fields["id"]) if "id" in fields else None
            found.append(Frame(id, fields["event"], json.loads(fields["data"])))
    return found


@dataclass
class Server:
    """The app, and a client for each principal."""

    stage: Stage
    state: State
    app: FastAPI
    http: httpx.AsyncClient

    def as_(self, tenant: str, owner: str) -> httpx.AsyncClient:
        """Call as somebody else."""
        return client(dev.app(load({}), replace(self.state, principal=Principal(tenant, owner))))

    async def run(self, text: str = "Hi", **body: Any) -> dict[str, Any]:
        """Execute to the end and return what came of it."""
        response = await self.http.post(EXECUTE, json={"input": text, "stream": False} | body)
        assert response.status_code == 200, response.text
        told: dict[str, Any] = response.json()
        return told

    async def parked(self) -> tuple[str, str]:
        """Leave a session whose payment has an unknown outcome; return the session's and the call's id."""
        self.stage.plays(answer(asked("pay", {"amount": 5})), pay=ToolOutcome("unknown", "?"))
        told = await self.run("Pay 5")
        self.stage.tools.plays["pay"] = ToolOutcome("ok", "paid")
        return told["session_id"], told["pending_tool_call_ids"][0]


def client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://parley.test")


@pytest.fixture
async def server(stage: Stage) -> AsyncIterator[Server]:
    queue = InlineQueue(lambda tenant, session_id: stage.runner.nudge(Ref(tenant, session_id)))
    state = State(stage.store, {"bank": stage.agent}, Principal("acme", "ann"), stage.runner, queue)
    app = dev.app(load({}), state)
    async with client(app) as http:
        yield Server(stage, state, app, http)


def refused(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Hold a refusal to RFC 9457 and to what the SDK reads."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    Problem.model_validate(problem)
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["error"]["message"] == problem["detail"]
    assert response.headers["request-id"] == response.headers["x-request-id"] == problem["request_id"]
    return dict(problem)


async def idle(server: Server, session_id: str) -> list[e.Event]:
    """Wait until a session is idle; return its log."""
    async with asyncio.timeout(3):
        while True:
            log = await server.stage.log(Ref("acme", session_id))
            if log and isinstance(log[-1], e.StatusIdle):
                return log
            await asyncio.sleep(0.005)


# Executing.


async def test_a_message_is_answered_with_a_stream_of_simple_words(server: Server) -> None:
    server.stage.plays(answer(said("I ", "pay."), asked("pay", {"amount": 5})), answer(said("Paid.")))

    response = await server.http.post(EXECUTE, json={"input": "Pay 5"})

    told = frames(response)
    assert [(frame.id, frame.name) for frame in told] == snapshot(
        [
            (None, "text"),
            (None, "text"),
            (6, "text"),
            (7, "tool_call"),
            (10, "tool_result"),
            (None, "text"),
            (12, "text"),
            (14, "complete"),
        ]
    )
    assert told[-1].data["output"] == "Paid."
    assert response.text.startswith("retry: 1000\n\n")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["location"] == f"/v1/sessions/{told[0].data['session_id']}"
    assert response.headers["content-location"].endswith(f"/runs/{told[0].data['run_id']}")


async def test_the_native_words_of_a_stream_are_the_log(server: Server) -> None:
    server.stage.plays(answer(thought(), said(), asked("look")), answer(said()))

    response = await server.http.post(EXECUTE, params={"vocab": "native"}, json={"input": "Hi"})

    stored = [frame for frame in frames(response) if frame.id is not None]
    session_id = response.headers["location"].rsplit("/", 1)[1]
    assert [frame.data["id"] for frame in stored] == [event.id for event in await idle(server, session_id)]
    assert [frame.id for frame in stored] == list(range(1, len(stored) + 1))
    for frame in stored:
        if not frame.name.startswith(("run.", "tool.")):
            SDK_EVENT.validate_json(json.dumps(frame.data), strict=True)


async def test_without_a_stream_the_end_is_the_answer(server: Server) -> None:
    server.stage.plays(answer(asked("look")), answer(said("Done.")))

    told = await server.run("Look", task_id="ticket-7")

    assert (told["status"], told["output"], told["stop_reason"]) == ("completed", "Done.", "end_turn")
    assert told["usage"]["input_tokens"] == 20
    assert [message["role"] for message in told["messages"]] == ["user", "assistant", "tool", "assistant"]
    assert {message["task_id"] for message in told["messages"]} == {"ticket-7"}


async def test_a_conversation_goes_on_in_its_session(server: Server) -> None:
    server.stage.plays(answer(said("One")), answer(said("Two")))

    first = await server.run("First")
    second = await server.run("Second", session_id=first["session_id"])

    assert second["session_id"] == first["session_id"]
    assert second["run_id"] != first["run_id"]
    assert len(server.stage.model.messages) == 3


async def test_text_that_is_no_unicode_does_not_break_the_stream(server: Server) -> None:
    server.stage.plays(answer(said("a\ud800", "b")))

    response = await server.http.post(EXECUTE, json={"input": "Hi"})

    assert [frame.name for frame in frames(response)][-1] == "complete"


@pytest.mark.parametrize(
    "text", ["NUL \0 here", "\U0001f600" * 1000, "a\u2028\u2029\r\n", "x" * 1_000_000, "ä" * 500_000]
)
async def test_any_text_up_to_the_limit_is_kept_as_it_is(server: Server, text: str) -> None:
    server.stage.plays(answer(said()))

    told = await server.run(text)

    assert told["messages"][0]["content"][0]["text"] == text
    assert server.stage.model.messages[0]["content"][0]["text"] == text


async def test_a_task_may_come_as_a_header(server: Server) -> None:
    server.stage.plays(answer(said()))

    response = await server.http.post(EXECUTE, headers={"x-task-id": "ticket-7"}, json={"input": "Hi", "stream": False})

    assert response.json()["messages"][0]["task_id"] == "ticket-7"


async def test_a_failed_run_says_so_in_every_way(server: Server) -> None:
    server.stage.plays(build.fails("refused_request"), build.fails("refused_request"))

    told = await server.run()
    streamed = frames(await server.http.post(EXECUTE, json={"input": "Hi"}))
    listed = (await server.http.get(f"/v1/sessions/{told['session_id']}/runs")).json()["data"]

    assert (told["status"], told["error"]["code"]) == ("error", "model_refused_request")
    assert [frame.name for frame in streamed] == ["error", "error"]
    assert (listed[0]["status"], listed[0]["error"]["code"]) == ("error", "model_refused_request")


# Refusals store nothing.

GOOD = {"input": "Hi"}

BODIES: list[tuple[str, Any, int, str]] = [
    ("no input", {}, 422, "invalid_input"),
    ("empty input", {"input": ""}, 422, "invalid_input"),
    ("blank input", {"input": " \n\t "}, 422, "invalid_input"),
    ("a number", {"input": 5}, 422, "invalid_input"),
    ("null", {"input": None}, 422, "invalid_input"),
    ("a list", {"input": ["Hi"]}, 422, "invalid_input"),
    ("over-long", {"input": "x" * 1_000_001}, 413, "too_large"),
    ("over-long in bytes", {"input": "ä" * 500_001}, 413, "too_large"),
    ("unknown field", GOOD | {"temperature": 1}, 422, "invalid_input"),
    ("stream of the wrong type", GOOD | {"stream": "no"}, 422, "invalid_input"),
    ("empty task", GOOD | {"task_id": ""}, 422, "invalid_input"),
    ("over-long task", GOOD | {"task_id": "x" * 257}, 422, "invalid_input"),
    ("metadata of the wrong type", GOOD | {"metadata": {"a": 1}}, 422, "invalid_input"),
    ("too much metadata", GOOD | {"metadata": {str(n): "" for n in range(17)}}, 422, "invalid_input"),
    (
        "metadata for a session that exists",
        GOOD | {"session_id": "sesn_9", "metadata": {"a": "b"}},
        422,
        "invalid_input",
    ),
    ("unknown session", GOOD | {"session_id": "sesn_unknown"}, 404, "session_not_found"),
    ("empty session", GOOD | {"session_id": ""}, 422, "invalid_input"),
    ("impossible session", GOOD | {"session_id": "../etc"}, 404, "session_not_found"),
    ("session with NUL", GOOD | {"session_id": "sesn\0"}, 404, "session_not_found"),
    ("over-long session", GOOD | {"session_id": "x" * 5000}, 404, "session_not_found"),
    ("session of the wrong type", GOOD | {"session_id": 5}, 422, "invalid_input"),
    ("no object", ["Hi"], 422, "invalid_input"),
    ("only text", "Hi", 422, "invalid_input"),
]


@pytest.mark.parametrize(("body", "status", "code"), [each[1:] for each in BODIES], ids=[each[0] for each in BODIES])
async def test_a_bad_request_is_refused_before_the_stream_and_stores_nothing(
    server: Server, body: Any, status: int, code: str
) -> None:
    before = server.stage.rows()

    for stream in ({}, {"stream": False}):
        sent = stream | body if isinstance(body, dict) else body
        refused(await server.http.post(EXECUTE, json=sent, headers=SLOT), status, code)

    assert server.stage.rows() == before
    assert server.stage.model.requests == []


RAW: list[tuple[str, bytes, int, str]] = [
    ("nothing", b"", 422, "invalid_input"),
    ("half an object", b'{"input": "Hi"', 400, "malformed"),
    ("no JSON", b"input=Hi", 400, "malformed"),
    ("two values", b'{"input": "Hi"} {}', 400, "malformed"),
    ("no UTF-8", b'{"input": "\xff\xfe"}', 400, "malformed"),
    ("a lone surrogate", b'{"input": "\\ud800"}', 422, "invalid_input"),
    ("a field named by a lone surrogate", b'{"input": "Hi", "\\ud800": 1}', 422, "invalid_input"),
    ("metadata with a lone surrogate", b'{"input": "Hi", "metadata": {"\\ud800": "x"}}', 422, "invalid_input"),
    ("a task with a lone surrogate", b'{"input": "Hi", "task_id": "\\udfff"}', 422, "invalid_input"),
    ("not a number", b'{"input": NaN}', 422, "invalid_input"),
    ("deep lists", b"[" * 100_000 + b"]" * 100_000, 400, "malformed"),
    ("deep objects", b'{"input":' * 100_000 + b"1" + b"}" * 100_000, 400, "malformed"),
    ("a huge number", b'{"input": ' + b"9" * 10_000 + b"}", 400, "malformed"),
    ("more than the gateway takes", b" " * (10 * 1024 * 1024 + 1), 413, "too_large"),
]


@pytest.mark.parametrize(("body", "status", "code"), [each[1:] for each in RAW], ids=[each[0] for each in RAW])
async def test_bytes_that_are_no_request_are_refused_and_store_nothing(
    server: Server, body: bytes, status: int, code: str
) -> None:
    before = server.stage.rows()

    response = await server.http.post(EXECUTE, content=body, headers={"content-type": "application/json"} | SLOT)

    refused(response, status, code)
    assert server.stage.rows() == before


async def test_a_body_that_does_not_say_how_long_it_is_is_counted(server: Server) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 1024 * 1024

    response = await server.http.post(EXECUTE, content=endless(), headers={"content-type": "application/json"})

    refused(response, 413, "too_large")


async def test_a_body_that_is_not_declared_as_json_is_refused(server: Server) -> None:
    """A web page can send anything else to another site unasked."""
    before = server.stage.rows()

    response = await server.http.post(EXECUTE, content=b'{"input": "Hi"}', headers={"content-type": "text/plain"})

    refused(response, 415, "not_json")
    assert server.stage.rows() == before


@pytest.mark.parametrize("agent", ["unknown", "BANK", "bank%00", "%F0%9F%98%80", "x" * 5000])
async def test_an_agent_that_is_not_there_is_refused(server: Server, agent: str) -> None:
    response = await server.http.post(f"/v1/agents/{agent}/execute", json=GOOD)

    refused(response, 404, "agent_not_found")
    refused(await server.http.get(f"/v1/agents/{agent}"), 404, "agent_not_found")


async def test_an_unknown_vocabulary_is_refused(server: Server) -> None:
    refused(await server.http.post(EXECUTE, params={"vocab": "klingon"}, json=GOOD), 422, "invalid_input")


async def test_a_session_of_another_agent_is_refused(server: Server) -> None:
    await server.stage.create(Ref("acme", "sesn_shop"), agent_id="shop")
    before = server.stage.rows()

    refused(await server.http.post(EXECUTE, json=GOOD | {"session_id": "sesn_shop"}), 409, "other_agent")

    assert server.stage.rows() == before


async def test_a_busy_session_is_refused(server: Server) -> None:
    session_id, _ = await server.parked()
    before = server.stage.rows()

    problem = refused(await server.http.post(EXECUTE, json=GOOD | {"session_id": session_id}), 409, "session_busy")

    assert session_id in problem["detail"]
    assert server.stage.rows() == before


async def test_of_two_messages_at_once_one_runs_and_one_is_refused(server: Server) -> None:
    created = (await server.http.post("/v1/sessions", json={"agent": "bank"})).json()
    gate = Gate()
    server.stage.plays([gate, *answer(said())])
    body = GOOD | {"session_id": created["id"], "stream": False}

    both = [asyncio.create_task(server.http.post(EXECUTE, json=body)) for _ in range(2)]
    await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)  # else the first may be over before the second comes
    gate.opened.set()

    assert sorted(response.status_code for response in await asyncio.gather(*both)) == [200, 409]
    assert types(await idle(server, created["id"])).count("user.message") == 1


async def test_unknown_paths_and_methods_are_problems_too(server: Server) -> None:
    refused(await server.http.get("/v1/nothing"), 404, "route_not_found")
    wrong = await server.http.put(EXECUTE, json=GOOD)
    refused(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


async def test_a_wrong_method_is_told_every_right_one(server: Server) -> None:
    session = await server.http.put("/v1/sessions/sesn_9")
    events = await server.http.delete("/v1/sessions/sesn_9/events")
    documents = await server.http.post("/openapi.json")

    assert session.headers["allow"] == "DELETE, GET, POST"
    assert events.headers["allow"] == "GET, POST"
    assert documents.headers["allow"] == "GET, HEAD"


async def test_something_unforeseen_is_a_problem_with_its_request_id(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.stage.table.fail_next("crash")

    response = await server.http.post(EXECUTE, json={"input": "a secret"})

    refused(response, 500, "internal_error")
    assert "a secret" not in caplog.text


@pytest.mark.parametrize("path", ["/v1/sessions", EXECUTE])
async def test_a_store_that_does_not_answer_is_said_with_when_to_come_back(server: Server, path: str) -> None:
    server.stage.table.fail_next("lost", times=8)

    response = await server.http.post(path, json=GOOD if path == EXECUTE else {"agent": "bank"})

    refused(response, 503, "store_unavailable")
    assert response.headers["retry-after"] == "1"


@pytest.mark.parametrize("path", ["/v1/sessions", EXECUTE])
@pytest.mark.parametrize("fault", ["lost", "unconfirmed"])
async def test_a_write_that_was_not_confirmed_is_done_once(server: Server, path: str, fault: Any) -> None:
    server.stage.plays(answer(said()))
    server.stage.table.fail_next(fault)

    response = await server.http.post(path, json=GOOD if path == EXECUTE else {"agent": "bank"}, headers=SLOT)

    assert response.status_code == 200, response.text
    assert len((await server.http.get("/v1/sessions")).json()["data"]) == 1


# The same request twice.


@pytest.mark.parametrize("stream", [True, False])
async def test_the_same_execute_twice_is_one_run_and_the_same_answer(server: Server, stream: bool) -> None:
    server.stage.plays(answer(said("Hel", "lo"), asked("pay")), answer(said("Paid.")))
    body = GOOD | {"stream": stream}

    first = await server.http.post(EXECUTE, json=body, headers=SLOT)
    before = server.stage.rows()
    again = await server.http.post(EXECUTE, json=body, headers=SLOT)

    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    for name in ("location", "content-location"):
        assert again.headers[name] == first.headers[name]
    assert server.stage.rows() == before
    assert server.stage.tools.names == ["pay"]
    if stream:
        one, two = ([frame for frame in frames(each) if frame.id] for each in (first, again))
        assert [(frame.id, frame.name) for frame in one] == [(frame.id, frame.name) for frame in two]
        assert two[0].data["text"] == "Hello"
    else:
        assert first.json() == again.json()


async def test_a_replay_while_the_run_is_at_work_follows_it(server: Server) -> None:
    reached, opened = asyncio.Event(), asyncio.Event()

    async def slow(arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        reached.set()
        await opened.wait()
        return ToolOutcome("ok", "paid")

    server.stage.plays(answer(asked("pay")), answer(said()), pay=slow)
    first = asyncio.create_task(server.http.post(EXECUTE, json=GOOD, headers=SLOT))
    await reached.wait()
    again = asyncio.create_task(server.http.post(EXECUTE, json=GOOD, headers=SLOT))
    await asyncio.sleep(0.01)
    opened.set()

    one, two = [frames(response)[-1] for response in await asyncio.gather(first, again)]

    assert one == two
    assert one.name == "complete"
    assert server.stage.tools.names == ["pay"]


async def test_the_same_execute_at_the_same_time_is_one_run(server: Server) -> None:
    server.stage.plays(answer(said()))
    body = GOOD | {"stream": False}

    several = await asyncio.gather(*(server.http.post(EXECUTE, json=body, headers=SLOT) for _ in range(4)))

    assert {response.status_code for response in several} == {200}
    assert len({response.json()["run_id"] for response in several}) == 1
    assert len(server.stage.model.requests) == 1


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        (EXECUTE, GOOD, {"input": "Bye"}),
        (EXECUTE, GOOD, GOOD | {"stream": False}),
        ("/v1/sessions", {"agent": "bank"}, {"agent": "bank", "title": "Rent"}),
    ],
)
async def test_the_same_key_with_another_body_is_refused(
    server: Server, path: str, one: dict[str, Any], other: dict[str, Any]
) -> None:
    server.stage.plays(answer(said()))
    assert (await server.http.post(path, json=one, headers=SLOT)).status_code == 200
    before = server.stage.rows()

    refused(await server.http.post(path, json=other, headers=SLOT), 422, "idempotency_mismatch")

    assert server.stage.rows() == before


async def test_a_refused_request_may_be_corrected_under_the_same_key(server: Server) -> None:
    server.stage.plays(answer(said()))
    refused(await server.http.post(EXECUTE, json={"input": ""}, headers=SLOT), 422, "invalid_input")

    assert (await server.http.post(EXECUTE, json=GOOD, headers=SLOT)).status_code == 200


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_that_is_none_is_malformed(server: Server, key: str) -> None:
    before = server.stage.rows()

    for path, body in ((EXECUTE, GOOD), ("/v1/sessions", {"agent": "bank"})):
        refused(await server.http.post(path, json=body, headers={"idempotency-key": key}), 400, "malformed")

    assert server.stage.rows() == before


async def test_somebody_elses_key_is_another_key(server: Server) -> None:
    server.stage.plays(answer(said()), answer(said()), answer(said()))

    for caller in (server.http, server.as_("acme", "bob"), server.as_("other", "ann")):
        response = await caller.post(EXECUTE, json=GOOD, headers=SLOT)
        assert "idempotent-replayed" not in response.headers

    assert len(server.stage.model.requests) == 3


async def test_after_a_day_a_key_is_new_again(server: Server) -> None:
    server.stage.plays(answer(said()), answer(said()))
    await server.http.post(EXECUTE, json=GOOD, headers=SLOT)

    server.stage.clock.advance(26 * 3600)
    response = await server.http.post(EXECUTE, json=GOOD, headers=SLOT)

    assert response.status_code == 200
    assert "idempotent-replayed" not in response.headers


async def test_a_replay_of_a_deleted_session_is_not_found(server: Server) -> None:
    server.stage.plays(answer(said()))
    told = await server.http.post(EXECUTE, json=GOOD, headers=SLOT)
    await server.http.delete(told.headers["location"])

    refused(await server.http.post(EXECUTE, json=GOOD, headers=SLOT), 404, "session_not_found")


async def test_the_same_create_twice_is_one_session(server: Server) -> None:
    body = {"agent": "bank", "title": "Rent"}

    first = await server.http.post("/v1/sessions", json=body, headers=SLOT)
    again = await server.http.post("/v1/sessions", json=body, headers=SLOT)

    assert first.json() == again.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert len((await server.http.get("/v1/sessions")).json()["data"]) == 1


# Sessions.


async def test_a_session_has_the_shape_of_the_managed_agents_api(server: Server) -> None:
    body = {"agent": "bank", "title": "Rent", "metadata": {"a": "b"}, "task_id": "ticket-7"}

    created = await server.http.post("/v1/sessions", json=body)
    got = await server.http.get(created.headers["location"])

    assert created.json() == got.json()
    BetaManagedAgentsSession.model_validate_json(got.content, strict=True)
    session = got.json()
    assert (session["title"], session["metadata"], session["task_id"]) == ("Rent", {"a": "b"}, "ticket-7")
    assert (session["status"], session["state"], session["run_status"]) == ("idle", "created", None)
    assert (session["owner"], session["source"]) == ("ann", "api")


async def test_a_session_whose_agent_is_gone_is_still_shown(server: Server) -> None:
    await server.stage.create(Ref("acme", "sesn_old"), agent_id="gone")

    session = (await server.http.get("/v1/sessions/sesn_old")).json()

    assert session["agent"]["id"] == "gone"


async def test_an_agent_may_be_named_as_the_sdk_does(server: Server) -> None:
    body = {"agent": {"id": "bank", "type": "agent", "version": 3}, "environment_id": "env_1"}

    assert (await server.http.post("/v1/sessions", json=body)).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_input"),
        ({"agent": "unknown"}, 404, "agent_not_found"),
        ({"agent": {"id": "bank", "colour": "red"}}, 422, "invalid_input"),
        ({"agent": "bank", "title": "x" * 501}, 422, "invalid_input"),
        ({"agent": "bank", "metadata": {"": "x"}}, 422, "invalid_input"),
        ({"agent": "bank", "metadata": {"a": "x" * 513}}, 422, "invalid_input"),
        ({"agent": "bank", "colour": "red"}, 422, "invalid_input"),
        ({"agent": "bank", "initial_events": [{}]}, 422, "not_supported"),
        ({"agent": "bank", "budget": {"usd": 5}}, 422, "invalid_input"),
        ({"agent": "bank", "budget": {"max_steps": -1}}, 422, "invalid_input"),
        ({"agent": "bank", "budget": {"max_steps": "7"}}, 422, "invalid_input"),
        ({"agent": "bank", "budget": {"max_steps": True}}, 422, "invalid_input"),
        ({"agent": "bank", "budget": {"max_list_cost": {"amount": "5.00", "currency": "USD"}}}, 422, "invalid_input"),
        ({"agent": "bank", "budget": {"max_list_cost": {"amount": "5", "currency": "EUR"}}}, 422, "invalid_input"),
        ({"agent": "bank", "resources": [1]}, 422, "not_supported"),
        ({"agent": "bank", "vault_ids": ["v"]}, 422, "not_supported"),
    ],
)
async def test_a_session_that_cannot_be_is_refused_and_not_stored(
    server: Server, body: dict[str, Any], status: int, code: str
) -> None:
    before = server.stage.rows()

    refused(await server.http.post("/v1/sessions", json=body, headers=SLOT), status, code)

    assert server.stage.rows() == before


async def test_a_session_tells_what_its_run_does(server: Server) -> None:
    seen: list[tuple[str, str, str]] = []

    async def look(arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        session = (await server.http.get(f"/v1/sessions/{context.session_id}")).json()
        seen.append((session["status"], session["run_status"], session["state"]))
        return ToolOutcome("ok", "seen")

    server.stage.plays(answer(asked("pay")), answer(said()), pay=look)
    told = await server.run()
    session = (await server.http.get(f"/v1/sessions/{told['session_id']}")).json()

    assert seen == [("running", "executing", "active")]
    assert (session["status"], session["run_status"], session["state"]) == ("idle", "completed", "active")
    assert (session["stats"]["runs"], session["usage"]["input_tokens"]) == (1, 20)


async def test_a_session_that_goes_on_after_a_persons_word_is_not_shown_as_waiting(server: Server) -> None:
    session_id, call_id = await server.parked()
    seen: list[str] = []

    async def look(arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        seen.append((await server.http.get(f"/v1/sessions/{session_id}")).json()["run_status"])
        return ToolOutcome("ok", "paid")

    server.stage.plays(answer(said()), pay=look)
    await server.http.post(f"/v1/sessions/{session_id}/tool_calls/{call_id}/outcome", json={"outcome": "retry"})
    await idle(server, session_id)

    assert seen == ["executing"]


async def test_a_deleted_session_is_gone_for_every_question(server: Server) -> None:
    server.stage.plays(answer(said()))
    told = await server.run()
    path = f"/v1/sessions/{told['session_id']}"

    deleted = await server.http.delete(path)

    BetaManagedAgentsDeletedSession.model_validate_json(deleted.content, strict=True)
    for question in (path, f"{path}/events", f"{path}/messages", f"{path}/runs", f"{path}/runs/{told['run_id']}"):
        refused(await server.http.get(question), 404, "session_not_found")
    refused(await server.http.delete(path), 404, "session_not_found")
    refused(await server.http.post(EXECUTE, json=GOOD | {"session_id": told["session_id"]}), 404, "session_not_found")
    outcome = await server.http.post(f"{path}/tool_calls/x/outcome", json={"outcome": "retry"})
    refused(outcome, 404, "session_not_found")
    assert (await server.http.get("/v1/sessions")).json()["data"] == []


async def test_another_tenants_and_another_owners_session_looks_like_none(server: Server) -> None:
    session_id, call_id = await server.parked()
    path = f"/v1/sessions/{session_id}"
    before = server.stage.rows()

    for stranger in (server.as_("other", "ann"), server.as_("acme", "bob")):
        for question in (path, f"{path}/events", f"{path}/messages", f"{path}/runs", f"{path}/runs/run_0001"):
            foreign = refused(await stranger.get(question), 404, "session_not_found")
            unknown = refused(await stranger.get(question.replace(session_id, "sesn_9999")), 404, "session_not_found")
            assert foreign["detail"].replace(session_id, "sesn_9999") == unknown["detail"]
        refused(await stranger.delete(path), 404, "session_not_found")
        refused(await stranger.post(EXECUTE, json=GOOD | {"session_id": session_id}), 404, "session_not_found")
        word = await stranger.post(f"{path}/tool_calls/{call_id}/outcome", json={"outcome": "retry"})
        refused(word, 404, "session_not_found")
        assert (await stranger.get("/v1/sessions")).json()["data"] == []

    assert server.stage.rows() == before


async def made(server: Server, count: int) -> list[str]:
    """Create sessions, one each second; return their ids, the newest first."""
    ids: list[str] = []
    for n in range(count):
        server.stage.clock.advance(1)
        response = await server.http.post("/v1/sessions", json={"agent": "bank", "task_id": f"task-{n % 2}"})
        ids.insert(0, response.json()["id"])
    return ids


async def walked(server: Server, path: str, **params: Any) -> list[dict[str, Any]]:
    """Follow a list to its end."""
    rows: list[dict[str, Any]] = []
    page: dict[str, str] = {}
    for _ in range(100):
        found = (await server.http.get(path, params=params | page)).json()
        rows += found["data"]
        assert found["has_more"] == (found.get("next_page") is not None)
        if not found["has_more"]:
            return rows
        page = {"page": found["next_page"]}
    raise AssertionError("the pages have no end")


async def test_sessions_are_listed_page_by_page(server: Server) -> None:
    ids = await made(server, 5)

    assert [row["id"] for row in await walked(server, "/v1/sessions", limit=2)] == ids
    assert [row["id"] for row in await walked(server, "/v1/sessions", limit=2, order="asc")] == ids[::-1]
    first = (await server.http.get("/v1/sessions", params={"limit": 2})).json()
    assert (first["first_id"], first["last_id"]) == (ids[0], ids[1])


async def test_sessions_are_listed_by_offset_with_a_total(server: Server) -> None:
    ids = await made(server, 5)

    found = (await server.http.get("/v1/sessions", params={"limit": 2, "offset": 2, "include_total": True})).json()

    assert [row["id"] for row in found["data"]] == ids[2:4]
    assert (found["total"], found["total_is_lower_bound"]) == (5, False)


async def test_sessions_are_filtered(server: Server) -> None:
    ids = await made(server, 4)
    server.stage.plays(answer(said()), build.fails("refused_request"))
    await server.run(session_id=ids[0])
    await server.run(session_id=ids[1])

    async def found(**params: Any) -> set[str]:
        return {row["id"] for row in await walked(server, "/v1/sessions", limit=1, **params)}

    middle = (await server.http.get(f"/v1/sessions/{ids[2]}")).json()["created_at"]
    assert await found(task_id="task-1") == {ids[0], ids[2]}
    assert await found(agent_id="shop") == set()
    assert await found(source="web") == set()
    assert await found(state="created") == {ids[2], ids[3]}
    assert await found(run_status="completed") == {ids[0]}
    assert await found(run_status=["completed", "error"]) == {ids[0], ids[1]}
    assert await found(status="idle") == set(ids)
    assert await found(**{"statuses[]": "running"}) == set()
    assert await found(**{"created_at[gte]": middle}) == {ids[0], ids[1], ids[2]}
    assert await found(**{"created_at[gt]": middle}) == {ids[0], ids[1]}
    assert await found(**{"created_at[lte]": middle}) == {ids[2], ids[3]}
    assert await found(**{"created_at[lt]": middle}) == {ids[3]}


@pytest.mark.parametrize(
    "params",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "many"},
        {"order": "sideways"},
        {"offset": -1},
        {"offset": 10_001},
        {"state": "sleepy"},
        {"status": "sleepy"},
        {"run_status": "sleepy"},
        {"created_at[gte]": "yesterday"},
        {"created_at[gte]": "2026-11-20T12:00:00"},
        {"created_at[gte]": "2026"},
        {"created_at[lt]": "0.5"},
    ],
    ids=str,
)
async def test_a_question_that_makes_no_sense_is_refused(server: Server, params: dict[str, Any]) -> None:
    refused(await server.http.get("/v1/sessions", params=params), 422, "invalid_input")


LISTS = ["/v1/sessions", "/v1/sessions/{}/events", "/v1/sessions/{}/messages", "/v1/sessions/{}/runs"]


@pytest.mark.parametrize("page", ["nonsense", "ä", "a" * 4000, "\0"])
async def test_a_cursor_that_was_not_made_here_is_malformed(server: Server, page: str) -> None:
    server.stage.plays(answer(said()))
    told = await server.run()

    for path in LISTS:
        response = await server.http.get(path.format(told["session_id"]), params={"page": page})
        refused(response, 400, "malformed")


@pytest.mark.parametrize("path", LISTS)
async def test_a_cursor_of_another_question_is_malformed(server: Server, path: str) -> None:
    server.stage.plays(*[answer(said())] * 4)
    told = await server.run()
    await server.run(session_id=told["session_id"])
    await server.run()
    url = path.format(told["session_id"])
    page = (await server.http.get(url, params={"limit": 1})).json()["next_page"]
    assert page

    other_order = "asc" if path in (LISTS[0], LISTS[3]) else "desc"
    refused(await server.http.get(url, params={"page": page, "order": other_order}), 400, "malformed")
    for other in set(LISTS) - {path}:
        refused(await server.http.get(other.format(told["session_id"]), params={"page": page}), 400, "malformed")


# Events, messages, runs.


async def talked(server: Server) -> str:
    """Have a conversation with two runs and a tool."""
    server.stage.plays(answer(thought(), said("I pay."), asked("pay")), answer(said("Paid.")), answer(said("Bye.")))
    told = await server.run("Pay")
    server.stage.clock.advance(1)
    await server.run("Thanks", session_id=told["session_id"])
    return str(told["session_id"])


@pytest.mark.parametrize("limit", [1, 3, 7, 100])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_events_are_listed_page_by_page(server: Server, limit: int, order: str) -> None:
    session_id = await talked(server)
    log = await server.stage.log(Ref("acme", session_id))

    rows = await walked(server, f"/v1/sessions/{session_id}/events", limit=limit, order=order)

    assert [row["id"] for row in rows] == [event.id for event in (log if order == "asc" else log[::-1])]


async def test_events_have_the_shapes_of_the_managed_agents_api(server: Server) -> None:
    session_id = await talked(server)

    rows = await walked(server, f"/v1/sessions/{session_id}/events", limit=100)

    theirs = [row for row in rows if not row["type"].startswith(("run.", "tool."))]
    assert len(theirs) > 10
    for row in theirs:
        SDK_EVENT.validate_json(json.dumps(row), strict=True)


@pytest.mark.parametrize("after", [0, 1, 5, 20, 1000])
async def test_events_behind_a_place_are_those_with_a_higher_one(server: Server, after: int) -> None:
    session_id = await talked(server)
    count = len(await server.stage.log(Ref("acme", session_id)))

    for order in ("asc", "desc"):
        rows = await walked(server, f"/v1/sessions/{session_id}/events", limit=4, after=after, order=order)
        assert sorted(row["seq"] for row in rows) == list(range(after + 1, count + 1))


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_events_are_filtered_by_type(server: Server, limit: int, order: str) -> None:
    session_id = await talked(server)
    wanted = ["user.message", "agent.message"]

    rows = await walked(server, f"/v1/sessions/{session_id}/events", limit=limit, order=order, **{"types[]": wanted})

    kinds = ["user.message", "agent.message", "agent.message", "user.message", "agent.message"]
    assert [row["type"] for row in rows] == (kinds if order == "asc" else kinds[::-1])


async def test_events_are_listed_by_offset_with_a_total(server: Server) -> None:
    session_id = await talked(server)
    params: dict[str, Any] = {"types[]": "agent.message", "offset": 1, "limit": 1, "include_total": True}

    found = (await server.http.get(f"/v1/sessions/{session_id}/events", params=params)).json()

    assert [row["content"][0]["text"] for row in found["data"]] == ["Paid."]
    assert (found["total"], found["total_is_lower_bound"], found["has_more"]) == (3, False, True)


@pytest.mark.parametrize("params", [{"after": -1}, {"after": "x"}, {"limit": 0}, {"order": "up"}], ids=str)
async def test_a_question_for_events_that_makes_no_sense_is_refused(server: Server, params: dict[str, Any]) -> None:
    session_id = await talked(server)

    refused(await server.http.get(f"/v1/sessions/{session_id}/events", params=params), 422, "invalid_input")


@pytest.mark.parametrize("after", [10**12, 10**18, 10**30, 10**2000])
async def test_events_behind_a_place_that_no_log_reaches_are_none(server: Server, after: int) -> None:
    session_id = await talked(server)

    response = await server.http.get(f"/v1/sessions/{session_id}/events", params={"after": str(after)})

    assert response.status_code in (200, 422)
    if response.status_code == 200:
        assert response.json()["data"] == []


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_messages_are_the_conversation_each_once(server: Server, limit: int, order: str) -> None:
    session_id = await talked(server)

    rows = await walked(server, f"/v1/sessions/{session_id}/messages", limit=limit, order=order)

    told = [(row["role"], row["content"][0]["type"]) for row in rows]
    conversation = [
        ("user", "text"),
        ("assistant", "text"),
        ("assistant", "tool_use"),
        ("tool", "tool_result"),
        ("assistant", "text"),
        ("user", "text"),
        ("assistant", "text"),
    ]
    assert told == (conversation if order == "asc" else conversation[::-1])


async def test_a_message_says_who_wrote_it_and_a_result_which_call_it_is_of(server: Server) -> None:
    session_id = await talked(server)

    rows = await walked(server, f"/v1/sessions/{session_id}/messages")

    text, use, result = rows[1], rows[2]["content"][0], rows[3]["content"][0]
    assert text["author"]["agent_id"] == "bank"
    assert result["tool_use_id"] == use["id"]
    assert (result["name"], result["is_error"], result["content"]) == ("pay", False, [{"type": "text", "text": "done"}])


async def test_messages_have_a_total(server: Server) -> None:
    session_id = await talked(server)

    params = {"include_total": True, "offset": 5}
    found = (await server.http.get(f"/v1/sessions/{session_id}/messages", params=params)).json()

    assert (found["total"], len(found["data"])) == (7, 2)


@pytest.mark.parametrize("limit", [1, 2, 100])
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_runs_are_the_execution_log(server: Server, limit: int, order: str) -> None:
    server.stage.plays(answer(said()), answer(said()), answer(said()))
    first = await server.run("Run 0", task_id="ticket-7")
    for n in (1, 2):
        server.stage.clock.advance(1)
        await server.run(f"Run {n}", session_id=first["session_id"])

    rows = await walked(server, f"/v1/sessions/{first['session_id']}/runs", limit=limit, order=order)

    inputs = ["Run 0", "Run 1", "Run 2"]
    assert [row["input"] for row in rows] == (inputs if order == "asc" else inputs[::-1])
    row = (await server.http.get(f"/v1/sessions/{first['session_id']}/runs/{first['run_id']}")).json()
    assert row in rows
    assert (row["status"], row["stop_reason"], row["task_id"]) == ("completed", "end_turn", "ticket-7")
    assert (row["first_seq"], row["last_seq"]) == (1, 9)
    assert row["usage"]["input_tokens"] == 10


@pytest.mark.parametrize("run_id", ["run_9", "x" * 2000, "%00", "%F0%9F%98%80", "E%23000000000001"])
async def test_an_unknown_run_is_not_found(server: Server, run_id: str) -> None:
    session_id = await talked(server)

    refused(await server.http.get(f"/v1/sessions/{session_id}/runs/{run_id}"), 404, "run_not_found")


@pytest.mark.parametrize("session_id", ["sesn_9", "x" * 2000, "%00", "%F0%9F%98%80", "a.b", "a%2Fb", "S%23acme"])
async def test_an_unknown_session_is_not_found(server: Server, session_id: str) -> None:
    for tail in ("", "/events", "/messages", "/runs"):
        response = await server.http.get(f"/v1/sessions/{session_id}{tail}")

        assert response.status_code == 404
        assert response.json()["code"] in ("session_not_found", "route_not_found")


# A person's word.


@pytest.mark.parametrize(
    ("word", "read"),
    [
        ({"outcome": "happened", "result": "Receipt 7"}, "Receipt 7"),
        ({"outcome": "happened"}, "It happened."),
        ({"outcome": "did_not_happen"}, "This call was interrupted. A person has checked: it did not happen."),
        ({"outcome": "retry"}, "paid"),
    ],
)
async def test_a_persons_word_lets_the_run_go_on(server: Server, word: dict[str, str], read: str) -> None:
    session_id, call_id = await server.parked()
    server.stage.plays(answer(said("Done.")))

    response = await server.http.post(f"/v1/sessions/{session_id}/tool_calls/{call_id}/outcome", json=word)

    assert response.status_code == 200
    assert response.json()["data"][0]["type"] == "tool.outcome_decided"
    log = await idle(server, session_id)
    assert types(log)[-2:] == ["run.finished", "session.status_idle"]
    assert server.stage.model.messages[-1]["content"][0]["content"][0]["text"] == read


async def test_the_first_word_counts_the_same_again_is_no_mistake_and_another_is_too_late(server: Server) -> None:
    session_id, call_id = await server.parked()
    server.stage.plays(answer(said("Done.")))
    path = f"/v1/sessions/{session_id}/tool_calls/{call_id}/outcome"

    first = await server.http.post(path, json={"outcome": "happened"})
    await idle(server, session_id)
    same = await server.http.post(path, json={"outcome": "happened"})
    other = await server.http.post(path, json={"outcome": "did_not_happen"})

    assert same.status_code == 200
    assert same.json()["data"][0] == first.json()["data"][0]
    refused(other, 409, "outcome_decided")
    assert types(await idle(server, session_id)).count("tool.outcome_decided") == 1


async def test_of_two_words_at_once_one_counts(server: Server) -> None:
    session_id, call_id = await server.parked()
    server.stage.plays(answer(said("Done.")))
    path = f"/v1/sessions/{session_id}/tool_calls/{call_id}/outcome"
    words = [{"outcome": "happened"}, {"outcome": "did_not_happen"}]

    both = await asyncio.gather(*(server.http.post(path, json=word) for word in words))

    assert sorted(response.status_code for response in both) == [200, 409]
    assert types(await idle(server, session_id)).count("tool.outcome_decided") == 1


async def test_the_same_word_twice_under_one_key_is_said_once_with_the_same_answer(server: Server) -> None:
    session_id, call_id = await server.parked()
    server.stage.plays(answer(said("Done.")))
    path = f"/v1/sessions/{session_id}/tool_calls/{call_id}/outcome"

    first = await server.http.post(path, json={"outcome": "happened", "result": "Receipt 7"}, headers=SLOT)
    again = await server.http.post(path, json={"outcome": "happened", "result": "Receipt 7"}, headers=SLOT)
    other = await server.http.post(path, json={"outcome": "retry"}, headers=SLOT)

    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    refused(other, 422, "idempotency_mismatch")


async def decided_twice(server: Server) -> tuple[str, list[httpx.Response]]:
    """Let a payment run again whose second attempt is unknown, too, and then say that it happened."""
    session_id, call_id = await server.parked()
    path = f"/v1/sessions/{session_id}/tool_calls/{call_id}/outcome"
    server.stage.tools.plays["pay"] = ToolOutcome("unknown", "?")
    first = await server.http.post(path, json={"outcome": "retry"}, headers={"idempotency-key": "first"})
    await idle(server, session_id)
    server.stage.plays(answer(said("Done.")))
    second = await server.http.post(
        path, json={"outcome": "happened", "attempt": 2}, headers={"idempotency-key": "second"}
    )
    await idle(server, session_id)
    return path, [first, second]


async def test_a_word_on_a_second_attempt_is_a_new_word(server: Server) -> None:
    path, words = await decided_twice(server)

    assert [word.status_code for word in words] == [200, 200]
    log = await idle(server, path.split("/")[3])
    assert types(log).count("tool.outcome_decided") == 2
    assert types(log)[-2] == "run.finished"


async def test_each_of_two_words_is_replayed_as_it_was(server: Server) -> None:
    path, words = await decided_twice(server)
    before = server.stage.rows()

    first = await server.http.post(path, json={"outcome": "retry"}, headers={"idempotency-key": "first"})
    second = await server.http.post(
        path, json={"outcome": "happened", "attempt": 2}, headers={"idempotency-key": "second"}
    )

    assert [first.json(), second.json()] == [word.json() for word in words]
    assert server.stage.rows() == before


async def test_of_two_words_the_last_is_the_one_that_stands(server: Server) -> None:
    path, (_, second) = await decided_twice(server)

    same = await server.http.post(path, json={"outcome": "happened", "attempt": 2})
    other = await server.http.post(path, json={"outcome": "retry", "attempt": 2})

    assert same.status_code == 200
    assert same.json() == second.json()
    refused(other, 409, "outcome_decided")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_input"),
        ({"outcome": "maybe"}, 422, "invalid_input"),
        ({"outcome": "retry", "result": "Receipt"}, 422, "invalid_input"),
        ({"outcome": "happened", "result": "x" * 100_000}, 422, "invalid_input"),
        ({"outcome": "happened", "colour": "red"}, 422, "invalid_input"),
    ],
)
async def test_a_word_that_makes_no_sense_is_refused_and_not_stored(
    server: Server, body: dict[str, Any], status: int, code: str
) -> None:
    session_id, call_id = await server.parked()
    before = server.stage.rows()

    path = f"/v1/sessions/{session_id}/tool_calls/{call_id}/outcome"
    refused(await server.http.post(path, json=body, headers=SLOT), status, code)

    assert server.stage.rows() == before


@pytest.mark.parametrize("call_id", ["sevt_9999", "x" * 2000, "%00"])
async def test_a_word_on_an_unknown_call_is_refused(server: Server, call_id: str) -> None:
    session_id, _ = await server.parked()
    before = server.stage.rows()

    path = f"/v1/sessions/{session_id}/tool_calls/{call_id}/outcome"
    refused(await server.http.post(path, json={"outcome": "retry"}), 404, "tool_call_not_found")

    assert server.stage.rows() == before


async def test_a_word_on_a_call_whose_outcome_is_known_is_refused(server: Server) -> None:
    session_id = await talked(server)
    [use] = [
        row for row in await walked(server, f"/v1/sessions/{session_id}/events") if row["type"] == "agent.tool_use"
    ]

    path = f"/v1/sessions/{session_id}/tool_calls/{use['id']}/outcome"
    response = await server.http.post(path, json={"outcome": "retry"})

    assert response.status_code in (404, 409)


# Agents, health, documents, life.


async def test_agents_have_the_shape_of_the_managed_agents_api(server: Server) -> None:
    agent = await server.http.get("/v1/agents/bank")
    listed = await server.http.get("/v1/agents")

    BetaManagedAgentsAgent.model_validate_json(agent.content, strict=True)
    assert listed.json()["data"] == [agent.json()]
    assert [tool["name"] for tool in agent.json()["tools"]] == ["pay", "file", "look"]
    assert agent.json()["version"] == server.stage.agent.version


async def test_health_says_that_the_store_answers(server: Server) -> None:
    response = await server.http.get("/healthz")

    assert response.json()["status"] == "ok"
    assert response.json()["agents"] == ["bank"]


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
async def test_documents_load_nothing_from_elsewhere(server: Server, path: str) -> None:
    page = await server.http.get(path)

    assert page.status_code == 200
    assert "https://" not in page.text.replace("https://www.w3.org", "")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    for asset in page.text.split('"'):
        if asset.startswith("/docs/assets"):
            assert (await server.http.get(asset)).status_code == 200


async def test_the_description_of_the_api_names_every_route(server: Server) -> None:
    described = (await server.http.get("/openapi.json")).json()["paths"]

    assert set(described) >= {
        "/v1/agents/{agent_id}/execute",
        "/v1/sessions",
        "/v1/sessions/{session_id}",
        "/v1/sessions/{session_id}/events",
        "/v1/sessions/{session_id}/messages",
        "/v1/sessions/{session_id}/runs",
        "/v1/sessions/{session_id}/runs/{run_id}",
        "/v1/sessions/{session_id}/tool_calls/{event_id}/outcome",
        "/v1/agents",
        "/v1/agents/{agent_id}",
        "/healthz",
    }


async def test_a_server_that_starts_goes_on_with_what_the_last_one_left(server: Server) -> None:
    await server.stage.begin(ref=Ref("acme", "sesn_left"))
    server.stage.plays(answer(said("I go on.")))

    async with server.app.router.lifespan_context(server.app):
        log = await idle(server, "sesn_left")

    assert types(log)[-2:] == ["run.finished", "session.status_idle"]


async def test_every_answer_has_a_request_id_of_its_own(server: Server) -> None:
    one, two = [(await server.http.get("/healthz")).headers["request-id"] for _ in range(2)]

    assert one != two


async def test_a_log_that_cannot_be_read_is_a_problem_and_not_a_lie(server: Server) -> None:
    session_id = await talked(server)
    ref = Ref("acme", session_id)
    entry = await server.stage.sqlite.get(ref.entry(1))
    assert entry
    await server.stage.sqlite.write(
        Put({name: entry[name] for name in ("PK", "SK", "append_id", "count")} | {"blob": "x"})
    )

    response = await server.http.get(f"/v1/sessions/{session_id}/events")

    refused(response, 503, "store_unavailable")


# A process that ends before its run.


def short_of_time(server: Server, seconds: float) -> None:
    """Leave the process too little time for a model's answer; the queue's hints go to nobody here."""
    server.stage.runner.deadline.seconds_left = lambda: seconds


async def test_a_stream_whose_run_goes_on_elsewhere_ends_with_the_place_to_go_on_from(server: Server) -> None:
    server.stage.plays(answer(asked("look")), answer(said("Done")), look=ToolOutcome("ok", "seen"))
    short_of_time(server, 5)

    told = frames(await server.http.post(EXECUTE, json={"input": "Look"}))

    log = await server.stage.log(Ref("acme", told[0].data["session_id"]))
    [handed_over] = [event for event in log if isinstance(event, e.StatusRescheduled)]
    assert (handed_over.reason, log[-1]) == ("handed_over", handed_over)
    assert (told[-1].name, told[-1].data["reason"]) == ("stream.rotate", "deadline")
    assert told[-1].data["after"] == handed_over.seq
    assert "error" not in {frame.name for frame in told}


async def test_who_wants_one_answer_of_a_run_that_goes_on_elsewhere_is_told_that_it_runs(server: Server) -> None:
    server.stage.plays(answer(asked("look")), answer(said("Done")), look=ToolOutcome("ok", "seen"))
    short_of_time(server, 5)

    response = await server.http.post(EXECUTE, json={"input": "Look", "stream": False}, headers=SLOT)
    short_of_time(server, 900)
    await server.stage.runner.resume(Ref("acme", response.json()["session_id"]))
    again = await server.http.post(EXECUTE, json={"input": "Look", "stream": False}, headers=SLOT)

    assert (response.status_code, response.json()["status"]) == (202, "running")
    assert (again.status_code, again.json()["status"], again.json()["output"]) == (200, "completed", "Done")
