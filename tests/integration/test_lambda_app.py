"""The edge of a buffered function: what an API Gateway event becomes, and what is logged of it."""

import asyncio
import base64
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter
from parley import wiring
from parley.api import agents, messages, runs, sessions
from parley.api.depends import States
from parley.lambda_app import http
from parley.settings import load
from parley.state import State
from parley.store import Head, Ref
from parley.store.head import milliseconds

from tests.fakes.invocation import Invocation
from tests.integration import gateway

Invoke = Callable[[dict[str, Any]], dict[str, Any]]
Lines = Callable[[], list[dict[str, Any]]]

CANARY = "the vault's number is 4711"
UNICODE = 'Zoë 🦊 \u2028 "quoted" \\ 你好'

probe = APIRouter()


@probe.post("/v1/sessions/{session_id}/echo")
async def echo(body: dict[str, Any]) -> dict[str, Any]:
    """Answer what was sent."""
    return body


@probe.post("/v1/sessions/{session_id}/break")
async def break_down(body: dict[str, Any]) -> None:
    """Fail, quoting what was sent, as many libraries do."""
    try:
        json.loads(body["said"])
    except ValueError as error:
        raise RuntimeError(f"cannot work with {body['said']}") from error


@probe.post("/v1/sessions/{session_id}/begin")
async def begin(session_id: str, state: States) -> dict[str, str]:
    """Start a run and leave without listening to it."""
    agent = state.agents["wallet"]
    now = milliseconds(state.store.log.clock.now())
    head = Head(session_id, agent.id, state.principal.owner, now, now)
    ref = Ref(state.principal.tenant, session_id)
    claim = await state.store.claims.begin(ref, agent, "What is my balance?", new=head)
    assert state.runner is not None
    state.runner.start(claim, agent)
    return {"run_id": claim.run_id}


@pytest.fixture
def state(tmp_path: Path) -> State:
    settings = load({"PARLEY_DATA": str(tmp_path), "PARLEY_SCRIPTED_DELAY_SECONDS": "0.01"})
    return replace(wiring.running(settings), admin_key=admin_key)


async def admin_key() -> str:
    """Return the key that the recorded events carry."""
    return "local-admin-key"


@pytest.fixture
def invoke(state: State) -> Iterator[Invoke]:
    routers = (probe, sessions.router, runs.router, messages.router, agents.router)
    handler = http.buffered(state, *routers)
    loop = asyncio.get_event_loop()
    yield lambda event: handler(event, Invocation())
    loop.run_until_complete(state.store.table.close())
    left_running = asyncio.all_tasks(loop)
    loop.close()
    asyncio.set_event_loop(None)
    assert not left_running, left_running


@pytest.fixture
def lines(invoke: Invoke) -> Iterator[Lines]:
    [handler] = logging.getLogger("parley").handlers
    assert isinstance(handler, logging.StreamHandler)
    written = io.StringIO()
    before = handler.setStream(written)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    handler.setStream(before)


def event_for(what: str, body: Any = None, ids: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Make a POST to the probe."""
    event = gateway.recorded("get_session") | {"httpMethod": "POST", "body": json.dumps(body)}
    event["resource"] += f"/{what}"
    gateway.fill(event, ids or {})
    event["multiValueHeaders"] |= {"Content-Type": ["application/json"]}
    return event


# Bodies


def test_a_problem_is_answered_as_text_with_its_request_id(invoke: Invoke) -> None:
    answer = invoke(gateway.recorded("get_session"))

    told = json.loads(answer["body"])
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (404, False)
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert told["request_id"] == answer["headers"]["request-id"] == answer["headers"]["x-request-id"]
    assert told["error"]["type"] == "not_found_error"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [('{"agent": ', 400, "malformed"), ('{"agent": 1}', 422, "invalid_input"), (None, 422, "invalid_input")],
)
def test_what_cannot_be_read_is_a_problem(invoke: Invoke, body: str | None, status: int, code: str) -> None:
    answer = invoke(gateway.recorded("create_session") | {"body": body})

    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (status, code)


@pytest.mark.parametrize("encoded", [False, True])
def test_every_character_survives_both_ways(invoke: Invoke, encoded: bool) -> None:
    event = event_for("echo", {"said": UNICODE})
    if encoded:
        event |= {"body": base64.b64encode(event["body"].encode()).decode(), "isBase64Encoded": True}

    answer = invoke(event)

    assert json.loads(answer["body"]) == {"said": UNICODE}
    assert answer["isBase64Encoded"] is False


def test_an_event_of_the_consoles_test_button_has_nothing_but_a_path(invoke: Invoke) -> None:
    nothing = dict.fromkeys(("headers", "multiValueHeaders", "queryStringParameters", "body"))
    event = gateway.recorded("list_agents") | nothing

    answer = invoke(event)

    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (401, "unauthorized")
    assert invoke(event | {"headers": {"X-Api-Key": "local-admin-key"}})["statusCode"] == 200


# Where the app stands


@pytest.mark.parametrize("stage", ["prod", "v1", "$default-ish", "a-b_c"])
def test_a_stage_is_where_the_app_stands_and_no_part_of_its_routes(invoke: Invoke, stage: str) -> None:
    missing, described = gateway.recorded("get_session"), gateway.recorded("openapi")
    for event in (missing, described):
        event["requestContext"] |= {"stage": stage, "path": f"/{stage}{event['path']}"}

    problem, openapi = (json.loads(invoke(event)["body"]) for event in (missing, described))

    assert problem["code"] == "session_not_found"
    assert problem["instance"] == f"/{stage}{missing['path']}"
    assert openapi["servers"] == [{"url": f"/{stage}"}]


@pytest.mark.parametrize("base", ["", "/parley", "/v1", "/v1/sessions"])
def test_behind_a_domain_of_ones_own_a_base_path_is_left_out(invoke: Invoke, base: str) -> None:
    event = gateway.recorded("list_agents")
    path = base + event["path"]
    event |= {"path": path, "requestContext": event["requestContext"] | {"path": path}}

    answer = invoke(event)

    assert [agent["id"] for agent in json.loads(answer["body"])["data"]] == ["wallet"]


def test_an_id_with_a_slash_in_it_is_no_other_route(invoke: Invoke) -> None:
    event = gateway.recorded("get_session")
    gateway.fill(event, {"session_id": "sesn_1%2Fruns"})

    answer = invoke(event)

    assert (answer["statusCode"], json.loads(answer["body"])["code"]) == (404, "session_not_found")


# The end of an invocation


def test_a_run_that_nobody_listens_to_has_ended_before_the_answer(invoke: Invoke, state: State) -> None:
    ids = {"session_id": "sesn_begun"}

    begun = json.loads(invoke(event_for("begin", {}, ids))["body"])

    run = gateway.recorded("get_run")
    gateway.fill(run, ids | begun)
    assert json.loads(invoke(run)["body"])["status"] == "completed"


# What is logged


def test_an_invocation_is_one_line_of_keys(invoke: Invoke, lines: Lines) -> None:
    event = gateway.recorded("get_session")

    answer = invoke(event)

    [line] = lines()
    assert (
        line.items()
        >= {
            "level": "INFO",
            "message": "request_answered",
            "service": "parley",
            "function_name": "probe",
            "correlation_id": event["requestContext"]["requestId"],
            "request_id": answer["headers"]["request-id"],
            "session_id": event["pathParameters"]["session_id"],
            "method": "GET",
            "resource": "/v1/sessions/{session_id}",
            "status": 404,
        }.items()
    )
    assert line["function_request_id"]
    assert line["timestamp"].endswith("+00:00")


def test_a_line_has_no_key_of_the_invocation_before(invoke: Invoke, lines: Lines) -> None:
    invoke(gateway.recorded("get_run"))
    invoke(gateway.recorded("list_agents"))

    first, second = lines()
    assert {"session_id", "run_id"} <= first.keys()
    assert not {"session_id", "run_id"} & second.keys()


def test_what_was_said_is_never_logged_even_by_an_error_that_quotes_it(invoke: Invoke, lines: Lines) -> None:
    answer = invoke(event_for("break", {"said": CANARY}))

    failed, *_ = logged = lines()
    told = json.loads(answer["body"])
    assert (answer["statusCode"], told["code"]) == (500, "internal_error")
    assert (failed["level"], failed["message"], failed["exception_name"]) == ("ERROR", "request_failed", "RuntimeError")
    [answered] = [line for line in logged if line["message"] == "request_answered"]
    assert failed["function_request_id"] == answered["function_request_id"]
    assert "in break_down" in failed["exception"]
    assert "JSONDecodeError at" in failed["exception"]
    assert answered.items() >= {"status": 500, "request_id": told["request_id"]}.items()
    assert CANARY not in json.dumps(logged, ensure_ascii=False)
    assert "4711" not in answer["body"]
