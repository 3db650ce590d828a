"""One append as one item: 1 to 64 events as compressed JSON lines, or a pointer to a blob.

The events' `seq` is not in the bytes: it is the slot's, first + index.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from parley.core.errors import Unavailable, Unreadable
from parley.core.event import EVENT, Event, to_json
from parley.ports import Blobs, Item
from parley.store.keys import ENTRY, Ref
from parley.store.primer import PRIMER

MAX_EVENTS = 64
INLINE_BYTES = 32 * 1024
"""A body larger than this goes to a blob: an item may have 400 KB, and its bytes are paid for at each write."""

_RAW, _PRIMED = b"\x00", b"\x01"


@dataclass(frozen=True, slots=True)
class Entry:
    """Events that were appended together; `driver_epoch` is `None` when no driver wrote them."""

    append_id: str
    driver_epoch: int | None
    events: tuple[Event, ...]
    size: int = 0
    """Bytes that the body takes, compressed."""


def pack(data: bytes) -> bytes:
    """Compress with a codec byte in front; level 6 was smallest for its time at these sizes."""
    compressor = zlib.compressobj(6, zdict=PRIMER)
    packed = _PRIMED + compressor.compress(data) + compressor.flush()
    return packed if len(packed) <= len(data) else _RAW + data


def unpack(data: bytes) -> bytes:
    """Undo `pack`.

    Raises:
        zlib.error: the bytes are damaged, cut short or too many.
    """
    if data[:1] != _PRIMED:
        return data[1:]
    decompressor = zlib.decompressobj(zdict=PRIMER)
    unpacked = decompressor.decompress(data[1:])
    if not decompressor.eof or decompressor.unused_data:
        raise zlib.error("these are not the bytes of one whole stream")
    return unpacked


def place(events: Sequence[Event], after: int) -> tuple[Event, ...]:
    """Give events their `seq`, following `after`."""
    return tuple(event.model_copy(update={"seq": after + n}) for n, event in enumerate(events, 1))


async def encode(
    ref: Ref, blobs: Blobs, append_id: str, after: int, events: Sequence[Event], epoch: int | None
) -> Item:
    """Make the item for the slot that follows `after`; a large body is in its blob when this returns."""
    if not 1 <= len(events) <= MAX_EVENTS:
        raise ValueError(f"an entry holds 1 to {MAX_EVENTS} events, not {len(events)}")
    key = ref.entry(after + 1)
    body = pack(b"\n".join(map(to_json, events)))
    item: Item = {"PK": key.pk, "SK": key.sk, "append_id": append_id, "count": len(events), "size": len(body)}
    if epoch is not None:
        item["driver_epoch"] = epoch
    if len(body) <= INLINE_BYTES:
        return item | {"body": body}
    blob = ref.blob(append_id)
    await blobs.put(blob, body)
    return item | {"blob": blob}


async def decode(item: Item, blobs: Blobs) -> Entry:
    """Read an item back.

    Raises:
        Unavailable: its blob cannot be read now.
        Unreadable: it is damaged, or a newer version wrote it.
    """
    body = item.get("body")
    if body is None:
        body = await blobs.get(item["blob"])
        if body is None:
            raise Unavailable(f"The blob '{item['blob']}' of a stored entry is missing.")
    first = int(item["SK"].removeprefix(ENTRY))
    try:
        lines = unpack(body).split(b"\n")
        events = tuple(EVENT.validate_json(b'{"seq":%d,%s' % (first + n, line[1:])) for n, line in enumerate(lines))
    except (ValueError, zlib.error) as error:
        raise Unreadable(item["PK"], item["SK"]) from error
    return Entry(item["append_id"], item.get("driver_epoch"), events, item.get("size", 0))
