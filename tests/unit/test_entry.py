"""Entries: one append as one item."""

import random
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parley.core import event as e
from parley.core.errors import Unavailable, Unreadable
from parley.core.value import text_of
from parley.store.entry import INLINE_BYTES, MAX_EVENTS, decode, encode, pack, place, unpack

from tests import build
from tests.build import REF, entry, event, message
from tests.fakes.blobs import MemoryBlobs
from tests.strategies import EVENTS

pytestmark = pytest.mark.anyio


def noise(size: int) -> str:
    """Text that hardly compresses."""
    return random.Random(7).randbytes(size // 2).hex()


@pytest.mark.parametrize("data", [b"", b"x", b"\x00\x01", b"abc" * 10_000, noise(50_000).encode()])
def test_packed_bytes_come_back(data: bytes) -> None:
    assert unpack(pack(data)) == data


def test_packing_makes_text_smaller_and_nothing_larger_by_more_than_its_mark() -> None:
    assert len(pack(b"abc" * 10_000)) < 1000
    assert len(pack(random.Random(7).randbytes(1000))) <= 1001


def test_events_are_placed_one_behind_the_other() -> None:
    placed = place([message("a"), message("b")], 41)

    assert [each.seq for each in placed] == [42, 43]


async def test_an_entry_comes_back_with_the_places_of_its_slot() -> None:
    events = entry(message("a\nb"), message("ä\u2028\0"), event(e.SessionError), event(e.StatusRunning, task_id="t"))
    blobs = MemoryBlobs()

    item = await encode(REF, blobs, "appe_1", 41, events, 3)
    read = await decode(item, blobs)

    assert (item["SK"], item["count"]) == ("E#000000000042", 4)
    assert read.events == place(events, 41)
    assert (read.append_id, read.driver_epoch) == ("appe_1", 3)
    assert read.size == item["size"]


async def test_the_place_is_the_slots_and_not_in_the_bytes() -> None:
    blobs = MemoryBlobs()
    item = await encode(REF, blobs, "appe_1", 41, [event(e.StatusRunning, seq=7)], None)

    moved = await decode(item | {"SK": "E#000000000100"}, blobs)

    assert moved.events[0].seq == 100


async def test_an_entry_that_no_driver_wrote_has_no_epoch() -> None:
    blobs = MemoryBlobs()
    item = await encode(REF, blobs, "appe_1", 0, [message()], None)

    assert "driver_epoch" not in item
    assert (await decode(item, blobs)).driver_epoch is None


async def test_a_large_body_is_in_its_blob_by_the_time_the_item_exists() -> None:
    blobs, events = MemoryBlobs(), [message(noise(2 * INLINE_BYTES + 1000))]

    item = await encode(REF, blobs, "appe_1", 0, events, None)

    assert "body" not in item
    assert list(blobs.kept) == ["acme/sesn_1/appe_1"] == [item["blob"]]
    assert (await decode(item, blobs)).events == place(events, 0)


async def test_a_body_that_compresses_well_stays_in_its_item() -> None:
    blobs = MemoryBlobs()

    item = await encode(REF, blobs, "appe_1", 0, [message("x" * 1_000_000)], None)

    assert blobs.kept == {}
    assert len(item["body"]) <= INLINE_BYTES


async def test_a_blob_that_is_missing_is_said() -> None:
    blobs = MemoryBlobs()
    item = await encode(REF, blobs, "appe_1", 0, [message(noise(3 * INLINE_BYTES))], None)
    blobs.kept.clear()

    with pytest.raises(Unavailable, match=r"sesn_1/appe_1"):
        await decode(item, blobs)


@pytest.mark.parametrize("count", [0, MAX_EVENTS + 1])
async def test_an_entry_holds_at_least_one_event_and_at_most_64(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 64"):
        await encode(REF, MemoryBlobs(), "appe_1", 0, [message()] * count, None)


async def test_64_events_are_one_entry() -> None:
    blobs = MemoryBlobs()

    item = await encode(REF, blobs, "appe_1", 0, [message()] * MAX_EVENTS, None)

    assert len((await decode(item, blobs)).events) == MAX_EVENTS


async def test_a_huge_message_fits_the_table(stage: build.Stage) -> None:
    await stage.begin("\U0001f600" * 250_000)

    [message, *_] = await stage.log()

    assert isinstance(message, e.UserMessage)
    assert len(text_of(message.content)) == 250_000


# Whatever is in it, and whatever becomes of its bytes.

LENGTHS = st.sampled_from([0, 0, 0, 10, 70_000])
"""Of text that hardly compresses; the longest does not fit an item."""


@settings(max_examples=60)
@given(st.lists(EVENTS, min_size=1, max_size=6), LENGTHS, st.integers(0, 10**9), st.none() | st.integers(1, 2**40))
async def test_any_events_come_back(events: list[e.Event], length: int, after: int, epoch: int | None) -> None:
    events, blobs = [*events, message(noise(length) + "!")], MemoryBlobs()

    item = await encode(REF, blobs, "appe_1", after, events, epoch)
    read = await decode(item, blobs)

    assert (read.events, read.driver_epoch) == (place(events, after), epoch)
    assert ("blob" in item) == (length > INLINE_BYTES)
    assert len(item.get("body", b"")) <= INLINE_BYTES


@given(st.lists(EVENTS, min_size=1, max_size=3), st.data())
async def test_bytes_that_changed_are_unreadable_or_say_the_same(events: list[e.Event], data: st.DataObject) -> None:
    blobs = MemoryBlobs()
    item = await encode(REF, blobs, "appe_1", 0, events, None)
    body = bytearray(item["body"])
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))

    with suppress(Unreadable):
        assert (await decode(item | {"body": bytes(body)}, blobs)).events == place(events, 0)


@given(st.binary(max_size=40))
async def test_bytes_of_somebody_else_are_unreadable(body: bytes) -> None:
    item = await encode(REF, MemoryBlobs(), "appe_1", 0, [message()], None)

    with pytest.raises(Unreadable):
        await decode(item | {"body": body}, MemoryBlobs())


@pytest.mark.parametrize("blob", [False, True])
async def test_an_entry_that_was_cut_short_or_goes_on_is_unreadable(blob: bool) -> None:
    blobs = MemoryBlobs()
    item = await encode(REF, blobs, "appe_1", 0, [message(noise(80_000 * blob)), message("x")], None)
    body = blobs.kept[item["blob"]] if blob else item["body"]

    for damaged in (*(body[:length] for length in range(0, len(body), 1 + 997 * blob)), body[:-1], body + b"x"):
        with pytest.raises(Unreadable):
            await decode(item | {"body": damaged}, blobs)
