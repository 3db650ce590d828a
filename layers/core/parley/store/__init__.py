"""The session store over the small `Table` port: keys, appends, claims, pages. See storage rules in ARCHITECTURE.md."""

from dataclasses import dataclass

from parley.ports import Blobs, Clock, Ids, Table
from parley.store.cursor import Cursors
from parley.store.drives import Claim, Drives
from parley.store.head import Head, Lock
from parley.store.idempotency import Done, Once
from parley.store.keys import Ref
from parley.store.log import Log, SlotTaken
from parley.store.sessions import HeadPage, Sessions

__all__ = ["Claim", "Done", "Head", "HeadPage", "Lock", "Once", "Ref", "SlotTaken", "Store"]


@dataclass(frozen=True, slots=True)
class Store:
    """All of the store, by noun."""

    table: Table
    log: Log
    cursors: Cursors
    sessions: Sessions
    drives: Drives

    @classmethod
    def over(
        cls,
        table: Table,
        blobs: Blobs,
        clock: Clock,
        ids: Ids,
        *,
        lease_seconds: float = 30.0,
        ttl_days: int = 30,
    ) -> "Store":
        """Build the store over its ports."""
        log = Log(table, blobs, clock, ids)
        cursors = Cursors(table)
        sessions = Sessions(log, cursors, clock, ttl_days * 86_400)
        return cls(table, log, cursors, sessions, Drives(sessions, log, lease_seconds))
