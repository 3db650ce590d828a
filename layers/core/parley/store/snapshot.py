"""Sealing: the fold of a long log, kept as one blob, so that a turn's cost does not grow with its history.

A snapshot is a copy and never the truth: the entries stay, and a snapshot that is missing, is not the one that the lock
names or was written by another version of the fold is passed over and the log is folded from its start
(docs/decisions/0002). A session has one, which the next one replaces: each holds all that the last one held. A large
message is a blob beside it, named by its contents, that the snapshots to come refer to and do not write again
(docs/decisions/0010).
"""

import asyncio
import hashlib
import zlib

from parley.core.session import Session
from parley.ports import Blobs
from parley.store.entry import pack, unpack
from parley.store.keys import Ref

FOLD_VERSION = b"3"
"""Raise it whenever `core.session` folds the same events into something else, or is written in another way."""

SEAL_BYTES = 56 * 1024
"""Compressed bytes of unsealed entries that are worth a snapshot at the end of a run."""

PART_BYTES = 128 * 1024
"""A message of the context that is larger, as one with images is, has a blob of its own."""

_PART = b"@"
"""Begins the line that stands for such a blob; a message begins with a brace."""


def name(ref: Ref) -> str:
    """Key of a session's snapshot."""
    return ref.blob("snapshot")


async def write(blobs: Blobs, ref: Ref, session: Session, sealed: int = 0) -> int:
    """Store the session as folded so far; return the `seq` it is sealed up to.

    What the snapshot at `sealed` refers to is there already.
    """
    lines = [_line(message) for message in session.context]
    parts = {line: message for line, message in zip(lines, session.context, strict=True) if line.startswith(_PART)}
    there = set(await _lines(blobs, ref)) if parts and sealed else set()
    for line, message in parts.items():
        if line not in there:
            await blobs.put(_name_of(ref, line), pack(message))
    head = session.model_dump_json(exclude={"context"}).encode()
    await blobs.put(name(ref), pack(b"\n".join([FOLD_VERSION, head, *lines])))
    return session.seq


async def read(blobs: Blobs, ref: Ref, seq: int) -> Session | None:
    """Read the snapshot that ends with `seq`; `None` when it cannot serve."""
    try:
        version, head, *lines = await _lines(blobs, ref)
        session = Session.model_validate_json(head)
        if version != FOLD_VERSION or session.seq != seq:
            return None
        parts = list({line for line in lines if line.startswith(_PART)})
        messages = await asyncio.gather(*(_message(blobs, ref, part) for part in parts))
        stands_for = dict(zip(parts, messages, strict=True))
        return session.but(context=tuple(stands_for.get(line, line) for line in lines))
    except (ValueError, zlib.error):
        return None


async def _lines(blobs: Blobs, ref: Ref) -> list[bytes]:
    """Read what a snapshot says; nothing when it is missing or damaged."""
    try:
        return unpack(await blobs.get(name(ref)) or b"").split(b"\n")
    except zlib.error:
        return []


def _line(message: bytes) -> bytes:
    """Write a message, or what it is called."""
    return message if len(message) <= PART_BYTES else _PART + hashlib.sha256(message).hexdigest().encode()


async def _message(blobs: Blobs, ref: Ref, line: bytes) -> bytes:
    """Read the message that a line stands for.

    Raises:
        ValueError, zlib.error: it is missing or damaged.
    """
    message = unpack(await blobs.get(_name_of(ref, line)) or b"")
    if _line(message) != line:
        raise ValueError(line)
    return message


def _name_of(ref: Ref, line: bytes) -> str:
    return ref.blob(f"message-{line.removeprefix(_PART).decode()}")
