"""Frames of server-sent events: what a parser makes of the bytes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parley.api import sse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def lines(frame: bytes) -> list[bytes]:
    return frame.split(b"\n")


def test_a_stored_event_has_its_place_as_id() -> None:
    assert sse.frame("text", {"a": 1}, 7) == b'id: 7\nevent: text\ndata: {"a":1}\n\n'


def test_a_draft_has_no_id() -> None:
    assert sse.frame("text", {"a": 1}) == b'event: text\ndata: {"a":1}\n\n'


@given(st.dictionaries(st.text(), JSON, max_size=3))
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
