"""Claude over the Anthropic API: the bytes it is sent, the bytes it sends, and what its failures mean."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anthropic import Timeout
from parley.adapters.claude.api import ClaudeModel
from parley.adapters.claude.events import EventSplitter, parse
from parley.adapters.claude.failures import retry_after_seconds
from parley.adapters.claude.request import thinking
from parley.core import compaction
from parley.core.answer import Answer
from parley.core.errors import ModelError
from parley.core.message import dump
from parley.ports import ModelRequest

from tests.contract.provider import (
    QUOTE,
    answer_of,
    endpoint,
    failure_of,
    fake_anthropic,
    head,
    hello_events,
    request,
    unused_url,
    user,
)
from tests.fakes.anthropic_server import FakeApi, serving

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def fake() -> Iterator[str]:
    with fake_anthropic() as url:
        yield url


@pytest.fixture
async def claude(fake: str) -> AsyncIterator[ClaudeModel]:
    model = ClaudeModel(api_key="test-key", base_url=fake, timeout=Timeout(5.0, read=0.5))
    yield model
    await model.close()


# The request


async def bodies(fake: str) -> list[dict[str, Any]]:
    async with httpx2.AsyncClient() as http:
        entries = (await http.get(f"{fake}/_requests?bodies=1")).json()
    return [entry["body"] for entry in entries]


async def test_the_body_has_the_exact_bytes_and_one_mark_for_the_whole_and_one_for_the_prompt(
    claude: ClaudeModel, fake: str
) -> None:
    odd = b'{"role" :  "user","content":[{"type":"text","text":"[[text 1x8]] \\u00fc"}]}'

    await answer_of(claude, request(odd))

    body = (await bodies(fake))[-1]
    assert body["messages"] == [json.loads(odd)]
    assert body["tools"] == [QUOTE]
    assert body["cache_control"] == {"type": "ephemeral"}
    assert [block["cache_control"] for block in body["system"]] == [{"type": "ephemeral"}]
    assert json.dumps(body).count("cache_control") == 2
    assert body["thinking"] == {"type": "adaptive", "display": "summarized"}


async def test_what_was_sent_before_is_read_from_the_cache(claude: ClaudeModel) -> None:
    first, _ = await answer_of(claude, request("[[say first of two]]", thinking_tokens=0))
    said = dump({"role": "assistant", "content": [{"type": "text", "text": first.blocks[0].text}]})

    second, _ = await answer_of(claude, request("[[say first of two]]", said, "[[say second]]", thinking_tokens=0))

    assert first.usage.cache_creation_input_tokens > 0
    assert second.usage.cache_read_input_tokens > first.usage.cache_read_input_tokens
    assert second.usage.input_tokens == 0


async def test_a_request_without_tools_and_prompt_is_accepted(claude: ClaudeModel, fake: str) -> None:
    await answer_of(claude, request("[[text 1x8]]", tools=b"[]", system=" "))

    body = (await bodies(fake))[-1]
    assert "tools" not in body
    assert "system" not in body


async def test_a_conversation_with_calls_goes_on_when_the_agent_has_lost_its_tools(claude: ClaudeModel) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "quote", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "0.05", "is_error": False}
    earlier = (dump({"role": "assistant", "content": [call]}), dump({"role": "user", "content": [result]}))

    answer, _ = await answer_of(claude, request("[[tool quote]]", *earlier, "[[say fine]]", tools=b"[]"))

    assert answer.blocks[-1].text == "fine"


async def test_words_are_asked_for_in_a_conversation_with_calls(claude: ClaudeModel, fake: str) -> None:
    words = request("[[tool quote]] [[say fine]]", tool_choice="none", thinking_tokens=0)

    answer, _ = await answer_of(claude, words)

    assert [(block.kind, block.text) for block in answer.blocks] == [("agent.message", "fine")]
    assert (await bodies(fake))[-1]["tool_choice"] == {"type": "none"}


async def test_without_tools_words_need_not_be_asked_for(claude: ClaudeModel, fake: str) -> None:
    await answer_of(claude, request("hello", tools=b"[]", tool_choice="none"))

    assert "tool_choice" not in (await bodies(fake))[-1]


@pytest.mark.parametrize("model", ["claude-sonnet-5-5", "claude-haiku-5-5", "claude-opus-5-5", "claude-haiku-4-5"])
async def test_a_run_that_is_compacted_between_two_calls_goes_on_with_every_kind_of_thinking(
    claude: ClaudeModel, model: str
) -> None:
    """The fake refuses thinking whose conversation has changed, and a turn of a budget model that does not begin so."""
    script = '[[think Hm]] [[tool quote {"n": 1}]]'
    answer, _ = await answer_of(claude, request("Hi", spoken("Hello"), script, model=model))
    call = called(answer)
    context = (user("Hi"), spoken("Hello"), user(script), assistant(answer), results(call, "0.05"))

    summary, _ = await answer_of(claude, replace_head(context, model))
    compacted = compaction.compacted(
        context, 3, compaction.summary_of(summary) + " [[then]] [[think Well]] [[say fine]]"
    )
    assert compacted is not None
    later, _ = await answer_of(claude, request(*compacted, model=model))
    again, _ = await answer_of(claude, request(*compacted, assistant(later), "[[think Hm]] [[say well]]", model=model))

    thinks = [block.kind for block in later.blocks][:-1]
    assert thinks == ([] if model == "claude-haiku-4-5" else ["agent.thinking"])
    assert [block.text for block in later.blocks][-1] == "fine"
    assert [block.kind for block in again.blocks] == ["agent.thinking", "agent.message"]


def spoken(text: str) -> bytes:
    return dump({"role": "assistant", "content": [{"type": "text", "text": text}]})


def called(answer: Answer) -> str:
    return next(block.provider_id for block in answer.blocks if block.kind == "agent.tool_use")


def results(call: str, text: str) -> bytes:
    result = {"type": "tool_result", "tool_use_id": call, "content": [{"type": "text", "text": text}]}
    return dump({"role": "user", "content": [result]})


def replace_head(context: tuple[bytes, ...], model: str) -> ModelRequest:
    """Ask for a summary of all but the call and its result, as the engine does."""
    return request(*compaction.request(context, 3), model=model, thinking_tokens=0, tool_choice="none")


def assistant(answer: Answer) -> bytes:
    """Write an answer as it is sent back."""
    kinds = {"agent.message": ("text", "text"), "agent.thinking": ("thinking", "thinking")}
    blocks: list[dict[str, Any]] = []
    for block in answer.blocks:
        if block.kind == "agent.tool_use":
            blocks.append({"type": "tool_use", "id": block.provider_id, "name": block.name, "input": block.input})
            continue
        kind, field = kinds[block.kind]
        signed = {"signature": block.signature} if kind == "thinking" else {}
        blocks.append({"type": kind, field: block.text, **signed})
    return dump({"role": "assistant", "content": blocks})


async def test_a_prompt_that_is_too_long_is_told_from_other_refusals() -> None:
    with serving(FakeApi(window=100)) as url:
        claude = ClaudeModel(api_key="test-key", base_url=url)
        error = await failure_of(claude, request("word " * 500))
        await claude.close()

    assert error.failure == "context_full"
    assert "maximum" in error.message


ADAPTIVE = {"type": "adaptive", "display": "summarized"}
OFF = {"type": "disabled"}


@pytest.mark.parametrize(
    ("model", "on", "off"),
    [
        ("claude-sonnet-5-5", ADAPTIVE, {"type": "between_tools"}),
        ("us.anthropic.claude-sonnet-5-5", ADAPTIVE, {"type": "between_tools"}),
        ("claude-haiku-5-5", ADAPTIVE, OFF),
        ("claude-sonnet-5", ADAPTIVE, OFF),
        ("claude-sonnet-5-20260630", ADAPTIVE, OFF),
        ("claude-opus-5", ADAPTIVE, OFF),
        ("claude-opus-5-5", ADAPTIVE, None),
        ("claude-fable-5-1", ADAPTIVE, None),
        ("claude-opus-4-8", ADAPTIVE, None),
        ("claude-sonnet-4-6", ADAPTIVE, None),
        ("claude-haiku-4-5-20251001", {"type": "enabled", "budget_tokens": 2000}, None),
        ("anthropic.claude-opus-4-20250514-v1:0", {"type": "enabled", "budget_tokens": 2000}, None),
        ("a-model-of-tomorrow", ADAPTIVE, None),
    ],
)
def test_each_model_is_asked_to_think_in_its_own_way(
    model: str, on: dict[str, Any], off: dict[str, Any] | None
) -> None:
    assert thinking(request("hello", model=model)) == on
    assert thinking(request("hello", model=model, thinking_tokens=1023)) == off
    assert thinking(request("hello", model=model, thinking_tokens=2000, max_tokens=2000)) == off


# Failures


@pytest.mark.parametrize(
    ("status", "failure", "message"),
    [
        ("429", "rate_limited", "This request would exceed the rate limit"),
        ("529", "overloaded", "Overloaded"),
        ("503", "overloaded", "The scripted error"),
        ("500", "request_failed", "Internal server error"),
        ("504", "request_failed", "The scripted error"),
        ("400", "refused_request", "The scripted error"),
        ("401", "no_access", "The scripted error"),
        ("403", "no_access", "The scripted error"),
        ("404", "no_access", "The scripted error"),
        ("413", "context_full", "The scripted error"),
    ],
)
async def test_a_status_is_translated_once_with_the_api_s_words(
    claude: ClaudeModel, status: str, failure: str, message: str
) -> None:
    error = await failure_of(claude, request(f"[[fault {status}]]"))

    assert (error.failure, error.message, error.retry_after_seconds) == (failure, message, None)


async def test_a_refusal_says_what_was_wrong_with_the_request(claude: ClaudeModel) -> None:
    error = await failure_of(claude, request("hello", max_tokens=0))

    assert error.failure == "refused_request"
    assert "max_tokens" in error.message
    assert "test-key" not in error.message


async def test_the_time_to_wait_is_passed_on(claude: ClaudeModel) -> None:
    error = await failure_of(claude, request("[[fault 429 retry_after=7]]"))

    assert (error.failure, error.retry_after_seconds) == ("rate_limited", 7)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.2"}, 1),
        ({"retry-after": "-3"}, 0),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 2),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": "Fri, 20 Nov 2020 10:00:00 GMT"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
    ],
)
def test_the_time_to_wait_is_read_in_every_form(headers: dict[str, str], seconds: int | None) -> None:
    assert retry_after_seconds(httpx2.Headers(headers)) == seconds


def test_the_time_to_wait_may_be_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)

    seconds = retry_after_seconds(httpx2.Headers({"retry-after": date}))

    assert seconds is not None
    assert 28 <= seconds <= 30


@pytest.mark.parametrize("after", [0, 1, 10])
async def test_a_stream_that_is_cut_is_never_an_answer(claude: ClaudeModel, after: int) -> None:
    error = await failure_of(claude, request(f"[[text 20x8]] [[fault cut after={after}]]"))

    assert error.failure == "cut_short"


async def test_a_call_that_is_cut_in_its_middle_is_never_a_call(claude: ClaudeModel) -> None:
    error = await failure_of(claude, request('[[tool quote {"amount": 5, "to": "a"}]] [[fault cut_tool]]'))

    assert error.failure == "cut_short"


async def test_malformed_input_of_a_call_is_never_a_call(claude: ClaudeModel) -> None:
    error = await failure_of(claude, request('[[tool quote {"amount": 5, "to": "a"}]] [[fault malformed_tool_json]]'))

    assert error.failure == "cut_short"
    assert "quote" in error.message


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("overloaded_error", "overloaded"),
        ("rate_limit_error", "rate_limited"),
        ("api_error", "request_failed"),
    ],
)
async def test_an_error_after_status_200_is_an_error(claude: ClaudeModel, kind: str, failure: str) -> None:
    error = await failure_of(claude, request(f"[[text 20x8]] [[fault error_event {kind}]]"))

    assert (error.failure, error.message) == (failure, "The scripted error")


@pytest.mark.parametrize(("when", "failure"), [("", "request_failed"), ("after=3", "cut_short")])
async def test_silence_is_not_waited_for_for_ever(claude: ClaudeModel, when: str, failure: str) -> None:
    error = await failure_of(claude, request(f"[[text 20x8]] [[fault hang 5 {when}]]"))

    assert (error.failure, error.message) == (failure, "The model's provider fell silent.")


async def test_a_provider_that_is_not_there_may_be_tried_again() -> None:
    model = ClaudeModel(api_key="test-key", base_url=await unused_url())

    error = await failure_of(model, request("hello"))
    await model.close()

    assert (error.failure, error.retryable) == ("request_failed", True)


async def test_without_credentials_the_request_is_refused(
    fake: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("API_KEY", "AUTH_TOKEN", "PROFILE", "CONFIG_DIR"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    model = ClaudeModel(base_url=fake)

    error = await failure_of(model, request("hello"))
    await model.close()

    assert (error.failure, error.retryable) == ("no_access", False)


async def test_closing_early_hangs_up_on_the_provider(claude: ClaudeModel, fake: str) -> None:
    stream = claude.stream(request("[[text 100x8 delay=0.05]]"))
    await anext(stream)
    held = dict(stream.ag_frame.f_locals)  # type: ignore[attr-defined]  # no help from the garbage collector

    await stream.aclose()

    async with httpx2.AsyncClient() as http:
        for _ in range(100):
            outcome = (await http.get(f"{fake}/_requests")).json()[-1]["outcome"]
            if outcome != "open":
                break
            await asyncio.sleep(0.02)
    assert held
    assert outcome == "client left"


async def test_a_cancelled_reader_hangs_up_as_well(claude: ClaudeModel) -> None:
    reading = asyncio.create_task(answer_of(claude, request("[[text 100x8 delay=0.05]]")))
    await asyncio.sleep(0.2)

    reading.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reading
    answer, _ = await answer_of(claude, request("[[text 1x8]]"))
    assert answer.stop_reason == "end_turn"


# The bytes of a stream

STREAM = (
    'event: a\ndata: {"n": 1}\n\n: a comment\n\nid: 7\ndata:{"n":\ndata: "zwei \u2028\u00fc"}\n\n'
    'data\n\ndata: {"n": 3}\n\n'
)
EVENTS = [{"n": 1}, {"n": "zwei \u2028\u00fc"}, {"n": 3}]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_events_are_split_wherever_the_bytes_are(size: int, line_end: str) -> None:
    splitter = EventSplitter()
    stream = (STREAM.replace("\n", line_end) + ("x" if line_end == "\r" else "")).encode()

    found = [
        parse(data) for place in range(0, len(stream), size) for data in splitter.take(stream[place : place + size])
    ]

    assert found == EVENTS


def test_an_event_without_its_blank_line_is_not_there() -> None:
    assert list(EventSplitter().take(b'data: {"n": 1}\n')) == []


def test_half_of_a_surrogate_pair_does_not_end_the_stream() -> None:
    assert parse(b'{"text": "a\\ud83d b"}') == {"text": "a? b"}


@pytest.mark.parametrize("data", [b"", b"[1]", b"{", b'{"n": NaN}', b"null", b"[" * 100_000])
def test_what_is_no_event_breaks_the_answer_off(data: bytes) -> None:
    with pytest.raises(ModelError) as caught:
        parse(data)

    assert caught.value.failure == "cut_short"


async def test_a_body_that_does_not_end_behind_the_answer_holds_nobody_up() -> None:
    async def handle(_: bytes, __: bytes, writer: asyncio.StreamWriter) -> None:
        events = (f"data: {json.dumps(event)}\n\n" for event in hello_events())
        writer.write(head("200 OK") + "".join(events).encode())
        await writer.drain()
        await asyncio.sleep(1.5)

    async with endpoint(handle) as url:
        model = ClaudeModel(api_key="test-key", base_url=url, timeout=Timeout(5.0, read=0.3))
        answer, _ = await answer_of(model, request("hello"))
        await model.close()

    assert answer.blocks[0].text == "Hello \u00fc"


async def test_a_page_of_a_proxy_is_not_repeated_to_anybody() -> None:
    async def handle(_: bytes, __: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(head("502 Bad Gateway", "text/html") + b"<html>internal-host-17</html>")

    async with endpoint(handle) as url:
        model = ClaudeModel(api_key="test-key", base_url=url)
        error = await failure_of(model, request("hello"))
        await model.close()

    assert (error.failure, error.message) == (
        "request_failed",
        "The model's provider answered with status 502.",
    )
