"""Tools that are Python functions: what reaches them, what comes of them, and what a time-out means."""

import asyncio
import contextvars
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from parley import Agent, Limits, ToolContext, tool
from parley.adapters.python_tools import PythonTools
from parley.core.tool import Effect, Tool, ToolOutcome
from pydantic import BaseModel

CONTEXT = ToolContext("acme", "ann", "sesn_1", "run_1", "sevt_1", "sesn_1.sevt_1")
EFFECTS: list[Effect] = ["read", "idempotent", "non_idempotent"]
REQUEST_ID: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="none")


@pytest.fixture
def toolbox() -> Iterator[PythonTools]:
    toolbox = PythonTools()
    yield toolbox
    toolbox.close()


async def call(toolbox: PythonTools, made: Tool, *, limit: float = 5.0, **arguments: Any) -> ToolOutcome:
    agent = Agent(id="desk", prompt="Help.", tools=(made,), limits=Limits(tool_timeout_seconds=limit))
    return await toolbox.call(agent, made.name, arguments, CONTEXT)


def sync_and_async(body: Callable[[], Any], effect: Effect = "read") -> list[Tool]:
    """The same body as a plain and as an `async` tool."""

    def plain() -> Any:
        return body()

    async def in_loop() -> Any:
        return body()

    return [tool(effect=effect)(plain), tool(effect=effect)(in_loop)]


# What reaches a tool


async def test_an_unknown_tool_is_an_error_that_names_the_known_ones(toolbox: PythonTools) -> None:
    @tool
    def look() -> str:
        return "seen"

    agent = Agent(id="desk", prompt="Help.", tools=(look,))

    outcome = await toolbox.call(agent, "lock", {}, CONTEXT)

    assert outcome == ToolOutcome("error", "There is no tool 'lock'. The tools are: look.")


async def test_arguments_that_do_not_fit_are_an_error_and_nothing_runs(toolbox: PythonTools) -> None:
    ran: list[int] = []

    @tool
    def count(number: int) -> None:
        ran.append(number)

    outcome = await call(toolbox, count, number="many", more=1)

    assert outcome.status == "error"
    assert "The arguments do not fit 'count': number: " in outcome.text
    assert "more: " in outcome.text
    assert not ran


async def test_arguments_come_as_the_types_of_the_signature(toolbox: PythonTools) -> None:
    @tool
    def add(amount: Decimal, times: int = 2) -> str:
        return f"{amount * times} {type(amount).__name__}"

    outcome = await call(toolbox, add, amount="1.10")

    assert outcome == ToolOutcome("ok", "2.20 Decimal")


async def test_a_tool_that_asks_for_the_context_gets_it(toolbox: PythonTools) -> None:
    @tool
    def who(context: ToolContext) -> str:
        return f"{context.owner} {context.idempotency_key}"

    outcome = await call(toolbox, who)

    assert outcome.text == "ann sesn_1.sevt_1"


async def test_plain_tools_run_in_threads_and_async_ones_in_the_loop(toolbox: PythonTools) -> None:
    plain, in_loop = sync_and_async(lambda: threading.current_thread().name)

    assert (await call(toolbox, plain)).text.startswith("tool")
    assert (await call(toolbox, in_loop)).text == threading.current_thread().name


async def test_context_variables_are_kept(toolbox: PythonTools) -> None:
    REQUEST_ID.set("req_1")

    outcomes = [await call(toolbox, made) for made in sync_and_async(REQUEST_ID.get)]

    assert [outcome.text for outcome in outcomes] == ["req_1", "req_1"]


async def test_thirty_plain_tools_run_at_the_same_time(toolbox: PythonTools) -> None:
    everybody = threading.Barrier(30)

    @tool
    def meet() -> None:
        everybody.wait(timeout=5)

    outcomes = await asyncio.gather(*(call(toolbox, meet) for _ in range(30)))

    assert {outcome.status for outcome in outcomes} == {"ok"}


# What a tool gives back


class Colour(str, Enum):  # noqa: UP042 - people still write it
    RED = "red"


class Weather(BaseModel):
    city: str
    degrees: float


@dataclass
class Point:
    x: int
    y: int | None = None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is, \u00fc and all", "as it is, \u00fc and all"),
        ("", ""),
        ({"a": [1, 2.5, "\u00fc"]}, '{"a": [1, 2.5, "\u00fc"]}'),
        ([], "[]"),
        (7, "7"),
        (True, "true"),
        (None, "null"),
        (Weather(city="Rome", degrees=21.5), '{"city": "Rome", "degrees": 21.5}'),
        (Point(1), '{"x": 1, "y": null}'),
        ([Point(1, 2)], '[{"x": 1, "y": 2}]'),
        (Decimal("1.10"), "1.10"),
        (datetime(2026, 11, 20, tzinfo=UTC), "2026-11-20T00:00:00Z"),
        (Colour.RED, "red"),
        ("a\0b\ud800c", "a\ufffdb\ufffdc"),
        ({"a": "\udfff"}, '{"a": "\ufffd"}'),
    ],
)
async def test_what_a_tool_returns_becomes_text(toolbox: PythonTools, value: object, text: str) -> None:
    for made in sync_and_async(lambda: value):
        outcome = await call(toolbox, made)

        assert outcome == ToolOutcome("ok", text)
        outcome.text.encode()


def circle() -> list[object]:
    ring: list[object] = []
    ring.append(ring)
    return ring


@pytest.mark.parametrize("value", [b"bytes", object(), circle(), 10**5000], ids=lambda v: type(v).__name__)
async def test_a_result_that_is_no_text_is_a_clear_error(toolbox: PythonTools, value: object) -> None:
    for made in sync_and_async(lambda: value, "non_idempotent"):
        outcome = await call(toolbox, made)

        assert outcome.status == "error"
        assert f"The tool ran, but its result ({type(value).__name__})" in outcome.text


@pytest.mark.parametrize("effect", EFFECTS)
async def test_an_exception_is_an_error_whatever_the_effect(toolbox: PythonTools, effect: Effect) -> None:
    def explode() -> None:
        raise KeyError("no such account")

    for made in sync_and_async(explode, effect):
        outcome = await call(toolbox, made)

        assert outcome == ToolOutcome("error", "KeyError: 'no such account'")


async def test_a_stop_iteration_does_not_get_lost_in_a_thread(toolbox: PythonTools) -> None:
    @tool
    def first() -> object:
        return next(iter(()))

    outcome = await call(toolbox, first)

    assert outcome.status == "error"
    assert outcome.text.startswith("StopIteration")


async def test_a_failure_is_logged_with_its_place_and_without_its_words(
    toolbox: PythonTools, caplog: pytest.LogCaptureFixture
) -> None:
    @tool
    def sign_in(password: str) -> None:
        raise PermissionError(f"{password} is wrong")

    with caplog.at_level(logging.WARNING, "parley"):
        await call(toolbox, sign_in, password="hunter2")

    (record,) = caplog.records
    said = vars(record)
    assert record.message == "tool_failed"
    assert (said["tool"], said["error"], said["session_id"]) == ("sign_in", "PermissionError", "sesn_1")
    assert said["at"].startswith("test_python_tools.py:")
    assert "hunter2" not in str(said)


@pytest.mark.parametrize("inside", ["thread", "loop"])
async def test_a_tool_that_ends_its_process_fails_instead(toolbox: PythonTools, inside: str) -> None:
    @tool
    def leave() -> None:
        sys.exit(3)

    @tool(name="leave")
    async def leave_the_loop() -> None:
        sys.exit(3)

    said = await call(toolbox, leave if inside == "thread" else leave_the_loop)

    assert said.status == "error"


async def test_an_interrupt_of_the_process_is_not_an_outcome(toolbox: PythonTools) -> None:
    @tool
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await call(toolbox, interrupt)


# What takes too long


@pytest.mark.parametrize(
    ("effect", "status"), [("read", "error"), ("idempotent", "error"), ("non_idempotent", "unknown")]
)
async def test_a_time_out_is_unknown_only_where_repeating_would_do_it_twice(
    toolbox: PythonTools, effect: Effect, status: str
) -> None:
    release = threading.Event()

    @tool(effect=effect)
    def hang() -> None:
        release.wait(10)

    @tool(effect=effect)
    async def hang_in_loop() -> None:
        await asyncio.sleep(10)

    outcomes = [await call(toolbox, hang, limit=0.05), await call(toolbox, hang_in_loop, limit=0.05)]
    release.set()

    assert [outcome.status for outcome in outcomes] == [status, status]
    assert all("timed out after 0.05 s" in outcome.text for outcome in outcomes)


async def test_a_tool_s_own_limit_counts_before_the_agent_s(toolbox: PythonTools) -> None:
    @tool(effect="read", timeout_seconds=0.05)
    async def hang() -> None:
        await asyncio.sleep(10)

    outcome = await call(toolbox, hang, limit=10)

    assert outcome.text == "'hang' timed out after 0.05 s; it may be tried again."


async def test_a_late_result_is_dropped(toolbox: PythonTools) -> None:
    release, done = threading.Event(), threading.Event()

    @tool(effect="read")
    def late() -> str:
        release.wait(10)
        done.set()
        return "late"

    outcome = await call(toolbox, late, limit=0.05)
    release.set()
    await asyncio.to_thread(done.wait, 10)
    await asyncio.sleep(0.01)

    assert outcome.status == "error"


async def test_a_tool_that_will_not_be_cancelled_is_left_behind(toolbox: PythonTools) -> None:
    @tool(effect="read")
    async def stubborn() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                continue

    began = time.monotonic()
    outcome = await call(toolbox, stubborn, limit=0.02)

    assert outcome.status == "error"
    assert time.monotonic() - began < 0.1


async def test_a_call_that_found_no_thread_never_happens_and_may_be_tried_again() -> None:
    toolbox = PythonTools(workers=1)
    release, paid = threading.Event(), threading.Event()

    @tool(effect="read")
    def hang() -> None:
        release.wait(10)

    @tool(effect="non_idempotent")
    def pay() -> None:
        paid.set()

    await call(toolbox, hang, limit=0.05)
    outcome = await call(toolbox, pay, limit=0.05)
    release.set()
    after = await call(toolbox, hang)
    toolbox.close()

    assert outcome == ToolOutcome("error", "'pay' did not begin within 0.05 s; try again later.")
    assert after.status == "ok"
    assert not paid.is_set()


@pytest.mark.parametrize(("effect", "status"), [("read", "error"), ("non_idempotent", "unknown")])
async def test_a_tool_that_cancels_itself_is_interrupted(toolbox: PythonTools, effect: Effect, status: str) -> None:
    def cancel() -> None:
        raise asyncio.CancelledError

    for made in sync_and_async(cancel, effect):
        outcome = await call(toolbox, made)

        assert outcome.status == status
        assert "was cancelled" in outcome.text


async def test_our_own_cancellation_stops_the_tool_and_goes_on_up(toolbox: PythonTools) -> None:
    stopped = asyncio.Event()

    @tool
    async def hang() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            stopped.set()

    calling = asyncio.create_task(call(toolbox, hang))
    await asyncio.sleep(0.01)
    calling.cancel()

    with pytest.raises(asyncio.CancelledError):
        await calling
    await asyncio.wait_for(stopped.wait(), 1)
