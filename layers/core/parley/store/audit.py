"""Who did what: one row an act, written in the transaction of what it tells of, and kept when the session is gone.

A row holds ids and words of ours only: never what a person said, a model answered, or a tool was given.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from parley.core import control as c
from parley.core.changes import SETTINGS
from parley.core.event import Event, ToolOutcomeDecided
from parley.ports import Item, Put, Table
from parley.store.head import milliseconds
from parley.store.idempotency import Once
from parley.store.keys import AFTER, Ref, at_of, audit_pk, audit_sk

KEPT_DAYS = 400
"""A year, and what the next one needs to look back at it."""

_PAGE_BUDGET = 20
"""Queries that one page may cost when a filter leaves out most of what it reads."""

Action = Literal[
    "outcome.decided",
    "approval.decided",
    "run.interrupted",
    "input.edited",
    "input.removed",
    "session.updated",
    "session.suspended",
    "session.resumed",
    "session.archived",
    "session.restored",
    "session.forked",
    "session.deleted",
    "checkpoint.created",
]

How = Literal["admin_key", "dev"]
"""By what somebody is known: the deployment's key, or that they can reach a server that asks for none."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, by what they are known, and with which request."""

    id: str
    how: How = "dev"
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class By:
    """Whose request it is: who acts, whose sessions they may touch, and their key."""

    actor: Actor
    sees: str | None = None
    once: Once | None = None


@dataclass(frozen=True, slots=True)
class Act:
    """One row; `owner` is whose session it was about."""

    id: str
    at_ms: int
    action: Action
    actor: Actor
    session_id: str
    owner: str
    run_id: str | None = None
    target: str | None = None
    detail: Mapping[str, str | int] = field(default_factory=dict)

    @classmethod
    def of(cls, item: Item) -> "Act":
        """Read the row."""
        return cls(
            id=item["id"],
            at_ms=item["at_ms"],
            action=item["action"],
            actor=Actor(item["actor"], item["how"], item.get("request_id", "")),
            session_id=item["session_id"],
            owner=item["owner"],
            run_id=item.get("run_id"),
            target=item.get("target"),
            detail=item.get("detail") or {},
        )


class _Told(NamedTuple):
    action: Action
    target: str | None = None
    detail: Mapping[str, str | int] = {}


def acts(actor: Actor, ref: Ref, owner: str, events: Sequence[Event]) -> list[Put]:
    """Make the rows of what a person does with these events; one that only follows from another has none."""
    return [
        entry(
            actor,
            told.action,
            ref,
            owner,
            id=event.id,
            at_ms=milliseconds(event.created_at),
            run_id=event.run_id,
            target=told.target,
            detail=told.detail,
        )
        for event in events
        if (told := _told(event))
    ]


def _told(event: Event) -> _Told | None:
    """Say what is kept of an event: ids, and words of ours."""
    match event:
        case ToolOutcomeDecided():
            return _Told("outcome.decided", event.tool_use_id, {"outcome": event.outcome, "attempt": event.attempt})
        case c.ApprovalDecided():
            return _Told("approval.decided", event.approval_id, {"decision": event.decision})
        case c.UserInterrupt():
            return _Told("run.interrupted", event.run_id)
        case c.SessionUpdated():
            changed = event.model_dump(include={*SETTINGS, "budget"}, exclude_none=True)
            return _Told("session.updated", detail={"changed": ", ".join(changed)})
        case c.CheckpointCreated():
            return _Told("checkpoint.created", event.name)
        case c.SessionRestored():
            return _Told("session.restored", detail={"to_seq": event.to_seq})
        case c.SessionSuspended():
            return _Told("session.suspended")
        case c.SessionResumed():
            return _Told("session.resumed")
        case c.SessionTerminated():
            return _Told("session.archived")
        case _:
            return None


def entry(
    actor: Actor,
    action: Action,
    ref: Ref,
    owner: str,
    *,
    id: str,
    at_ms: int,
    run_id: str | None = None,
    target: str | None = None,
    detail: Mapping[str, str | int] | None = None,
) -> Put:
    """Make the row of an act, for the transaction of its effect; `target` is the id of what else it was about."""
    item: Item = {
        "PK": audit_pk(ref.tenant, _month(at_ms)),
        "SK": audit_sk(at_ms, id),
        "id": id,
        "at_ms": at_ms,
        "action": action,
        "actor": actor.id,
        "how": actor.how,
        "request_id": actor.request_id,
        "session_id": ref.id,
        "owner": owner,
        "run_id": run_id,
        "target": target,
        "detail": dict(detail or {}),
        "ttl": at_ms // 1000 + KEPT_DAYS * 86_400,
    }
    return Put(item)


async def page(
    table: Table,
    tenant: str,
    *,
    from_ms: int,
    to_ms: int,
    wanted: Callable[[Act], bool],
    limit: int,
    newest_first: bool,
    after: str | None,
) -> tuple[list[Act], str | None]:
    """Read acts of `from_ms` to `to_ms`, behind the sort key `after`; return the next page's `after`, too.

    A page may be short, even empty, and still have a successor, when the filter leaves out most of what is there.
    """
    acts: list[Act] = []
    first, last, queries = audit_sk(from_ms), audit_sk(to_ms, AFTER), 0
    if after and newest_first:
        last, to_ms = after, at_of(after)
    elif after:
        first, from_ms = after, at_of(after)
    for month in _months(from_ms, to_ms, newest_first=newest_first):
        cursor: Item | None = None
        while True:
            found = await table.query(
                audit_pk(tenant, month),
                first=first,
                last=last,
                limit=limit + 2,
                newest_first=newest_first,
                cursor=cursor,
            )
            for item in found.items:
                if item["SK"] == after or not wanted(act := Act.of(item)):
                    continue
                if len(acts) == limit:
                    return acts, audit_sk(acts[-1].at_ms, acts[-1].id)
                acts.append(act)
            queries, cursor = queries + 1, found.cursor
            if queries >= _PAGE_BUDGET and found.items:
                return acts, found.items[-1]["SK"]
            if cursor is None:
                break
    return acts, None


def _months(from_ms: int, to_ms: int, *, newest_first: bool) -> Iterator[str]:
    """Name the months of a time, in the order that a page is read in."""
    first, last = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (from_ms, to_ms))
    numbers = range(first.year * 12 + first.month - 1, last.year * 12 + last.month)
    for number in reversed(numbers) if newest_first else numbers:
        yield f"{number // 12:04d}-{number % 12 + 1:02d}"


def _month(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m")
