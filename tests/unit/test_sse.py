"""Frames of server-sent events: what a parser makes of the bytes."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from anthropic._streaming import SSEDecoder
from hypothesis import given
from hypothesis import strategies as st
from parley.api import sse
from parley.api.vocabulary import Native, Simple
from parley.core import event as e
from parley.core.delta import DraftGrew

from tests.strategies import EVENTS, TEXTS

DATA = st.dictionaries(TEXTS, TEXTS, max_size=3)


def read(pieces: Sequence[bytes]) -> list[tuple[str | None, Any]]:
    """Read a stream as the `anthropic` SDK does; what has no data is not for anybody."""
    return [(each.event, json.loads(each.data)) for each in SSEDecoder().iter_bytes(iter(pieces)) if each.data]


def lines(frame: bytes) -> list[bytes]:
    return frame.split(b"\n")


def test_a_stored_event_has_its_place_as_id() -> None:
    assert sse.frame("text", {"a": 1}, 7) == b'id: 7\nevent: text\ndata: {"a":1}\n\n'


def test_a_draft_has_no_id() -> None:
    assert sse.frame("text", {"a": 1}) == b'event: text\ndata: {"a":1}\n\n'


@given(DATA)
def test_no_data_can_break_its_frame(data: dict[str, Any]) -> None:
    frame = sse.frame("text", data, 1)

    id_line, event_line, data_line, *end = lines(frame)
    assert (id_line, event_line, end) == (b"id: 1", b"event: text", [b"", b""])
    assert json.loads(data_line.removeprefix(b"data: ")) == data
    assert b"\r" not in frame
    assert b"\0" not in frame


@pytest.mark.parametrize("block", [sse.RETRY, sse.HEARTBEAT])
def test_what_is_no_event_ends_with_a_blank_line_and_has_no_data(block: bytes) -> None:
    assert block.endswith(b"\n\n")
    assert b"data:" not in block


def test_a_heartbeat_is_a_comment() -> None:
    assert sse.HEARTBEAT.startswith(b":")


def test_streams_are_not_cached_and_not_buffered() -> None:
    assert sse.HEADERS == {"cache-control": "no-store", "x-accel-buffering": "no"}


@given(DATA)
def test_a_stream_that_is_cut_anywhere_is_read_alike(data: dict[str, Any]) -> None:
    stream = sse.RETRY + sse.frame("text", data) + sse.HEARTBEAT + sse.frame("text", data, 7)

    for place in range(len(stream) + 1):
        assert read([stream[:place], stream[place:]]) == [("text", data), ("text", data)]


@given(st.lists(EVENTS, min_size=1, max_size=4))
def test_any_event_is_one_frame_with_all_that_it_says(said: list[e.Event]) -> None:
    native = Native()
    stream = b"".join(native.say(event.model_copy(update={"seq": seq})) for seq, event in enumerate(said, 1))

    told = read([stream[n : n + 1] for n in range(len(stream))])

    assert [name for name, _ in told] == [event.type for event in said]
    assert [e.EVENT.validate_python(data).model_copy(update={"seq": 0}) for _, data in told] == said


@given(EVENTS)
def test_any_event_is_at_most_one_frame_in_simple_words(event: e.Event) -> None:
    frame = Simple("sesn_1", "run_1").say(event.model_copy(update={"seq": 7}))

    told = read([frame])

    assert len(told) == bool(frame)
    assert all(data["session_id"] == "sesn_1" for _, data in told if "session_id" in data)


@given(TEXTS)
def test_any_piece_of_a_draft_is_one_frame(text: str) -> None:
    grew = DraftGrew("sevt_1", "agent.message", text)

    [(name, told)] = read([Simple("sesn_1", "run_1").say(grew)])
    [(_, event)] = read([Native().say(grew)])

    assert (name, told["text"]) == ("text", text)
    assert event["delta"]["content"]["text"] == text
