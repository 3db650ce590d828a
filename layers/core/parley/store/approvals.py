"""Approvals as rows: what an inbox pages through. A projection; the events are the truth, and the rows point to them.

A row is written in the transaction that asks, and changed in the one that decides, expires or cancels: `changes` makes
both out of a session before and after. Nothing else writes these rows; they go with the session's partition.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from parley.core.binding import approval_id
from parley.core.control import ApprovalDecided, ApprovalExpired, ApprovalRequested, DecisionWord, UserInterrupt
from parley.core.errors import NotFound
from parley.core.event import Event
from parley.core.session import Session
from parley.ports import Item, Match, Op, Page, Put, Update
from parley.store.cursor import Cursors
from parley.store.head import milliseconds
from parley.store.keys import AFTER, APPROVAL, Ref, approval_keys, approvals_pk, work_keys
from parley.store.log import Log
from parley.store.sessions import Sessions

Status = Literal["pending", "approved", "denied", "edited", "answered", "expired", "cancelled"]

STATUS: dict[DecisionWord, Status] = {
    "approve": "approved",
    "deny": "denied",
    "edit": "edited",
    "answer": "answered",
}
"""What a decision makes of an approval."""

_PAGE_BUDGET = 20
"""Queries that one page may cost when most of what it reads is somebody else's, or gone."""


@dataclass(frozen=True, slots=True)
class Approval:
    """One approval: its row, and the events that it points to."""

    ref: Ref
    status: Status
    asked: ApprovalRequested
    decided: ApprovalDecided | ApprovalExpired | None = None
    """None while it is pending, and when the run was stopped."""
    decided_by: str = ""
    decided_ms: int | None = None
    stored: tuple[Event, ...] = ()
    """All that was stored with the decision."""


@dataclass(frozen=True, slots=True)
class ApprovalPage:
    """One page of a list."""

    approvals: list[Approval]
    next_page: str | None


def changes(ref: Ref, before: Session, after: Session, events: Sequence[Event]) -> list[Op]:
    """Make the writes to the rows that go with these events, which have their `seq` already."""
    was, waits = _waiting(before), _waiting(after)
    asked = [each for each in events if isinstance(each, ApprovalRequested) and each.tool_use_id in waits]
    return [
        *(Put(_row(ref, each)) for each in asked),
        *(_settled(ref, call_id, was[call_id], events) for call_id in was if call_id not in waits),
    ]


def _waiting(session: Session) -> dict[str, str]:
    """Name the calls that a person can decide on, and their approvals."""
    run = session.run
    if run is None or not run.open or run.cancel:
        return {}
    return {call.id: call.approval.id for call in run.calls if call.waits and call.approval}


def _row(ref: Ref, asked: ApprovalRequested) -> Item:
    key, requested_ms = ref.approval(asked.tool_use_id), milliseconds(asked.created_at)
    row: Item = {
        "PK": key.pk,
        "SK": key.sk,
        "id": asked.approval_id,
        "status": "pending",
        "requested_ms": requested_ms,
        "asked_seq": asked.seq,
        **approval_keys(ref.tenant, "pending", requested_ms, asked.approval_id),
    }
    if asked.expires_at is None or asked.on_expire == "keep":
        return row
    return row | {"due_ms": milliseconds(asked.expires_at), **work_keys(ref, key.sk)}


def _settled(ref: Ref, call_id: str, id: str, events: Sequence[Event]) -> Update:
    """Make the update that takes a row out of the inbox; what it sorts by stays."""
    status: Status = "cancelled"
    told: dict[str, Any] = {"decided_ms": milliseconds(events[-1].created_at)}
    for event in events:
        match event:
            case ApprovalDecided() if event.tool_use_id == call_id:
                status, told = STATUS[event.decision], told | {"decided_by": event.decided_by, "decided_seq": event.seq}
            case ApprovalExpired() if event.tool_use_id == call_id:
                status, told = "expired", told | {"decided_seq": event.seq}
            case UserInterrupt():
                told["decided_by"] = event.requested_by
            case _:
                pass
    return Update(
        ref.approval(call_id),
        set=told | {"status": status, "list_pk": approvals_pk(ref.tenant, status)},
        remove=("work_pk", "work_sk"),
        condition=Match({"id": id}),
    )


@dataclass(frozen=True, slots=True)
class Approvals:
    """Reads the rows `A#`."""

    sessions: Sessions
    log: Log
    cursors: Cursors

    async def one(self, ref: Ref, call_id: str, owner: str | None = None) -> Approval:
        """Read one approval.

        Raises:
            NotFound: nobody was ever asked about such a call, or its session cannot be seen.
        """
        row = await self.log.table.get(ref.approval(call_id)) if await self._is_seen(ref, owner) else None
        found = await self._read(row) if row else None
        if found is None:
            raise NotFound("approval", approval_id(ref.id, call_id))
        return found

    async def page(
        self,
        tenant: str,
        status: Status,
        *,
        session: Ref | None = None,
        owner: str | None = None,
        limit: int,
        newest_first: bool,
        page: str | None,
    ) -> ApprovalPage:
        """List approvals by when they were requested: of one session, or of all that `owner` may see.

        A page may be short, even empty, and still have a successor, when most of what is there is not to be seen.
        """
        question = repr(("approvals", status, session, owner, newest_first))
        place = end = await self.cursors.open(tenant, question, page) if page else None
        found: list[Approval] = []
        for _ in range(_PAGE_BUDGET):
            read = await self._query(tenant, status, session, limit=limit + 1, newest_first=newest_first, cursor=place)
            for item, shown in await self._shown([item for item in read.items if item["status"] == status], owner):
                if len(found) == limit:
                    return ApprovalPage(found, await self.cursors.seal(tenant, question, end))
                found.append(shown)
                end = {name: item[name] for name in (_PLACE if session else _PLACE_IN_LIST)}
            place = read.cursor
            if place is None:
                return ApprovalPage(found, None)
        return ApprovalPage(found, await self.cursors.seal(tenant, question, place))

    async def _query(self, tenant: str, status: Status, session: Ref | None, **options: Any) -> Page:
        """Read rows of a session from its own partition, which never lags, and others from the index."""
        if session:
            return await self.log.table.query(session.pk, first=APPROVAL, last=APPROVAL + AFTER, **options)
        return await self.log.table.query(approvals_pk(tenant, status), index="list", **options)

    async def _shown(self, rows: Sequence[Item], owner: str | None) -> list[tuple[Item, Approval]]:
        """Read what of the rows may be seen; rows of sessions that are gone wait for their sweep."""
        refs = list(dict.fromkeys(Ref.of(row["PK"]) for row in rows))
        seen = dict(zip(refs, await asyncio.gather(*(self._is_seen(ref, owner) for ref in refs)), strict=True))
        shown = [row for row in rows if seen[Ref.of(row["PK"])]]
        read = await asyncio.gather(*map(self._read, shown))
        return [(row, approval) for row, approval in zip(shown, read, strict=True) if approval]

    async def _is_seen(self, ref: Ref, owner: str | None) -> bool:
        try:
            await self.sessions.head(ref, owner)
        except NotFound:
            return False
        return True

    async def _read(self, row: Item) -> Approval | None:
        """Read the events that a row points to; `None` when the session has just been deleted."""
        ref, by, at = Ref.of(row["PK"]), row.get("decided_by", ""), row.get("decided_ms")
        asked = _at(row["asked_seq"], await self.log.around(ref, row["asked_seq"]))
        if not isinstance(asked, ApprovalRequested):
            return None
        if "decided_seq" not in row:
            return Approval(ref, row["status"], asked, decided_by=by, decided_ms=at)
        stored = await self.log.around(ref, row["decided_seq"])
        decided = _at(row["decided_seq"], stored)
        if not isinstance(decided, ApprovalDecided | ApprovalExpired):
            return None
        return Approval(ref, row["status"], asked, decided, by, at, stored)


_PLACE = ("PK", "SK")
_PLACE_IN_LIST = (*_PLACE, "list_pk", "list_sk")
"""What a cursor has to hold, in a session's partition and in the index."""


def _at(seq: int, events: Sequence[Event]) -> Event | None:
    return next((event for event in events if event.seq == seq), None)
