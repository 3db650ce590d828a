"""Sealing: the fold of a long log, kept as one blob, so that a turn's cost does not grow with its history.

A snapshot is a copy and never the truth: the entries stay, and a snapshot that is missing or was written by another
version of the fold is passed over and the log is folded from its start (docs/decisions/0002).
"""

import zlib

from parley.core.session import Session
from parley.ports import Blobs
from parley.store.entry import pack, unpack
from parley.store.keys import Ref

FOLD_VERSION = b"1"
"""Raise it whenever `core.session` folds the same events into something else."""

SEAL_BYTES = 56 * 1024
"""Compressed bytes of unsealed entries that are worth a snapshot at the end of a run."""


def name(ref: Ref, seq: int) -> str:
    """Key of the snapshot that ends with `seq`."""
    return ref.blob(f"snapshot-{seq:012d}")


async def write(blobs: Blobs, ref: Ref, session: Session) -> int:
    """Store the session as folded so far; return the `seq` it is sealed up to."""
    head = session.model_dump_json(exclude={"context"}).encode()
    await blobs.put(name(ref, session.seq), pack(b"\n".join([FOLD_VERSION, head, *session.context])))
    return session.seq


async def read(blobs: Blobs, ref: Ref, seq: int) -> Session | None:
    """Read a snapshot; `None` when it cannot serve."""
    data = await blobs.get(name(ref, seq))
    try:
        version, head, *context = unpack(data or b"").split(b"\n")
        session = Session.model_validate_json(head)
    except (ValueError, zlib.error):
        return None
    return session.but(context=tuple(context)) if version == FOLD_VERSION and session.seq == seq else None
