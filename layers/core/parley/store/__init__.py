"""The session store over the small `Table` port: keys, appends, claims, pages. See storage rules in ARCHITECTURE.md."""

from dataclasses import dataclass

from parley.ports import Blobs, Clock, Ids, Table
from parley.store.approvals import Approvals
from parley.store.claim import Claim
from parley.store.claims import Claims
from parley.store.cursor import Cursors
from parley.store.drafts import Drafts
from parley.store.drives import Drives
from parley.store.head import Head, Lock
from parley.store.idempotency import Done, Once
from parley.store.inputs import Inputs, Queued
from parley.store.keys import Ref
from parley.store.lives import Lives
from parley.store.log import Log, SlotTaken
from parley.store.sessions import HeadPage, Sessions
from parley.store.sweep import Sweep
from parley.store.words import Words

__all__ = ["Claim", "Done", "Head", "HeadPage", "Lock", "Once", "Queued", "Ref", "SlotTaken", "Store"]


@dataclass(frozen=True, slots=True)
class Store:
    """All of the store, by noun."""

    table: Table
    log: Log
    cursors: Cursors
    sessions: Sessions
    inputs: Inputs
    claims: Claims
    drives: Drives
    words: Words
    approvals: Approvals
    lives: Lives
    drafts: Drafts
    sweep: Sweep

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
        inputs = Inputs(sessions, log)
        claims = Claims(sessions, inputs, log, lease_seconds)
        drives = Drives(sessions, log, lease_seconds)
        words, approvals = Words(sessions, log), Approvals(sessions, log, cursors)
        lives = Lives(sessions, inputs, words, log)
        drafts, sweep = Drafts(table, clock), Sweep(sessions, log)
        return cls(table, log, cursors, sessions, inputs, claims, drives, words, approvals, lives, drafts, sweep)
