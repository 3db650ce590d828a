"""The fake Messages API, as a process of its own: through the real SDK, and raw where an SDK would not go."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import Message, MessageParam, ToolParam

from tests.fakes.anthropic_rules import segments
from tests.fakes.anthropic_server import FakeApi, serving

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "fakes" / "anthropic_server.py"
MODEL = "claude-haiku-5-5"
OLD_MODEL = "claude-haiku-4-5"  # takes manual thinking and prefill
HEADERS = {"x-api-key": "test", "anthropic-version": "2026-10-21"}
ADD: ToolParam = {
    "name": "add",
    "description": "Adds.",
    "input_schema": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
}
SEARCH: ToolParam = {"name": "search", "input_schema": {"type": "object"}}
MANUAL = {"type": "enabled", "budget_tokens": 1024}
Json = dict[str, Any]


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """Run the server as a process on a free port."""
    command = [sys.executable, str(SCRIPT), "--port", "0", "--keep-bodies"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().removeprefix("listening on ").strip()
        process.terminate()


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[anthropic.Anthropic]:
    """Give the real SDK, without its retries."""
    with anthropic.Anthropic(base_url=base_url, api_key="test", max_retries=0) as sdk:
        yield sdk


@pytest.fixture(scope="module")
def http(base_url: str) -> Iterator[httpx.Client]:
    """Give a raw client."""
    with httpx.Client(base_url=base_url, headers=HEADERS, timeout=5) as raw:
        yield raw


def user(*content: str | Json) -> Json:
    """Build a user message of texts and blocks."""
    return {"role": "user", "content": [text(part) if isinstance(part, str) else part for part in content]}


def assistant(*content: str | Json) -> Json:
    """Build an assistant message of texts and blocks."""
    return {**user(*content), "role": "assistant"}


def text(words: str, **fields: object) -> Json:
    """Build a text block."""
    return {"type": "text", "text": words, **fields}


def call(tool_use_id: str = "toolu_1", **fields: object) -> Json:
    """Build a tool_use block."""
    return {"type": "tool_use", "id": tool_use_id, "name": "add", "input": {}, **fields}


def result(tool_use_id: str = "toolu_1", **fields: object) -> Json:
    """Build a tool_result block."""
    return {"type": "tool_result", "tool_use_id": tool_use_id, **fields}


def body(*messages: Json, **fields: object) -> Json:
    """Build the smallest valid request."""
    return {"model": MODEL, "max_tokens": 4096, "messages": list(messages or [user("hi")]), **fields}


def post(http: httpx.Client, request: object) -> Json:
    """Send a request that is not streamed and give the message."""
    response = http.post("/v1/messages", json=request)
    assert response.status_code == 200, response.text
    message: Json = response.json()
    return message


def events(http: httpx.Client, request: Json) -> list[tuple[str, Json]]:
    """Send a streamed request and read its events until the connection ends."""
    found = []
    with http.stream("POST", "/v1/messages", json={**request, "stream": True}) as response:
        assert response.status_code == 200, response.read()
        name = ""
        try:
            for line in response.iter_lines():
                field, _, value = line.partition(": ")
                if field == "event":
                    name = value
                elif field == "data":
                    found.append((name, json.loads(value)))
        except httpx.RemoteProtocolError:
            found.append(("dropped", {}))
    return found


def converse(client: anthropic.Anthropic, script: Any, **fields: Any) -> list[Message]:
    """Stream turn after turn through the SDK; every tool says what it was given."""
    messages: list[MessageParam] = [{"role": "user", "content": script}]
    replies: list[Message] = []
    while not replies or replies[-1].stop_reason == "tool_use":
        options = {"model": MODEL, "max_tokens": 4096, "tools": [ADD, SEARCH], **fields}
        with client.messages.stream(messages=messages, **options) as stream:
            reply = stream.get_final_message()
        replies.append(reply)
        messages.append(reply.to_param())
        calls = [block for block in reply.content if block.type == "tool_use"]
        results: Any = [result(block.id, content=json.dumps(block.input)) for block in calls]
        messages.append({"role": "user", "content": results})
    return replies


def said(message: Message | Json) -> str:
    """Join the texts of a message."""
    content = message["content"] if isinstance(message, dict) else message.model_dump()["content"]
    return "".join(block["text"] for block in content if block["type"] == "text")


def test_a_plain_text_is_echoed_in_events_of_the_right_order(http: httpx.Client) -> None:
    found = events(http, body(user("Grüße 👋")))

    names = [name for name, _ in found]
    assert [name for place, name in enumerate(names) if name != names[place - 1] or not place] == [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    pieces = [data["delta"]["text"] for name, data in found if name == "content_block_delta"]
    assert "".join(pieces) == "You said: Grüße 👋"
    assert found[-2][1]["delta"]["stop_reason"] == "end_turn"
    assert found[-2][1]["usage"]["output_tokens"] > 1


def test_the_sdk_streams_two_hundred_numbered_deltas(client: anthropic.Anthropic) -> None:
    ask: list[MessageParam] = [{"role": "user", "content": "[[text 200x8]]"}]
    with client.messages.stream(model=MODEL, max_tokens=4096, messages=ask) as stream:
        pieces = list(stream.text_stream)

    assert [len(piece) for piece in pieces] == [8] * 200
    assert pieces[0] == "0000000 "
    assert pieces[-1] == "0000199."


def test_a_delay_parts_the_deltas_in_time(http: httpx.Client) -> None:
    began = time.monotonic()
    events(http, body(user("[[text 5x8 delay=0.02]]")))

    assert 0.1 <= time.monotonic() - began < 1


def test_a_gate_holds_back_each_delta_until_it_is_let_through(base_url: str, http: httpx.Client) -> None:
    received: list[str] = []

    http.post("/_gates/one")
    with http.stream("POST", "/v1/messages", json=body(user("[[text 3x8 gate=one]]"), stream=True)) as response:
        for line in response.iter_lines():
            if "text_delta" in line:
                received.append(json.loads(line.removeprefix("data: "))["delta"]["text"])
                httpx.post(f"{base_url}/_gates/one")

    assert received == ["0000000 ", "0000001 ", "0000002."]


def test_a_gate_that_stays_closed_lets_nothing_through(http: httpx.Client) -> None:
    lines: list[str] = []

    with (
        http.stream(
            "POST", "/v1/messages", json=body(user("[[text 3x8 gate=shut]]"), stream=True), timeout=0.2
        ) as held,
        pytest.raises(httpx.ReadTimeout),
    ):
        lines.extend(held.iter_lines())

    assert "text_delta" not in "".join(lines)


def test_parallel_calls_are_answered_with_their_quoted_results(client: anthropic.Anthropic) -> None:
    replies = converse(client, 'Please [[say on it]] [[tool add {"a": [1, "]]"]}]] [[tool search]]')

    first, last = replies
    assert [block.type for block in first.content] == ["text", "tool_use", "tool_use"]
    assert said(first) == "on it"
    assert said(last) == 'The tool said: {"a": [1, "]]"]}\nThe tool said: {}'


def test_steps_follow_one_another_over_two_rounds_of_tools(client: anthropic.Anthropic) -> None:
    replies = converse(client, '[[tool add {"a": 1}]] [[then tool add {"a": 2}]] [[then]] [[say both done]]')

    assert [reply.stop_reason for reply in replies] == ["tool_use", "tool_use", "end_turn"]
    assert said(replies[-1]) == "both done"


@pytest.mark.parametrize("thinking", [MANUAL, {"type": "adaptive"}])
def test_signed_thinking_survives_a_round_of_tools(client: anthropic.Anthropic, thinking: Json) -> None:
    model = OLD_MODEL if thinking is MANUAL else MODEL

    replies = converse(client, "[[think step by step]] [[tool add]]", thinking=thinking, model=model)

    block = replies[0].content[0]
    assert block.type == "thinking"
    assert block.thinking == "step by step"
    assert replies[-1].stop_reason == "end_turn"


def test_thinking_is_left_out_where_it_is_off_and_emptied_where_it_is_not_shown(http: httpx.Client) -> None:
    off = post(http, body(user("[[think a]]")))
    hidden = post(http, body(user("[[think a]]"), thinking={"type": "adaptive", "display": "omitted"}))

    assert [block["type"] for block in off["content"]] == ["text"]
    assert hidden["content"][0]["thinking"] == ""
    again = body(user("[[think a]]"), assistant(*hidden["content"]), user("next"), thinking={"type": "adaptive"})
    post(http, again)


def test_changed_or_missing_thinking_is_refused(http: httpx.Client) -> None:
    ask = user("[[think a]] [[tool add]]")
    adaptive = {"thinking": {"type": "adaptive"}, "tools": [ADD]}
    thought, asked = post(http, body(ask, **adaptive))["content"]
    answered = user(result(asked["id"]))

    post(http, body(ask, assistant(thought, asked), answered, **adaptive))
    altered = body(ask, assistant({**thought, "thinking": "b"}, asked), answered, **adaptive)
    assert "invalid `signature`" in refusal(http, altered)
    assert "final block" in refusal(http, body(ask, assistant(thought), user("b"), **adaptive))


def test_the_oldest_thinking_of_a_turn_may_be_left_out_but_none_behind_thinking_that_is_kept(
    http: httpx.Client,
) -> None:
    ask = user("[[think a]] [[tool add]] [[then think b]] [[tool add]]")
    adaptive = {"thinking": {"type": "adaptive"}, "tools": [ADD]}
    thought, asked = post(http, body(ask, **adaptive))["content"]
    began = [ask, assistant(thought, asked), user(result(asked["id"]))]
    later_thought, later_asked = post(http, body(*began, **adaptive))["content"]
    later = user(result(later_asked["id"]))

    without_any = [ask, assistant(asked), user(result(asked["id"])), assistant(later_asked), later]
    post(http, body(*without_any, **adaptive))
    post(http, body(*without_any[:3], assistant(later_thought, later_asked), later, **adaptive))
    assert "expected `thinking`" in refusal(http, body(*began, assistant(later_asked), later, **adaptive))


def test_a_prompt_that_does_not_fit_the_window_is_refused_with_its_length() -> None:
    request = body(user("word " * 100))
    tokens = sum(segment.tokens for segment in segments(request))

    with serving(FakeApi(window=tokens)) as fits, serving(FakeApi(window=tokens - 1)) as full:
        accepted, refused = (httpx.post(f"{url}/v1/messages", json=request, headers=HEADERS) for url in (fits, full))

    assert accepted.status_code == 200
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == f"prompt is too long: {tokens} tokens > {tokens - 1} maximum"


def test_recall_and_count_show_what_was_sent(http: httpx.Client) -> None:
    history = [user("one"), assistant(call()), user(result(content="3"), "two"), assistant("ok")]

    recalled = post(http, body(*history, user("[[recall]]"), tools=[ADD]))
    counted = post(http, body(*history, user("[[count]]"), tools=[ADD]))

    assert json.loads(said(recalled)) == ["one", "two", "[[recall]]"]
    assert said(counted) == "messages=5 user_texts=3 tool_results=1 images=0"


def test_the_same_request_gives_the_same_answer_and_another_one_other_ids(http: httpx.Client) -> None:
    first, again, other = (post(http, body(user(f"[[tool add]] {word}"), tools=[ADD])) for word in ("x", "x", "y"))

    assert first == again
    assert first["content"][0]["id"] != other["content"][0]["id"]


def test_limits_and_choices_of_the_request_are_heeded(http: httpx.Client) -> None:
    short = post(http, body(user("[[text 9x8]]"), max_tokens=4))
    stopped = post(http, body(user("[[say one two three]]"), stop_sequences=["three", "two"]))
    forced = post(http, body(tools=[SEARCH, ADD], tool_choice={"type": "tool", "name": "add"}))
    forbidden = post(http, body(user("[[tool add]]"), tools=[ADD], tool_choice={"type": "none"}))
    single = {"type": "auto", "disable_parallel_tool_use": True}
    alone = post(http, body(user("[[tool add]] [[tool add]]"), tools=[ADD], tool_choice=single))

    assert (short["stop_reason"], said(short)) == ("max_tokens", "0000000 0000001 ")
    assert (stopped["stop_reason"], stopped["stop_sequence"], said(stopped)) == (
        "stop_sequence",
        "two",
        "one",
    )
    assert forced["content"][0]["input"] == {"a": 1}
    assert forbidden["stop_reason"] == "end_turn"
    assert len(alone["content"]) == 1


def test_a_marked_prefix_is_written_once_and_then_read(http: httpx.Client) -> None:
    system = [text("You are a cached prompt. " * 50, cache_control={"type": "ephemeral"})]

    first = post(http, body(user("cache"), system=system))["usage"]
    moved = body(user("cache"), assistant("a"), user("b"), system=system, cache_control={"type": "ephemeral"})
    second = post(http, moved)["usage"]

    assert first["cache_creation_input_tokens"] == second["cache_read_input_tokens"] > 300
    assert first["cache_read_input_tokens"] == second["input_tokens"] == 0 < second["cache_creation_input_tokens"]


def refusal(http: httpx.Client, request: object) -> str:
    """Send a request that must be refused with 400 and give the message of the error."""
    response = http.post("/v1/messages", json=request)
    assert response.status_code == 400, response.text
    error = response.json()
    assert error["type"] == "error"
    assert error["error"]["type"] == "invalid_request_error"
    assert error["request_id"] == response.headers["request-id"]
    return str(error["error"]["message"])


def test_the_smallest_valid_requests_are_accepted(http: httpx.Client) -> None:
    post(http, body({"role": "user", "content": "hi"}))
    post(http, body(user("a"), assistant("b"), assistant("c"), user("d"), user("e")))
    post(http, body(user("a"), assistant(call()), user(result(content=""), "and"), tools=[ADD]))
    post(http, body(user("a"), assistant("I say"), model=OLD_MODEL))


def image(media_type: str = "image/png", data: str = "iVBORw0KGgo=") -> Json:
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def url(address: str) -> Json:
    return {"type": "image", "source": {"type": "url", "url": address}}


PNG = image()
PAIR = [user("a"), assistant(call())]
MARK = {"cache_control": {"type": "ephemeral"}}
HOUR = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
FORGED = {"type": "thinking", "thinking": "a", "signature": "c2ln"}
REFUSED: dict[str, tuple[Json, str]] = {
    "no model": ({"max_tokens": 1, "messages": [user("a")]}, "model: field required"),
    "an empty model": (body(model=" "), "model: string should have"),
    "no max_tokens": ({"model": MODEL, "messages": [user("a")]}, "max_tokens: field required"),
    "max_tokens that is no integer": (body(max_tokens="5"), "max_tokens: input should be a valid int"),
    "max_tokens that is a boolean": (body(max_tokens=True), "max_tokens: input should be a valid int"),
    "max_tokens of zero": (body(max_tokens=0), "max_tokens: input should be greater"),
    "no messages": ({"model": MODEL, "max_tokens": 1}, "messages: field required"),
    "empty messages": (body() | {"messages": []}, "messages: between 1 and"),
    "an unknown field": (body(unknown=1), "unknown: extra inputs"),
    "a sampling parameter of the old API": (body(temperature=1), "temperature: extra inputs"),
    "an assistant who begins": (body(assistant("a"), user("b")), "first message must use"),
    "another role": (body(user("a"), {"role": "system", "content": "b"}), "messages.1.role"),
    "empty content": (body(user()), "non-empty content"),
    "an empty string": (body({"role": "user", "content": ""}), "non-empty content"),
    "a blank string": (body({"role": "user", "content": " \n"}), "must be non-empty"),
    "an empty text block": (body(user("a", "")), "messages.0.content.1.text"),
    "an empty text in a result": (
        body(*PAIR, user(result(content=[text("")])), tools=[ADD]),
        "must be non-empty",
    ),
    "a blank system block": (body(system=[text(" ")]), "system.0.text"),
    "an unknown field in a block": (body(user(text("a", parsed_output=None))), "parsed_output: extra inputs"),
    "an unknown block": (body(user({"type": "video"})), "input tag 'video'"),
    "a call by the user": (body(user(call()), tools=[ADD]), "blocks are not allowed here"),
    "a document by the assistant": (body(user("a"), assistant({"type": "document"})), "not allowed here"),
    "trailing blanks at the end": (body(user("a"), assistant("b "), model=OLD_MODEL), "trailing whitespace"),
    "prefill for a new model": (
        body(user("a"), assistant("b")),
        "does not support assistant message prefill",
    ),
    "a call without result": (body(*PAIR, user("b"), tools=[ADD]), "without `tool_result`"),
    "a call at the end": (body(*PAIR, tools=[ADD]), "without `tool_result`"),
    "a result two messages later": (
        body(*PAIR, user("b"), user(result()), tools=[ADD]),
        "without `tool_result`",
    ),
    "one of two results": (
        body(user("a"), assistant(call(), call("toolu_2")), user(result()), tools=[ADD]),
        "immediately after: toolu_2",
    ),
    "a text before the result": (body(*PAIR, user("b", result()), tools=[ADD]), "must come first"),
    "a result without call": (body(user(result()), tools=[ADD]), "unexpected `tool_use_id`"),
    "two results for one call": (body(*PAIR, user(result(), result()), tools=[ADD]), "found multiple"),
    "an id used twice": (
        body(*PAIR, user(result()), *PAIR[1:], user(result()), tools=[ADD]),
        "ids must be unique",
    ),
    "an id with a dot": (
        body(user("a"), assistant(call("a.b")), user(result("a.b")), tools=[ADD]),
        "pattern",
    ),
    "tool blocks without tools": (body(*PAIR, user(result())), "tools: field required"),
    "an input that is no object": (body(user("a"), assistant(call(input=[])), tools=[ADD]), "valid object"),
    "a tool name with a blank": (body(tools=[{**ADD, "name": "a b"}]), "string should match pattern"),
    "a tool name that is too long": (body(tools=[{**ADD, "name": "a" * 129}]), "string should match pattern"),
    "two tools of one name": (body(tools=[ADD, ADD]), "tool names must be unique"),
    "a schema that is no object": (
        body(tools=[{"name": "a", "input_schema": {"type": "array"}}]),
        "'object'",
    ),
    "an unknown kind of tool": (body(tools=[{"type": "hammer", "name": "a"}]), "input tag 'hammer'"),
    "a choice of an unknown tool": (
        body(tools=[ADD], tool_choice={"type": "tool", "name": "b"}),
        "not found in",
    ),
    "a choice without tools": (body(tool_choice={"type": "auto"}), "only be specified while"),
    "forged thinking": (body(user("a"), assistant(FORGED, "b"), user("c")), "invalid `signature`"),
    "a small budget": (body(model=OLD_MODEL, thinking={**MANUAL, "budget_tokens": 1023}), "at least 1024"),
    "a budget beyond max_tokens": (
        body(model=OLD_MODEL, thinking={**MANUAL, "budget_tokens": 4096}),
        "greater than",
    ),
    "a manual turn that does not begin with thinking": (
        body(*PAIR, user(result()), tools=[ADD], model=OLD_MODEL, thinking=MANUAL),
        "expected `thinking`, but found `tool_use`",
    ),
    "five cache marks": (body(user(*(text("a", **MARK) for _ in range(5)))), "a maximum of 4 blocks"),
    "a longer mark after a shorter one": (
        body(user(text("a", **MARK), text("b", **HOUR))),
        "must not come after",
    ),
    "an image by the assistant": (body(user("a"), assistant(PNG), user("b")), "not allowed here"),
    "an image of another kind": (body(user(image(media_type="image/bmp"))), "media_type: input should be one of"),
    "an image that is another": (body(user(image(media_type="image/gif"))), "does not appear to be image/gif"),
    "an image that is no base64": (body(user(image(data="*"))), "invalid or empty base64"),
    "an image that is too large": (body(user(image(data="A" * 5_242_884))), "image exceeds 5 MB maximum"),
    "an image from nowhere": (
        body(user({"type": "image", "source": {"type": "text", "data": "a"}})),
        "none of 'base64'",
    ),
    "an image without TLS": (body(user(url("http://example.com/a.png"))), "only HTTPS URLs"),
    "101 images": (body(user(*[PNG] * 101)), "too many images"),
    "a script with a slip": (body(user("[[text many]]")), "fake model: [[text many]]"),
}


def test_images_are_read_and_cost_what_images_cost(client: anthropic.Anthropic) -> None:
    large = image(data=base64.b64encode(b"\x89PNG\r\n\x1a\n".ljust(600_000, b"x")).decode())

    reply = converse(client, [*[large] * 5, url("https://example.com/a.png"), text("[[count]]")])[-1]

    assert said(reply) == "messages=1 user_texts=1 tool_results=0 images=6"
    assert 6 * 1600 < reply.usage.input_tokens < 6 * 1600 + 1000


@pytest.mark.parametrize("case", REFUSED)
def test_the_api_refuses(http: httpx.Client, case: str) -> None:
    request, message = REFUSED[case]

    assert message in refusal(http, request)


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"model": NaN}', b'{"model": "\\ud800"}', b'"\xff"', b"[" * 9**5])
def test_a_body_that_is_no_strict_json_object_is_refused(http: httpx.Client, raw: bytes) -> None:
    assert http.post("/v1/messages", content=raw).status_code == 400


def test_requests_without_key_version_bounds_or_a_known_path_are_refused(base_url: str, http: httpx.Client) -> None:
    versionless = httpx.post(f"{base_url}/v1/messages", headers={"x-api-key": "k"}, json=body())
    keyless = httpx.post(f"{base_url}/v1/messages", json=body())
    bearer = {"authorization": "Bearer k", "anthropic-version": "2023-06-01"}
    large = http.post("/v1/messages", content=b" " * (32 * 1024 * 1024 + 1))

    assert httpx.post(f"{base_url}/v1/messages", headers=bearer, json=body(top_k=1)).status_code == 200
    assert (versionless.status_code, keyless.status_code, large.status_code) == (400, 401, 413)
    assert keyless.json()["error"]["type"] == "authentication_error"
    assert large.json()["error"]["type"] == "request_too_large"
    assert http.get("/v1/other").json()["error"]["type"] == "not_found_error"
    assert http.get("/v1/messages").status_code == 405


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("429 retry_after=1", anthropic.RateLimitError),
        ("529", anthropic.OverloadedError),
        ("500", anthropic.InternalServerError),
    ],
)
def test_an_http_fault_fails_as_often_as_it_says(
    client: anthropic.Anthropic, fault: str, error: type[anthropic.APIStatusError]
) -> None:
    ask: list[MessageParam] = [{"role": "user", "content": f"[[fault {fault} times=2]] hello"}]

    for _ in range(2):
        with pytest.raises(error) as caught:
            client.messages.create(model=MODEL, max_tokens=99, messages=ask)
        assert caught.value.response.headers.get("retry-after") == ("1" if "retry" in fault else None)
    assert "hello" in said(client.messages.create(model=MODEL, max_tokens=99, messages=ask))


def test_faults_of_one_step_come_one_after_the_other(http: httpx.Client) -> None:
    request = body(user("[[fault 500 times=1 key=k1]] [[fault 529 times=1 key=k1]]"))

    statuses = [http.post("/v1/messages", json=request).status_code for _ in range(3)]

    assert statuses == [500, 529, 200]


def test_a_cut_stream_drops_before_message_stop(http: httpx.Client) -> None:
    early = [name for name, _ in events(http, body(user("[[text 9x8]] [[fault cut after=3]]")))]
    late = [name for name, _ in events(http, body(user("[[text 9x8]] [[fault cut after=99]]")))]

    assert early.count("content_block_delta") == 3
    assert (early[-1], late[-1]) == ("dropped", "dropped")
    assert late[-2] == "message_delta"
    with pytest.raises(httpx.RemoteProtocolError):
        http.post("/v1/messages", json=body(user("[[text 9x8]] [[fault cut]]")))


def test_a_tool_input_is_cut_or_broken_or_ends_too_soon(http: httpx.Client) -> None:
    found = {}
    for kind in ("cut_tool", "malformed_tool_json", "max_tokens"):
        request = body(user(f'[[tool add {{"amount": 1}}]] [[fault {kind}]]'), tools=[ADD])
        stream = events(http, request)
        deltas = [data["delta"]["partial_json"] for name, data in stream if name == "content_block_delta"]
        reasons = [data["delta"]["stop_reason"] for name, data in stream if name == "message_delta"]
        found[kind] = ("".join(deltas), stream[-1][0], reasons)

    assert found == {
        "cut_tool": ('{"amou', "dropped", []),
        "malformed_tool_json": ('{"amount": 1', "message_stop", ["tool_use"]),
        "max_tokens": ('{"amou', "message_stop", ["max_tokens"]),
    }


def test_an_error_event_follows_status_200(http: httpx.Client, client: anthropic.Anthropic) -> None:
    script = "[[text 9x8]] [[fault error_event overloaded_error after=2]]"

    found = events(http, body(user(script)))

    assert [name for name, _ in found][-2:] == ["content_block_delta", "error"]
    assert found[-1][1]["error"]["type"] == "overloaded_error"
    with pytest.raises(anthropic.APIStatusError, match="overloaded_error"):
        converse(client, script)


def test_a_hang_is_a_read_timeout_and_ends_when_the_client_leaves(http: httpx.Client) -> None:
    for script in ("[[fault hang 30]]", "[[text 9x8]] [[fault hang 30 after=2]]"):
        with (
            pytest.raises(httpx.ReadTimeout),
            http.stream("POST", "/v1/messages", json=body(user(script), stream=True), timeout=0.1) as response,
        ):
            response.read()
    time.sleep(0.05)

    left = http.get("/_requests").json()[-2:]
    assert [(entry["outcome"], entry["status"]) for entry in left] == [
        ("client left", None),
        ("client left", 200),
    ]


def test_a_message_ends_for_any_reason_the_script_names(http: httpx.Client) -> None:
    odd = post(http, body(user("[[fault stop_reason brand_new]] hello")))
    refused = post(http, body(user("[[fault refusal]] hello")))

    assert (odd["stop_reason"], "hello" in said(odd)) == ("brand_new", True)
    assert (refused["stop_reason"], refused["content"]) == ("refusal", [])
    assert refused["stop_details"]["type"] == "refusal"


def test_a_paused_turn_goes_on_when_it_is_sent_back(http: httpx.Client) -> None:
    ask = user("[[say looking]] [[fault pause_turn]] [[then say found]]")

    paused = post(http, body(ask))
    resumed = post(http, body(ask, assistant(*paused["content"])))

    assert paused["stop_reason"] == "pause_turn"
    assert [block["type"] for block in paused["content"]] == ["text", "server_tool_use"]
    assert [block["type"] for block in resumed["content"]] == ["web_search_tool_result", "text"]
    assert said(resumed) == "found"
    post(http, body(ask, assistant(*paused["content"], *resumed["content"]), user("thanks")))


def test_the_ledger_lists_and_forgets_what_came_in(http: httpx.Client) -> None:
    http.delete("/_requests")
    post(http, body(user("first")))
    refusal(http, body(max_tokens=0))

    taken, refused = http.get("/_requests", params={"bodies": 1}).json()

    assert (taken["status"], taken["model"], taken["messages"]) == (200, MODEL, 1)
    assert (taken["stop_reason"], taken["outcome"]) == ("end_turn", "sent")
    assert taken["body"]["messages"] == [user("first")]
    assert (refused["status"], refused["outcome"]) == (400, "refused")
    assert "max_tokens" in refused["error"]
    assert http.delete("/_requests").status_code == 204
    assert http.get("/_requests").json() == []
    assert http.get("/healthz").json() == {"status": "ok"}


IN_PROCESS = """
import httpx
from tests.fakes.anthropic_server import FakeApi, serving

with serving(FakeApi(fresh_ids=True, bind_thinking=True)) as base_url:
    headers = {"x-api-key": "test", "anthropic-version": "2026-10-21"}
    http = httpx.Client(base_url=base_url, headers=headers)
    ask = {"role": "user", "content": "[[think a]]"}
    request = {"model": "claude-fable-5-1", "max_tokens": 99, "thinking": {"type": "adaptive"}}
    request["messages"] = [ask]
    first, second = (http.post("/v1/messages", json=request).json() for _ in range(2))
    assert first["id"] != second["id"]
    turn = {"role": "assistant", "content": first["content"]}
    request["messages"] = [ask, turn, {"role": "user", "content": "b"}]
    print(http.post("/v1/messages", json=request).status_code)
    print(http.post("/v1/messages", json={**request, "system": "changed"}).json()["error"]["message"])
"""


def test_it_serves_in_a_thread_and_can_bind_thinking_to_its_prefix() -> None:
    command = [sys.executable, "-W", "error", "-c", IN_PROCESS]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=20).stdout

    accepted, refused = output.splitlines()
    assert accepted == "200"
    assert "bound to a different conversation" in refused
