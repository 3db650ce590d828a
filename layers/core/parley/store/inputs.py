"""Messages that wait for their turn: rows beside the log, without a `seq`, until a driver takes them into it.

An accepted message is a row in the table before it is answered; a hint on the queue only makes it sooner. The row is in
the index `work`, so that a lost hint is found.
"""

import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from parley.core.errors import Conflict, Unavailable, Unreadable
from parley.core.event import EVENT, UserMessage, to_json
from parley.ports import Absent, Delete, Item, Match, Put, Update
from parley.store.entry import INLINE_BYTES, pack, unpack
from parley.store.head import milliseconds
from parley.store.idempotency import Once
from parley.store.keys import AFTER, QUEUED, Ref, work_keys
from parley.store.log import Log
from parley.store.sessions import Sessions

MAX_QUEUED = 32
"""Messages that may wait in one session; more are refused, because nobody could be answering that fast."""


@dataclass(frozen=True, slots=True)
class Queued:
    """A message that waits, and the row that it waits in."""

    ref: Ref
    sk: str
    message: UserMessage
    blob: str | None = None

    def taken(self) -> Delete:
        """Make the write that takes it out of the queue, once, in the transaction that puts it into the log."""
        return Delete(self.ref.at(self.sk), Match({"id": self.message.id}))


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
            Conflict: too many are waiting.
            ConditionFailed: `once` was used a moment ago, or the session was deleted in this moment.
            Unavailable: it is unknown whether they were stored; the same request again will tell.
        """
        head = await self.sessions.head(ref, owner)
        if len(await self._rows(ref)) + len(messages) > MAX_QUEUED:
            raise Conflict(f"{MAX_QUEUED} messages wait in session '{ref.id}' already.", code="queue_full")
        now = milliseconds(self.log.clock.now())
        active = replace(head, updated_ms=max(now, head.updated_ms)).activity(ref, self.sessions.ttl())
        del active["phase"]  # the log's to say
        alive = Update(ref.shown(), set=active, condition=Match({"id": ref.id, "deleted": None}))
        batch = self.log.ids.new("in")  # an id sorts by its time; a number keeps the order of one request
        rows = [await self._row(ref, f"{QUEUED}{batch}#{n:02d}", message) for n, message in enumerate(messages)]
        # Without a key of the caller's, too: a row may be drained before its unconfirmed write is sent again.
        once = once or Once.of(ref.tenant, "", QUEUED, ref.id, batch, b"")
        created = milliseconds(messages[0].created_at)
        stands = once.put(now // 1000, ref.id, inputs=[message.id for message in messages], created_ms=created)
        await self.log.write(stands, alive, *[Put(row, Absent()) for row in rows])

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

    async def _row(self, ref: Ref, sk: str, message: UserMessage) -> Item:
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
        blob = ref.blob(message.id)
        await self.log.blobs.put(blob, body)
        return item | {"blob": blob}

    async def _read(self, ref: Ref, item: Item) -> Queued | None:
        blob = item.get("blob")
        body = item.get("body") if blob is None else await self.log.blobs.get(blob)
        if body is None and await self.log.table.get(ref.at(item["SK"])) is None:
            return None  # taken since the row was read
        if body is None:
            raise Unavailable(f"The blob '{blob}' of a waiting message is missing.")
        try:
            message = EVENT.validate_json(unpack(body))
        except (ValueError, zlib.error) as error:
            raise Unreadable(ref.pk, item["SK"]) from error
        assert isinstance(message, UserMessage), "only messages wait"  # noqa: S101 - narrows a type
        return Queued(ref, item["SK"], message, blob)
