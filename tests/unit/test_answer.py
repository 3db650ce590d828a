"""The strict accumulator: a whole answer or none."""

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parley.core.answer import Accumulator, Answer, Draft, Piece
from parley.core.errors import ModelError
from parley.core.limits import MAX_BLOCKS_PER_ANSWER
from parley.core.value import Usage

from tests import build
from tests.build import answer, asked, cut, error_event, redacted, said, thought
from tests.fakes.model import Raw
from tests.strategies import JSON, TEXTS


def read(stream: list[Raw]) -> Answer:
    """Take a whole stream."""
    accumulator = Accumulator()
    for event in stream:
        accumulator.take(event)
    return accumulator.answer()


def pieces(stream: list[Raw]) -> list[Piece]:
    """Give what a listener may see."""
    accumulator = Accumulator()
    return [piece for event in stream if (piece := accumulator.take(event))]


def delta(fields: Raw, index: int = 0) -> Raw:
    return {"type": "content_block_delta", "index": index, "delta": fields}


EVERYTHING = answer(
    thought("Hm", "."), said("I ", "pay."), asked("pay", {"amount": 5}), asked("look", {"at": ["a", "b"]})
)


# Whole answers.


def test_text_is_joined() -> None:
    whole = read(answer(said("Hel", "lo")))

    assert [(block.kind, block.text) for block in whole.blocks] == [("agent.message", "Hello")]
    assert whole.stop_reason == "end_turn"


def test_blocks_keep_their_order_and_their_kind() -> None:
    whole = read(EVERYTHING)

    assert [block.kind for block in whole.blocks] == [
        "agent.thinking",
        "agent.message",
        "agent.tool_use",
        "agent.tool_use",
    ]


def test_parallel_calls_keep_their_names_ids_and_arguments() -> None:
    whole = read(answer(asked("pay", {"amount": 5}, id="toolu_a"), asked("look", {"at": "x"}, id="toolu_b")))

    assert [(block.name, block.provider_id, block.input) for block in whole.blocks] == [
        ("pay", "toolu_a", {"amount": 5}),
        ("look", "toolu_b", {"at": "x"}),
    ]


def test_blocks_that_grow_in_turns_do_not_mix() -> None:
    start = [{"type": "content_block_start", "index": n, "content_block": {"type": "text", "text": ""}} for n in (0, 1)]
    grow = [
        delta({"type": "text_delta", "text": text}, index) for index, text in ((0, "a"), (1, "x"), (0, "b"), (1, "y"))
    ]
    stop = [{"type": "content_block_stop", "index": n} for n in (1, 0)]

    whole = read([*start, *grow, *stop, *answer(said(""))[-2:]])

    assert [block.text for block in whole.blocks] == ["ab", "xy"]


def test_a_call_without_arguments_has_an_empty_object() -> None:
    whole = read(answer(asked("pay", json_text="")))

    assert whole.blocks[0].input == {}


def test_thinking_keeps_its_signature() -> None:
    whole = read(answer(thought("Hm", signature="signed"), said()))

    assert (whole.blocks[0].text, whole.blocks[0].signature) == ("Hm", "signed")


def test_redacted_thinking_keeps_its_data() -> None:
    whole = read(answer(redacted("opaque"), said()))

    assert (whole.blocks[0].kind, whole.blocks[0].redacted) == ("agent.thinking", "opaque")


def test_blank_text_is_left_out() -> None:
    whole = read(answer(said(" \n"), asked("pay")))

    assert [block.kind for block in whole.blocks] == ["agent.tool_use"]


def test_the_last_count_of_each_kind_of_token_is_the_usage() -> None:
    stream = answer(said(), tokens=(10, 5))
    stream[0]["message"]["usage"] |= {"cache_read_input_tokens": 7, "cache_creation_input_tokens": None, "tier": "x"}

    usage = read(stream).usage

    assert usage == Usage(input_tokens=10, output_tokens=5, cache_read_input_tokens=7)


def test_events_and_deltas_of_a_later_version_are_passed_over() -> None:
    stream = answer(said("Hel", "lo"))
    stream.insert(3, {"type": "ping"})
    stream.insert(3, {"type": "a_type_of_tomorrow"})
    stream.insert(3, delta({"type": "citations_delta", "citation": {}}))

    assert read(stream).blocks[0].text == "Hello"


# Stop reasons.


@pytest.mark.parametrize("reason", ["end_turn", "stop_sequence", "max_tokens", "refusal", "tomorrow"])
def test_calls_count_only_when_the_model_stopped_to_make_them(reason: str) -> None:
    whole = read(answer(said(), asked("pay"), stop_reason=reason))

    assert [block.kind for block in whole.blocks] == ["agent.message"]
    assert whole.stop_reason == reason


def test_an_answer_that_is_paused_is_not_whole_for_nothing_could_go_on_with_it() -> None:
    with pytest.raises(ModelError, match="paused") as caught:
        read(answer(said("I look"), stop_reason="pause_turn"))

    assert caught.value.retryable


def test_a_call_that_max_tokens_cut_off_is_left_out_whatever_its_json() -> None:
    whole = read(answer(said("I pay"), asked("pay", json_text='{"amo'), stop_reason="max_tokens"))

    assert [block.text for block in whole.blocks] == ["I pay"]


def test_text_that_max_tokens_cut_off_is_kept() -> None:
    stream = [
        event for event in answer(said("Once upon"), stop_reason="max_tokens") if event["type"] != "content_block_stop"
    ]

    assert [block.text for block in read(stream).blocks] == ["Once upon"]


def test_thinking_that_max_tokens_cut_off_before_its_signature_is_left_out() -> None:
    stream = [
        event
        for event in answer(thought(signature=""), stop_reason="max_tokens")
        if event["type"] != "content_block_stop" and event.get("delta", {}).get("type") != "signature_delta"
    ]

    assert read(stream).blocks == ()


# Half answers.


@pytest.mark.parametrize("length", range(len(EVERYTHING)))
def test_a_stream_that_is_cut_anywhere_is_no_answer(length: int) -> None:
    with pytest.raises(ModelError) as caught:
        read(cut(EVERYTHING, length))

    assert caught.value.code == "model_cut_short"
    assert caught.value.retryable


@pytest.mark.parametrize("missing", range(1, len(EVERYTHING)))
def test_with_any_event_missing_nothing_that_was_cut_is_acted_on(missing: int) -> None:
    stream = [event for place, event in enumerate(EVERYTHING) if place != missing]

    try:
        whole = read(stream)
    except ModelError:
        return
    calls = [block.input for block in whole.blocks if block.kind == "agent.tool_use"]
    assert calls == [{"amount": 5}, {"at": ["a", "b"]}]


@pytest.mark.parametrize("block", [said(), thought(), asked("pay")], ids=["text", "thinking", "a call"])
def test_a_block_that_was_begun_and_not_ended_is_no_answer(block: build.Block) -> None:
    stream = answer(said("Hi"), block)
    stream.remove({"type": "content_block_stop", "index": 1})

    with pytest.raises(ModelError):
        read(stream)


@pytest.mark.parametrize(
    "json_text",
    [
        '{"amount": 1',
        '{"amount": 1}}',
        '{"amount": }',
        "[1]",
        '"text"',
        "1",
        "null",
        "{'a': 1}",
        '{"a": NaN}',
        "nonsense",
    ],
)
def test_arguments_that_are_not_one_json_object_are_no_answer(json_text: str) -> None:
    with pytest.raises(ModelError):
        read(answer(asked("pay", json_text=json_text)))


@pytest.mark.parametrize(
    "json_text",
    [
        '{"a":' * 250 + "1" + "}" * 250,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"a": "\\ud800"}',
        '{"\\udfff": 1}',
        '{"a": 1e999}',
        '{"a": -1e999}',
        '{"a": ' + "9" * 5000 + "}",
    ],
    ids=["250 deep", "100,000 deep", "surrogate", "surrogate as a name", "infinite", "minus infinite", "5,000 digits"],
)
def test_arguments_that_could_not_be_stored_or_sent_back_are_no_answer(json_text: str) -> None:
    with pytest.raises(ModelError):
        read(answer(asked("pay", json_text=json_text)))


def test_a_call_without_a_name_or_an_id_is_no_answer() -> None:
    for missing in ("id", "name"):
        stream = answer(asked("pay"))
        del stream[1]["content_block"][missing]

        with pytest.raises(ModelError):
            read(stream)


def test_an_unknown_block_is_no_answer() -> None:
    with pytest.raises(ModelError):
        read(answer([{"type": "server_tool_use", "id": "x", "name": "web_search"}], said()))


def test_a_block_that_begins_twice_is_no_answer() -> None:
    stream = answer(said())

    with pytest.raises(ModelError):
        read([stream[0], stream[1], *stream[1:]])


def test_a_block_that_grows_after_its_end_is_no_answer() -> None:
    stream = answer(said())

    with pytest.raises(ModelError):
        read([*stream[:-2], delta({"type": "text_delta", "text": "late"}), *stream[-2:]])


def test_a_delta_of_a_block_that_never_began_is_no_answer() -> None:
    with pytest.raises(ModelError):
        read([delta({"type": "text_delta", "text": "?"}, 7)])


def test_more_blocks_than_an_entry_holds_are_no_answer() -> None:
    assert len(read(answer(*(said("x") for _ in range(MAX_BLOCKS_PER_ANSWER)))).blocks) == MAX_BLOCKS_PER_ANSWER
    with pytest.raises(ModelError):
        read(answer(*(said("x") for _ in range(49))))


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("overloaded_error", "overloaded"),
        ("rate_limit_error", "rate_limited"),
        ("invalid_request_error", "refused_request"),
        ("api_error", "request_failed"),
        ("an error of tomorrow", "request_failed"),
    ],
)
def test_an_error_inside_the_stream_ends_it(kind: str, failure: str) -> None:
    with pytest.raises(ModelError) as caught:
        read([*cut(answer(said()), 3), error_event(kind, "Too busy")])

    assert (caught.value.failure, caught.value.message) == (failure, "Too busy")


@pytest.mark.parametrize(
    ("message", "failure"),
    [
        ("prompt is too long: 208310 tokens > 200000 maximum", "context_full"),
        ("Input is too long for requested model.", "context_full"),
        ("input length and `max_tokens` exceed context limit: 188240 + 16000 > 200000", "context_full"),
        ("messages.0.content.0.text: text content blocks must be non-empty", "refused_request"),
    ],
)
def test_a_refusal_because_of_length_is_told_from_others(message: str, failure: str) -> None:
    with pytest.raises(ModelError) as caught:
        read([error_event("invalid_request_error", message)])

    assert (caught.value.failure, caught.value.retryable) == (failure, False)


# Pieces for listeners.


def test_a_listener_sees_text_and_thinking_as_they_come() -> None:
    seen = pieces(answer(thought("Hm", "."), said("Hel", "lo")))

    assert seen == [
        Piece(0, "agent.thinking", ""),
        Piece(0, "agent.thinking", "Hm"),
        Piece(0, "agent.thinking", "."),
        Piece(1, "agent.message", ""),
        Piece(1, "agent.message", "Hel"),
        Piece(1, "agent.message", "lo"),
    ]


def test_a_listener_never_sees_half_a_call() -> None:
    seen = pieces(answer(asked("pay", {"amount": 5})))

    assert [piece.text for piece in seen] == [""]


def test_lone_surrogates_are_replaced_in_text_and_in_its_pieces() -> None:
    stream = answer(said("a\ud800b"))

    assert read(stream).blocks[0].text == "a?b"
    assert json.dumps([piece.text for piece in pieces(stream)], ensure_ascii=False).encode()


# Any garbage.

TYPES = st.sampled_from(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
        "error",
    ]
)
FIELDS = st.fixed_dictionaries(
    {"type": TYPES},
    optional={
        "index": st.integers(0, 1) | JSON,
        "content_block": st.fixed_dictionaries({"type": st.sampled_from(["text", "thinking", "tool_use"])}) | JSON,
        "delta": st.fixed_dictionaries(
            {"type": st.sampled_from(["text_delta", "thinking_delta", "input_json_delta", "signature_delta"])}
        )
        | st.fixed_dictionaries({"stop_reason": JSON})
        | JSON,
        "message": st.fixed_dictionaries({"usage": JSON}) | JSON,
        "usage": JSON,
        "error": JSON,
    },
)


@settings(max_examples=300)
@given(st.lists(FIELDS, max_size=6))
def test_a_stream_that_makes_no_sense_is_a_failed_model_call_and_nothing_else(stream: list[Any]) -> None:
    with suppress(ModelError):
        read(stream)


@pytest.mark.parametrize(
    "nonsense",
    [
        {"type": "content_block_delta"},
        {"type": "content_block_delta", "index": 0},
        {"type": "content_block_start", "index": 1},
        {"type": "content_block_stop"},
        {"type": "message_start"},
        {"type": "message_delta"},
        delta({"type": "text_delta"}),
        delta({"type": "text_delta", "text": None}),
        delta({"type": "input_json_delta", "partial_json": 5}),
    ],
)
def test_an_event_that_lacks_what_it_must_have_is_a_failed_model_call(nonsense: Raw) -> None:
    with pytest.raises(ModelError):
        read([*answer(said())[:2], nonsense, *answer(said())[2:]])


PARTS = st.lists(TEXTS, max_size=4)
ARGUMENTS = st.dictionaries(TEXTS, JSON, max_size=2)
SPOKEN = PARTS.map(lambda parts: said("!", *parts)) | PARTS.map(lambda parts: thought("?", *parts))
CALLS = st.lists(st.builds(asked, st.sampled_from(["pay", "look"]), ARGUMENTS), max_size=3)
STREAMS = st.builds(lambda spoken, calls: answer(said("."), *spoken, *calls), st.lists(SPOKEN, max_size=3), CALLS)
"""Whole answers: text and thinking in any pieces, and calls with any arguments."""


def texts(parts: Iterable[Draft | Piece]) -> dict[int, str]:
    """Join what belongs together."""
    joined: dict[int, str] = {}
    for part in parts:
        if part.kind != "agent.tool_use":
            joined[part.key] = joined.get(part.key, "") + part.text
    return joined


@given(STREAMS)
def test_what_a_listener_has_seen_is_the_text_of_the_answer(stream: list[Raw]) -> None:
    assert texts(pieces(stream)) == texts(read(stream).blocks)


@given(STREAMS)
def test_wherever_an_answer_is_stopped_all_words_so_far_are_kept_and_no_call(stream: list[Raw]) -> None:
    accumulator, seen = Accumulator(), list[Piece]()
    for event in stream:
        seen += [piece] if (piece := accumulator.take(event)) else []

        kept = accumulator.interrupted()

        said = {key: text for key, text in texts(seen).items() if text.strip()}
        assert kept.stop_reason == "interrupted"
        assert {key: text for key, text in texts(kept.blocks).items() if key in said} == texts(kept.blocks)
        assert all(block.kind == "agent.message" or block.whole for block in kept.blocks)
        assert {block.key for block in kept.blocks} >= {
            piece.key for piece in seen if piece.kind == "agent.message" and piece.key in said
        }
        assert "agent.tool_use" not in {block.kind for block in kept.blocks}


def test_of_an_answer_that_is_stopped_the_usage_so_far_counts_even_without_its_words() -> None:
    accumulator = Accumulator()
    for event in answer(said("Half"), tokens=(70, 5))[:3]:
        accumulator.take(event)

    kept = accumulator.interrupted(words=False)

    assert (kept.blocks, kept.usage) == ((), Usage(input_tokens=70, output_tokens=1))


@given(STREAMS)
def test_the_arguments_of_a_call_are_those_that_were_sent(stream: list[Raw]) -> None:
    sent: dict[int, str] = {}
    for event in stream:
        if event.get("delta", {}).get("type") == "input_json_delta":
            sent[event["index"]] = sent.get(event["index"], "") + event["delta"]["partial_json"]

    read_back = {block.key: block.input for block in read(stream).blocks if block.kind == "agent.tool_use"}

    assert read_back == {index: json.loads(text) for index, text in sent.items()}


@given(STREAMS)
def test_a_stream_that_breaks_off_anywhere_is_no_answer(stream: list[Raw]) -> None:
    for length in range(len(stream)):
        with pytest.raises(ModelError):
            read(stream[:length])


@given(STREAMS, st.data())
def test_a_stream_that_lost_doubled_or_moved_an_event_is_a_whole_answer_or_none(
    stream: list[Raw], data: st.DataObject
) -> None:
    place, other = (data.draw(st.integers(0, len(stream) - 1)) for _ in range(2))
    match data.draw(st.sampled_from(["lost", "doubled", "moved"])):
        case "lost":
            stream.pop(place)
        case "doubled":
            stream.insert(place, stream[place])
        case _:
            stream.insert(other, stream.pop(place))

    with suppress(ModelError):
        whole = read(stream)
        assert all(block.whole for block in whole.blocks)
        assert whole.stop_reason in ("end_turn", "tool_use")


@given(st.lists(st.text(min_size=1, max_size=3), max_size=8))
def test_however_it_is_cut_into_pieces_the_text_is_the_same(parts: list[str]) -> None:
    whole = read(answer(said("!", *parts)))

    assert whole.blocks[0].text == "!" + "".join(parts)
