"""Sessions as rows: create, open, list, delete. The conversation itself is in the log."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from parley.core.errors import NotFound, Unavailable
from parley.core.event import Event, SessionDeleted
from parley.core.scribe import Scribe
from parley.ports import Absent, Clock, Condition, ConditionFailed, Item, Match, Op, Put, Update
from parley.store import audit
from parley.store.audit import Actor
from parley.store.cursor import Cursors
from parley.store.head import Head, Lock, milliseconds
from parley.store.idempotency import Once
from parley.store.keys import LOCK, SHOWN, WATCHED, Ref, work_keys
from parley.store.log import CONTENTION_RETRIES, Log, SlotTaken

MAX_OFFSET = 10_000
_PAGE_BUDGET = 20
"""Queries that one page may cost when a filter leaves out most of what it reads."""


@dataclass(frozen=True, slots=True)
class HeadPage:
    """One page of a list."""

    heads: list[Head]
    next_page: str | None


@dataclass(frozen=True, slots=True)
class Sessions:
    """Reads and writes the rows `M` and `L`."""

    log: Log
    cursors: Cursors
    clock: Clock
    ttl_seconds: int

    def ttl(self) -> int:
        """Epoch seconds at which a session expires if nothing more happens."""
        return int(self.clock.now().timestamp()) + self.ttl_seconds

    async def create(
        self, ref: Ref, head: Head, once: Once | None = None, *also: Op, said: Sequence[Event] = ()
    ) -> None:
        """Store a new session whose log begins with what is `said`, and do other writes with it.

        Raises:
            ConditionFailed: the same `Idempotency-Key` was used a moment ago.
        """
        ops: list[Op] = [Put(head.item(ref, self.ttl()), Absent()), Put(Lock().item(ref), Absent()), *also]
        if said:
            ops.append(await self.log.entry(ref, 0, said))
        if once:
            ops.append(once.put(int(self.clock.now().timestamp()), ref.id))
        await self.log.write(*ops)

    async def head(self, ref: Ref, owner: str | None = None) -> Head:
        """Read the row; with `owner`, only if it is theirs.

        Raises:
            NotFound: unknown, deleted, expired or somebody else's.
        """
        return _head(ref, await self.log.table.get(ref.shown()), owner)

    async def open(self, ref: Ref, owner: str | None = None) -> tuple[Head, Lock]:
        """Read row and lock together.

        Raises:
            NotFound: as `head`, or the lock says that it is deleted.
        """
        shown, lock = await self.read(ref)
        head = _head(ref, shown, owner)
        if lock.deleted:
            raise NotFound("session", ref.id)
        return head, lock

    async def read(self, ref: Ref) -> tuple[Item | None, Lock]:
        """Read row and lock as they are: a tombstone too, and no row if it has expired; no lock is a deleted one."""
        page = await self.log.table.query(ref.pk, first=LOCK, last=SHOWN)  # neighbours, and less than a page together
        found = {item["SK"]: item for item in page.items}
        lock = replace(Lock.of(found[LOCK]), watched=WATCHED in found) if LOCK in found else Lock(deleted=True)
        return found.get(SHOWN), lock

    def active(self, ref: Ref, head: Head, sent: int) -> Update:
        """Make the write that lets a session count as active now, if it is still open; `sent` messages have come."""
        now = milliseconds(self.clock.now())
        shown = replace(head, updated_ms=max(now, head.updated_ms)).activity(ref, self.ttl())
        del shown["phase"]  # the log's to say
        open_still = Match({"id": ref.id, "deleted": None, "archived_ms": None})
        return Update(ref.shown(), set=shown, add={"sent": sent}, condition=open_still)

    async def delete(self, ref: Ref, owner: str | None = None, actor: Actor | None = None) -> None:
        """Make the session unreadable at once and bar its driver; its bytes are swept later.

        Raises:
            NotFound: as `head`.
            Unavailable: writers kept taking the slot, or it is unknown what was stored; a read will tell.
        """
        for _ in range(CONTENTION_RETRIES):
            head, lock = await self.open(ref, owner)
            now, id = milliseconds(self.clock.now()), self.log.ids.new("audt")
            told = [audit.entry(actor, "session.deleted", ref, head.owner, id=id, at_ms=now)] if actor else []
            if await self.bury(ref, lock, Match({"id": ref.id}), *told):
                return
        raise Unavailable("The session is being written to all the time. Try again.")

    async def bury(self, ref: Ref, lock: Lock, shown: Condition, *also: Op) -> bool:
        """Put tombstones on lock and row, and a barrier behind the log; `False` when somebody wrote meanwhile.

        `shown` has to hold for the row, `lock` is the lock as it was read. The row's tombstone has no `ttl`: it is what
        the sweep is led by, so nothing else may remove it.

        Raises:
            Unavailable: it is unknown what was stored; a read will tell.
        """
        row = ref.shown()
        ops: list[Op] = [
            Update(
                ref.lock(),
                set={"deleted": True, "epoch": lock.epoch + 1},
                remove=("run", "lease_until"),
                condition=Match({"epoch": lock.epoch, "run": lock.run, "deleted": None}),
            ),
            Put({"PK": row.pk, "SK": row.sk, "id": ref.id, "deleted": True, **work_keys(ref, row.sk)}, shown),
            await self.barrier(ref, await self.log.last_seq(ref, lock.sealed) + 1, lock.run),
            *also,
        ]
        if lock.run:
            ended = {"phase": "deleted", "ended_ms": milliseconds(self.clock.now())}
            ops.append(Update(ref.run(lock.run), set=ended, remove=("work_pk", "work_sk")))
        try:
            await self.log.write(*ops)
        except (SlotTaken, ConditionFailed):
            return False
        return True

    async def barrier(self, ref: Ref, seq: int, run_id: str | None = None) -> Put:
        """Make the entry at `seq` that ends every driver who aims at it."""
        scribe = Scribe(self.log.ids.new, self.clock.now, run_id)
        put = await self.log.entry(ref, seq - 1, [scribe.write(SessionDeleted)])
        return replace(put, item=put.item | {"barrier": True})

    async def page(
        self,
        tenant: str,
        *,
        question: str,
        wanted: Callable[[Head], bool],
        limit: int,
        newest_first: bool,
        page: str | None,
        offset: int = 0,
    ) -> HeadPage:
        """List sessions by their last activity.

        `question` names the filter, so that a cursor fits no other. A page may be short, even empty, and still have a
        successor, when the filter leaves out most of what is there.
        """
        cursor = await self.cursors.open(tenant, question, page) if page else None
        heads: list[Head] = []
        queries = MAX_OFFSET if offset else _PAGE_BUDGET
        async for head, place in self._listed(tenant, newest_first, cursor, limit + 1 + offset, queries):
            if head is None:
                return HeadPage(heads, await self.cursors.seal(tenant, question, place))
            if not wanted(head):
                continue
            if offset:
                offset -= 1
                continue
            if len(heads) == limit:
                return HeadPage(heads, await self.cursors.seal(tenant, question, cursor))
            heads.append(head)
            cursor = place
        return HeadPage(heads, None)

    async def total(self, tenant: str, wanted: Callable[[Head], bool]) -> int:
        """Count what a list would show, at most `MAX_OFFSET` + 1."""
        total = 0
        async for head, _ in self._listed(tenant, True, None, 1000, MAX_OFFSET):
            total += head is not None and wanted(head)
            if total > MAX_OFFSET:
                break
        return total

    async def _listed(
        self, tenant: str, newest_first: bool, cursor: Item | None, need: int, queries: int
    ) -> AsyncIterator[tuple[Head | None, Item | None]]:
        """Yield rows with their places, in growing pages; no row when `queries` are used up before the end."""
        size = min(need, 1000)
        for _ in range(queries):
            page = await self.log.table.query(
                f"T#{tenant}", index="list", limit=size, newest_first=newest_first, cursor=cursor
            )
            for item in page.items:
                yield Head.of(item), {name: item[name] for name in ("PK", "SK", "list_pk", "list_sk")}
            cursor, size = page.cursor, min(size * 2, 1000)
            if cursor is None:
                return
        yield None, cursor


def _head(ref: Ref, item: Item | None, owner: str | None) -> Head:
    if item is None or item.get("deleted") or (owner is not None and item["owner"] != owner):
        raise NotFound("session", ref.id)
    return Head.of(item)
