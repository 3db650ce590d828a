"""Messages that wait for their turn: rows beside the log, without a `seq`, until a driver takes them into it.

An accepted message is a row in the table before it is answered; a hint on the queue only makes it sooner. The row is in
the index `work`, so that a lost hint is found.
"""

import zlib
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from parley.core.compose import blocks
from parley.core.errors import Conflict, NotFound, SessionArchived, Unavailable, Unreadable
from parley.core.event import EVENT, UserMessage, to_json
from parley.core.value import Content
from parley.ports import Absent, ConditionFailed, Delete, Item, Match, Op, Put
from parley.store import audit
from parley.store.audit import Action, By
from parley.store.entry import INLINE_BYTES, pack, unpack
from parley.store.head import milliseconds
from parley.store.idempotency import Once, find
from parley.store.keys import AFTER, QUEUED, Ref, work_keys
from parley.store.log import CONTENTION_RETRIES, Log
from parley.store.sessions import Sessions

MAX_QUEUED = 32
"""Messages that may wait in one session; more are refused, because nobody could be answering that fast."""

MAX_ID_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Queued:
    """A message that waits, and the row that it waits in."""

    ref: Ref
    sk: str
    message: UserMessage
    blob: str | None = None
    revision: int | None = None
    """How often it was edited; none if never."""

    @property
    def unchanged(self) -> Match:
        """Hold as long as nobody has taken, edited or removed it."""
        return Match({"id": self.message.id, "revision": self.revision})

    def taken(self) -> Delete:
        """Make the write that takes it out of the queue, as it was read, in the transaction of what becomes of it."""
        return Delete(self.ref.at(self.sk), self.unchanged)


@dataclass(frozen=True, slots=True)
class Arrived:
    """Messages that are about to wait, and their rows."""

    messages: Sequence[UserMessage]
    rows: Sequence[Put]

    def stands(self, once: Once, now_ms: int, session_id: str, seq: int | None = None) -> Put:
        """Make the row that says which request they came with."""
        ids, created = [message.id for message in self.messages], milliseconds(self.messages[0].created_at)
        return once.put(now_ms // 1000, session_id, seq=seq, inputs=ids, created_ms=created)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Reads and writes the rows `Q#`."""

    sessions: Sessions
    log: Log

    async def put(
        self, ref: Ref, messages: Sequence[UserMessage], *, owner: str | None = None, once: Once | None = None
    ) -> None:
        """Store messages, all or none, in their order; the session counts as active.

        Raises:
            NotFound: unknown, deleted, expired or somebody else's session.
            Conflict: too many are waiting, or the session is archived.
            ConditionFailed: `once` was used a moment ago, or the session was deleted or archived in this moment.
            Unavailable: it is unknown whether they were stored; the same request again will tell.
        """
        head = await self.sessions.head(ref, owner)
        if head.archived_ms is not None:
            raise SessionArchived(ref.id)
        arrived = await self.arrive(ref, messages)
        # Without a key of the caller's, too: a row may be drained before its unconfirmed write is sent again.
        once = once or self._own(ref)
        stands = arrived.stands(once, milliseconds(self.log.clock.now()), ref.id)
        await self.log.write(stands, self.sessions.active(ref, head, len(messages)), *arrived.rows)

    async def arrive(self, ref: Ref, messages: Sequence[UserMessage]) -> Arrived:
        """Make the rows in which messages will wait, in their order.

        Raises:
            Conflict: too many are waiting.
        """
        if len(await self._rows(ref)) + len(messages) > MAX_QUEUED:
            raise Conflict(f"{MAX_QUEUED} messages wait in session '{ref.id}' already.", code="queue_full")
        batch = self.log.ids.new("in")  # an id sorts by its time; a number keeps the order of one request
        rows = [await self._row(ref, f"{QUEUED}{batch}#{n:02d}", message) for n, message in enumerate(messages)]
        return Arrived(messages, [Put(row, Absent()) for row in rows])

    async def edit(self, ref: Ref, event_id: str, content: Content, by: By | None = None) -> None:
        """Change what a waiting message says; of edits, removals and its run the first counts.

        Raises:
            NotFound: the session as in `put`, or nothing of that id waits or is in the log.
            Conflict: it is in the log.
            Unavailable: it is unknown whether it was changed; the same request again will tell.
        """

        async def edited(queued: Queued) -> Op:
            message = queued.message.model_copy(update={"content": blocks(content)})
            row = await self._row(ref, queued.sk, message, self.log.ids.new("in"))
            return Put(row | {"revision": (queued.revision or 0) + 1}, queued.unchanged)

        await self._change(ref, event_id, "input.edited", edited, by)

    async def remove(self, ref: Ref, event_id: str, by: By | None = None) -> None:
        """Take a message out of the queue for good; raises what `edit` raises."""

        async def removed(queued: Queued) -> Op:
            return queued.taken()

        await self._change(ref, event_id, "input.removed", removed, by)

    async def _change(
        self,
        ref: Ref,
        event_id: str,
        action: Action,
        change: Callable[[Queued], Awaitable[Op]],
        by: By | None,
    ) -> None:
        head = await self.sessions.head(ref, by.sees if by else None)
        # Without a key of the caller's, too: it tells a change that was made, and not confirmed, from one that is late.
        once = (by and by.once) or self._own(ref)
        for _ in range(CONTENTION_RETRIES):
            queued = await self.find(ref, event_id)
            if queued is None:
                raise await self._too_late(ref, event_id)
            now, created = milliseconds(self.log.clock.now()), milliseconds(queued.message.created_at)
            stands = once.put(now // 1000, ref.id, inputs=[event_id], created_ms=created)
            id = self.log.ids.new("audt")
            told = [audit.entry(by.actor, action, ref, head.owner, id=id, at_ms=now, target=event_id)] if by else []
            try:
                await self.log.write(stands, await change(queued), *told)
            except ConditionFailed:
                if await find(self.log.table, once):
                    return None
                continue
            return await self.forget(queued)
        raise Unavailable("The message is being changed all the time. Try again.")

    async def find(self, ref: Ref, event_id: str) -> Queued | None:
        """Return a message that waits."""
        for item in await self._rows(ref):
            if item["id"] == event_id:
                return await self._read(ref, item)
        return None

    async def placed(self, ref: Ref, message_id: str, after: int = 0) -> UserMessage | None:
        """Return a message that has been taken into the log, behind `after`."""
        async for event in self.log.events(ref, after=after, newest_first=True):
            if isinstance(event, UserMessage) and event.id == message_id:
                return event
        return None

    async def _too_late(self, ref: Ref, event_id: str) -> Conflict | NotFound:
        async for event in self.log.events(ref, newest_first=True):
            if event.id == event_id:
                return Conflict(f"Event '{event_id}' is in the log, and stays as it is.", code="event_stored")
        return NotFound("event", event_id[:MAX_ID_LENGTH])

    async def all(self, ref: Ref) -> list[Queued]:
        """Return what waits, the first first."""
        read = [await self._read(ref, item) for item in await self._rows(ref)]
        return [queued for queued in read if queued]

    async def first(self, ref: Ref) -> Queued | None:
        """Return what has waited longest."""
        page = await self.log.table.query(ref.pk, first=QUEUED, last=QUEUED + AFTER, limit=1)
        for item in page.items:
            return await self._read(ref, item)
        return None

    async def wait(self, ref: Ref) -> bool:
        """Say whether a message waits."""
        return bool((await self.log.table.query(ref.pk, first=QUEUED, last=QUEUED + AFTER, limit=1)).items)

    async def forget(self, taken: Queued) -> None:
        """Remove the blob of a message that is in the log now; what is left over goes with the session."""
        if taken.blob:
            with suppress(Unavailable):
                await self.log.blobs.delete(taken.blob)

    async def _rows(self, ref: Ref) -> list[Item]:
        rows: list[Item] = []
        cursor: Item | None = None
        while True:
            page = await self.log.table.query(ref.pk, first=QUEUED, last=QUEUED + AFTER, cursor=cursor)
            rows += page.items
            cursor = page.cursor
            if cursor is None:
                return rows

    def _own(self, ref: Ref) -> Once:
        """Make a key for a request that has none."""
        return Once.of(ref.tenant, "", QUEUED, ref.id, self.log.ids.new("in"), b"")

    async def _row(self, ref: Ref, sk: str, message: UserMessage, blob_name: str = "") -> Item:
        body = pack(to_json(message))
        item: Item = {
            "PK": ref.pk,
            "SK": sk,
            "id": message.id,
            "created_ms": milliseconds(message.created_at),
            **work_keys(ref, sk),
        }
        if len(body) <= INLINE_BYTES:
            return item | {"body": body}
        blob = ref.blob(blob_name or message.id)
        await self.log.blobs.put(blob, body)
        return item | {"blob": blob}

    async def _read(self, ref: Ref, item: Item) -> Queued | None:
        blob = item.get("blob")
        body = item.get("body") if blob is None else await self.log.blobs.get(blob)
        if body is None:
            now = await self.log.table.get(ref.at(item["SK"]))
            if now is None or now.get("blob") != blob:  # taken, or edited, since the row was read
                return await self._read(ref, now) if now else None
            raise Unavailable(f"The blob '{blob}' of a waiting message is missing.")
        try:
            message = EVENT.validate_json(unpack(body))
        except (ValueError, zlib.error) as error:
            raise Unreadable(ref.pk, item["SK"]) from error
        assert isinstance(message, UserMessage), "only messages wait"  # noqa: S101 - narrows a type
        return Queued(ref, item["SK"], message, blob, item.get("revision"))
