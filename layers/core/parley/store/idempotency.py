"""The same request twice: one effect, one answer.

A row is written in the transaction of its effect, so there is no state in between. It holds ids only; the answer is
rebuilt from the log.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from parley.core.errors import IdempotencyMismatch
from parley.ports import Absent, Item, Key, Put, Table
from parley.store import keys

KEPT_SECONDS = 25 * 3600
"""A day is promised; the hour is margin for clocks."""


@dataclass(frozen=True, slots=True)
class Once:
    """A request that carries an `Idempotency-Key`."""

    key: Key
    body_hash: str

    @classmethod
    def of(cls, tenant: str, principal: str, method: str, path: str, key: str, body: bytes) -> "Once":
        """Scope a key to who sends it, and where to."""
        scope = "\0".join((principal, method, path, key))
        address = keys.idempotency(tenant, hashlib.sha256(scope.encode()).hexdigest())
        return cls(address, hashlib.sha256(body).hexdigest())

    def put(
        self,
        now_seconds: int,
        session_id: str,
        run_id: str | None = None,
        seq: int | None = None,
        inputs: Sequence[str] = (),
        created_ms: int = 0,
    ) -> Put:
        """Make the write that goes into the effect's transaction.

        `seq` is where the effect's events begin, `inputs` are the ids of messages that were queued at `created_ms`.
        """
        item: Item = {
            "PK": self.key.pk,
            "SK": self.key.sk,
            "body_hash": self.body_hash,
            "session_id": session_id,
            "run_id": run_id,
            "seq": seq,
            "ttl": now_seconds + KEPT_SECONDS,
        }
        return Put(item | ({"inputs": list(inputs), "created_ms": created_ms} if inputs else {}), Absent())


@dataclass(frozen=True, slots=True)
class Done:
    """What the first request with this key made."""

    session_id: str
    run_id: str | None
    seq: int | None = None
    inputs: tuple[str, ...] = ()
    created_ms: int = 0


async def find(table: Table, once: Once | None) -> Done | None:
    """Return what an earlier request with this key did.

    Raises:
        IdempotencyMismatch: its body was another one.
    """
    item = await table.get(once.key) if once else None
    if item is None or once is None:
        return None
    if item["body_hash"] != once.body_hash:
        raise IdempotencyMismatch
    inputs = tuple(item.get("inputs", ()))
    return Done(item["session_id"], item.get("run_id"), item.get("seq"), inputs, item.get("created_ms", 0))
