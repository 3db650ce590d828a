"""What an app answers, byte by byte as Lambda gets it."""

import asyncio
import base64
import json
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from parley_runtime.loop import Handler, handle
from parley_runtime.request import App, Message, Receive, Send
from parley_runtime.runtime_api import RuntimeApi

from tests.fakes.runtime_api import ERROR_BODY, ERROR_TYPE, FakeRuntimeApi, serving

REQUEST = json.loads((Path(__file__).parents[2] / "events/execute.json").read_text())
CANARY = "the vault's number is 4711"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRuntimeApi]:
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "")  # set by every invocation, and put back after the test
    with serving("/.rt/probe") as api:
        yield api


@contextmanager
def running(handler: Handler, api: FakeRuntimeApi) -> Iterator[None]:
    """Run the loop in a thread until the block ends."""
    loop = asyncio.new_event_loop()
    client = RuntimeApi(api.address)

    def handle_all() -> None:
        while True:
            handle(client, handler, client.next(), loop)

    def live() -> None:
        with pytest.raises(RuntimeError, match="status 500"):  # how the fake says that it closes
            handle_all()
        loop.close()

    thread = threading.Thread(target=live)
    thread.start()
    try:
        yield
    finally:
        api.closed = True
        thread.join()


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: bytes, *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def says(*messages: Message) -> App:
    """Make an app that sends these messages."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


# The stream


def test_a_piece_leaves_before_the_next_is_made(api: FakeRuntimeApi) -> None:
    taken = [threading.Event() for _ in range(3)]

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(start())
        for number, event in enumerate(taken):
            await send(body(b"%d" % number, more=True))
            assert await asyncio.to_thread(event.wait, 10)
        await send(body(b""))

    with running(app, api):
        exchange = api.invoke(REQUEST)
        pieces = []
        for event in taken:
            pieces.append(exchange.piece())
            event.set()

    assert pieces == [b"0", b"1", b"2"]
    assert exchange.body() == b""
    assert exchange.trailers == {}


def test_the_prelude_has_status_repeated_headers_and_cookies_where_the_gateway_looks(api: FakeRuntimeApi) -> None:
    headers = [
        (b"X-One", b"1"),
        (b"x-two", b"a"),
        (b"X-Two", b"\xe9"),
        (b"Set-Cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
    ]

    with running(says(start(404, *headers), body(b"no")), api):
        exchange = api.invoke(REQUEST)
        assert exchange.body() == b"no"

    assert exchange.prelude == {
        "statusCode": 404,
        "headers": {"x-one": "1"},
        "multiValueHeaders": {"x-two": ["a", "é"]},
        "cookies": ["a=1", "b=2"],
    }


def test_the_prelude_does_not_wait_for_a_body(api: FakeRuntimeApi) -> None:
    begun, go_on = threading.Event(), threading.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(start(201))
        begun.set()
        await asyncio.to_thread(go_on.wait, 10)
        await send(body(b""))

    with running(app, api):
        exchange = api.invoke(REQUEST)
        assert begun.wait(10)
        while exchange.prelude is None:
            assert exchange.state in ("waiting", "running", "answering")
        go_on.set()
        assert exchange.body() == b""

    assert exchange.prelude["statusCode"] == 201


def test_an_empty_piece_is_not_sent_because_it_would_end_the_stream(api: FakeRuntimeApi) -> None:
    with running(says(start(), body(b"", more=True), body(b"a", more=True), body(b"", more=True), body(b"b")), api):
        assert api.invoke(REQUEST).body() == b"ab"


def test_an_app_that_is_faster_than_lambda_waits(api: FakeRuntimeApi) -> None:
    megabyte = bytes(1024 * 1024)
    made: list[int] = []
    looked, go_on = threading.Event(), threading.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(start())
        for number in range(64):
            await send(body(megabyte, more=True))
            made.append(number)
        await send(body(b""))

    with running(app, api):
        exchange = api.invoke(REQUEST)
        taking = exchange.take

        def take_slowly(piece: bytes | None) -> None:
            looked.set()
            go_on.wait(10)
            taking(piece)

        exchange.take = take_slowly  # type: ignore[method-assign]  # the slow reader of this one exchange
        assert looked.wait(10)
        stuck_at = -1
        while stuck_at != len(made):
            stuck_at = len(made)
            threading.Event().wait(0.2)
        go_on.set()
        assert len(exchange.body()) == 64 * len(megabyte)

    assert stuck_at < 32


def test_an_answer_leaves_the_process_ready_for_the_next_event(api: FakeRuntimeApi) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        loops.append(asyncio.get_running_loop())
        await says(start(), body(scope["aws.context"].aws_request_id.encode()))(scope, receive, send)

    with running(app, api):
        exchanges = [api.invoke(REQUEST) for _ in range(3)]
        bodies = [exchange.body().decode() for exchange in exchanges]

    assert bodies == [exchange.id for exchange in exchanges]
    assert len(loops) == 3
    assert len(set(loops)) == 1


def test_an_app_reads_its_body_and_learns_of_a_disconnect_only_when_it_has_answered(api: FakeRuntimeApi) -> None:
    order: list[str] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        request = await receive()
        order.append(request["type"])

        async def listen() -> None:
            order.append((await receive())["type"])

        listening = asyncio.create_task(listen())
        await send(start())
        await send(body(request["body"], more=True))
        await asyncio.sleep(0.05)
        order.append("last piece")
        await send(body(b""))
        await listening

    with running(app, api):
        assert api.invoke(REQUEST).body() == REQUEST["body"].encode()

    assert order == ["http.request", "last piece", "http.disconnect"]


def test_an_app_whose_listener_left_goes_on_to_its_end(api: FakeRuntimeApi, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    ended = threading.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(start())
        for _ in range(50):
            await send(body(b"word ", more=True))
            await asyncio.sleep(0.002)
        await send(body(b""))
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        ended.set()

    with running(app, api):
        exchange = api.invoke(REQUEST, hangs_up=True)
        assert ended.wait(10)
        assert api.invoke("ping").body() == b""

    assert exchange.piece() == b"word "
    assert [record.message for record in caplog.records] == ["listener_left", "event_not_understood"]


def test_an_app_that_asks_is_told_that_its_listener_left(api: FakeRuntimeApi) -> None:
    told = threading.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send(start())
        listening = asyncio.ensure_future(receive())
        while not listening.done():  # a watcher costs nothing any more
            await send(body(b"word ", more=True))
            await asyncio.sleep(0.002)
        assert (await listening)["type"] == "http.disconnect"
        told.set()
        await send(body(b""))

    with running(app, api):
        api.invoke(REQUEST, hangs_up=True)
        assert told.wait(10)


# Failures


def test_a_failure_after_the_first_byte_is_told_in_the_trailers(api: FakeRuntimeApi) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(start())
        await send(body(b"so far", more=True))
        raise ValueError(CANARY)

    with running(app, api):
        exchange = api.invoke(REQUEST)
        assert exchange.body() == b"so far"

    told = json.loads(base64.b64decode(exchange.trailers[ERROR_BODY]))
    assert exchange.trailers[ERROR_TYPE] == told["errorType"] == "Function.ValueError"
    assert CANARY not in str(told)


def test_an_answer_that_was_never_ended_is_a_failure(api: FakeRuntimeApi) -> None:
    with running(says(start(), body(b"half", more=True)), api):
        exchange = api.invoke(REQUEST)
        assert exchange.body() == b"half"

    assert exchange.trailers[ERROR_TYPE] == "Function.RuntimeError"


def test_a_failure_before_the_first_byte_is_an_error_of_the_invocation(
    api: FakeRuntimeApi, caplog: pytest.LogCaptureFixture
) -> None:
    class broken_down(Exception):  # noqa: N801 - the name is the point: Lambda wants another form
        pass

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        raise broken_down(CANARY)

    with running(app, api):
        exchange = api.invoke(REQUEST)
        assert exchange.piece() is None
        assert api.invoke("ping").body() == b""

    assert exchange.prelude is None
    assert exchange.error == {
        "errorType": "Function.Error",
        "errorMessage": "The function failed; its log says where.",
        "stackTrace": [],
    }
    assert caplog.records[0].message == "invocation_failed"


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([], id="nothing"),
        pytest.param([body(b"early")], id="a body without a start"),
        pytest.param([start(200, (b"x-long", b"x" * 16_384)), body(b"")], id="more headers than the gateway reads"),
    ],
)
def test_an_answer_that_cannot_begin_is_an_error_of_the_invocation(
    api: FakeRuntimeApi, messages: list[Message]
) -> None:
    with running(says(*messages), api):
        exchange = api.invoke(REQUEST)
        assert exchange.piece() is None

    assert exchange.error


@pytest.mark.parametrize("late", [body(b"more"), start(500)])
def test_what_comes_after_a_whole_answer_changes_nothing(
    api: FakeRuntimeApi, caplog: pytest.LogCaptureFixture, late: Message
) -> None:
    with running(says(start(), body(b"whole"), late), api):
        exchange = api.invoke(REQUEST)
        assert exchange.body() == b"whole"
        assert api.invoke("ping").body() == b""

    assert (exchange.error, exchange.trailers) == (None, {})
    assert caplog.records[0].message == "app_failed"


def test_an_app_that_was_cancelled_from_within_ends_its_invocation_only(api: FakeRuntimeApi) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        raise asyncio.CancelledError

    with running(app, api):
        exchange = api.invoke(REQUEST)
        assert exchange.piece() is None
        assert api.invoke("ping").body() == b""

    assert exchange.error


# What is not a request, not an app, or not streamed


@pytest.mark.parametrize("event", ["ping", {"Records": []}, None])
def test_an_event_that_is_no_request_is_answered_with_nothing_and_a_line(
    api: FakeRuntimeApi, caplog: pytest.LogCaptureFixture, event: Any
) -> None:
    with running(says(start(500), body(b"never")), api):
        exchange = api.invoke(event)
        assert exchange.body() == b""

    assert exchange.prelude == {"statusCode": 200, "headers": {}, "multiValueHeaders": {}, "cookies": []}
    assert [record.message for record in caplog.records] == ["event_not_understood"]


def test_a_plain_handler_answers_json_in_one_piece(api: FakeRuntimeApi) -> None:
    def handler(event: Any, context: Any) -> Any:
        return {"said": event["say"], "left": context.get_remaining_time_in_millis()}

    with running(handler, api):
        exchange = api.invoke({"say": "Zoë"})
        assert exchange.piece() is None

    assert exchange.prelude is None
    assert exchange.answer["said"] == "Zoë"
    assert 0 < exchange.answer["left"] <= 30_000


def test_a_plain_handler_that_raises_fails_its_invocation(api: FakeRuntimeApi) -> None:
    with running(lambda event, context: event["missing"], api):
        exchange = api.invoke({})
        assert exchange.piece() is None
        following = api.invoke({"missing": 1})
        assert following.piece() is None

    assert exchange.error is not None
    assert exchange.error["errorType"] == "Function.KeyError"
    assert following.answer == 1


@pytest.mark.parametrize(
    ("data", "encoded"),
    [("Zoë".encode(), {"body": "Zoë", "isBase64Encoded": False}), (b"\xff", {"body": "/w==", "isBase64Encoded": True})],
)
def test_under_sam_local_the_answer_is_buffered_proxy_json(
    api: FakeRuntimeApi, monkeypatch: pytest.MonkeyPatch, data: bytes, encoded: dict[str, Any]
) -> None:
    monkeypatch.setenv("AWS_SAM_LOCAL", "true")
    headers = [(b"X-One", b"1"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]

    with running(says(start(201, *headers), body(data[:1], more=True), body(data[1:])), api):
        exchange = api.invoke(REQUEST)
        assert exchange.piece() is None

    named = {"x-one": ["1"], "set-cookie": ["a=1", "b=2"]}
    assert exchange.answer == {"statusCode": 201, "multiValueHeaders": named, **encoded}


def test_under_sam_local_a_late_failure_is_an_error_of_the_invocation(
    api: FakeRuntimeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SAM_LOCAL", "true")

    with running(says(start(), body(b"half", more=True)), api):
        exchange = api.invoke(REQUEST)
        assert exchange.piece() is None

    assert exchange.error


def test_under_sam_local_a_failure_after_the_whole_answer_leaves_the_answer(
    api: FakeRuntimeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SAM_LOCAL", "true")

    with running(says(start(500), body(b"whole"), body(b"more")), api):
        exchange = api.invoke(REQUEST)
        assert exchange.piece() is None

    assert exchange.answer["body"] == "whole"
