"""The edge of a function that streams: the app as the runtime's loop calls it, with API Gateway's events."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from typing import Any

import pytest
from mangum.handlers import APIGateway
from mangum.types import LambdaConfig
from parley.api import execute, sessions
from parley.core import event as e
from parley.core.agent import Agent
from parley.deadline import MARGIN_SECONDS
from parley.lambda_app import http
from parley.state import Principal, State
from parley.store import Ref

from tests.build import Stage, answer, asked, only, said, settled
from tests.fakes.gate import Gate
from tests.fakes.invocation import Invocation
from tests.integration import gateway

pytestmark = pytest.mark.anyio

Lines = Callable[[], list[dict[str, Any]]]
CONFIG: LambdaConfig = {"api_gateway_base_path": "/", "text_mime_types": [], "exclude_headers": []}
CANARY = "the vault's number is 4711"


async def admin_key() -> str:
    """Return the key that the recorded events carry."""
    return "local-admin-key"


class Client:
    """What is at the other end of the runtime's loop."""

    def __init__(self) -> None:
        self.start: MutableMapping[str, Any] = {}
        self.chunks: list[bytes] = []
        self.ended = False

    @property
    def text(self) -> str:
        """All that has come."""
        return b"".join(self.chunks).decode()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.start = message
            return
        self.chunks.append(message.get("body", b""))
        self.ended = not message.get("more_body", False)


class Gone(Client):
    """A client that has left: the runtime's `send` does nothing any more."""

    async def send(self, message: MutableMapping[str, Any]) -> None:
        return


class Function:
    """The functions `execute` and `get_session` in one, on a stage."""

    def __init__(self, stage: Stage) -> None:
        stage.agent = Agent(id="wallet", prompt="Be brief.", tools=stage.agent.tools)
        stage.runner.agents = {"wallet": stage.agent}
        self.stage = stage
        principal = Principal("acme", "admin", admin=True)
        state = State(
            stage.store,
            stage.runner.agents,
            principal,
            stage.runner,
            stage.queue,
            deadline=stage.runner.deadline,
            admin_key=admin_key,
        )
        self.app = http.streamed(state, execute.router, sessions.router)

    async def invoke(self, event: dict[str, Any], client: Client, seconds_left: float = 900.0) -> None:
        """Call the app as the runtime does: nothing more to receive until the answer is given."""
        body = [(event["body"] or "").encode()]
        context = Invocation(seconds_left)
        scope: Any = APIGateway(event, context, CONFIG).scope

        async def receive() -> dict[str, Any]:
            if body:
                return {"type": "http.request", "body": body.pop(), "more_body": False}
            await asyncio.Event().wait()
            raise AssertionError

        async with asyncio.timeout(5):
            await self.app(scope, receive, client.send)

    async def session(self) -> Ref:
        """Name the only session."""
        page = await self.stage.store.sessions.page(
            "acme", question="", wanted=lambda _: True, limit=2, newest_first=False, page=None
        )
        [head] = page.heads
        return Ref("acme", head.id)


@pytest.fixture
async def function(stage: Stage) -> AsyncIterator[Function]:
    yield Function(stage)
    assert not stage.runner.tasks, "a function is frozen when it has answered"


@pytest.fixture
def lines(function: Function) -> Iterator[Lines]:
    [handler] = logging.getLogger("parley").handlers
    assert isinstance(handler, logging.StreamHandler)
    written = io.StringIO()
    before = handler.setStream(written)
    yield lambda: [json.loads(line) for line in written.getvalue().splitlines()]
    handler.setStream(before)


def executing(text: str = "Hi") -> dict[str, Any]:
    return gateway.recorded("execute") | {"body": json.dumps({"input": text})}


async def test_every_piece_goes_out_before_the_next_is_made(function: Function) -> None:
    gate, client = Gate(), Client()
    begun, first, *rest = answer(said("First", "second"))[1:]
    function.stage.plays([begun, first, gate, *rest])

    asking = asyncio.create_task(function.invoke(executing(), client))
    await gate.reached.wait()
    await settled()

    assert client.start["status"] == 200
    assert "First" in client.text
    assert "second" not in client.text
    assert not client.ended
    gate.opened.set()
    await asking
    assert client.ended
    assert "event: complete" in client.text


async def test_a_run_goes_on_when_nobody_takes_what_is_sent_any_more(function: Function) -> None:
    function.stage.plays(answer(asked("look")), answer(said("Done.")))

    await function.invoke(executing(), Gone())

    assert only(e.RunFinished, await function.stage.log(await function.session()))


async def test_a_run_that_does_not_fit_is_handed_over(function: Function) -> None:
    client = Client()
    function.stage.plays(answer(asked("look")))

    await function.invoke(executing(), client, seconds_left=MARGIN_SECONDS + 0.2)

    ref = await function.session()
    assert function.stage.queue.hints == [ref]
    log = await function.stage.log(ref)
    assert [each.reason for each in only(e.StatusRescheduled, log)] == ["handed_over"]
    assert client.ended


async def test_an_invocation_is_one_line_of_keys_whatever_was_said(function: Function, lines: Lines) -> None:
    client, event = Client(), executing(CANARY)
    function.stage.plays(answer(said(CANARY)))

    await function.invoke(event, client)

    [line] = lines()
    [started] = only(e.RunStarted, await function.stage.log(await function.session()))
    headers = {name.decode(): value.decode() for name, value in client.start["headers"]}
    assert (
        line.items()
        >= {
            "level": "INFO",
            "message": "request_answered",
            "correlation_id": event["requestContext"]["requestId"],
            "request_id": headers["request-id"],
            "agent_id": "wallet",
            "session_id": (await function.session()).id,
            "run_id": started.run_id,
            "method": "POST",
            "resource": "/v1/agents/{agent_id}/execute",
            "status": 200,
        }.items()
    )
    assert CANARY not in json.dumps(line, ensure_ascii=False)


async def test_a_refusal_is_told_with_its_status(function: Function, lines: Lines) -> None:
    client = Client()

    await function.invoke(executing(""), client)

    assert client.start["status"] == 422
    assert [line["status"] for line in lines()] == [422]


async def test_the_stage_stands_before_every_address(function: Function) -> None:
    client = Client()
    function.stage.plays(answer(said()))

    await function.invoke(executing(), client)

    headers = {name.decode(): value.decode() for name, value in client.start["headers"]}
    assert headers["location"] == f"/prod/v1/sessions/{(await function.session()).id}"


async def test_runs_are_counted_with_the_invocation_that_drove_them(
    function: Function, capsys: pytest.CaptureFixture[str]
) -> None:
    function.stage.plays(answer(said(), stop_reason="refusal"))

    await function.invoke(executing(), Client())
    await function.invoke(gateway.recorded("get_session"), Client())

    told = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"_aws"' in line]
    assert [(sum(each["RunsStarted"]), sum(each["RunsFailed"])) for each in told] == [(1, 1)]


async def test_the_hint_for_a_message_that_waits_is_given_before_the_function_is_frozen(function: Function) -> None:
    gate = Gate()
    function.stage.plays([gate, *answer(said())])
    asking = asyncio.create_task(function.invoke(executing(), Client()))
    await gate.reached.wait()
    ref = await function.session()
    await function.stage.send("Next", ref=ref)

    gate.opened.set()
    await asking

    assert function.stage.queue.hints == [ref]


async def test_a_run_that_is_cut_off_by_the_deadline_can_be_driven_on_at_once(function: Function) -> None:
    client = Client()
    function.stage.plays([Gate(), *answer(said("Never said"))])

    await function.invoke(executing(), client, seconds_left=MARGIN_SECONDS + 0.2)

    ref = await function.session()
    _, lock = await function.stage.store.sessions.open(ref)
    assert (lock.run is not None, lock.lease_until_ms) == (True, 0)
    assert function.stage.queue.hints == [ref]
    assert client.ended
