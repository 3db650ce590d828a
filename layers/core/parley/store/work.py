"""The index `work`: what somebody must still look at."""

from collections.abc import AsyncIterator

from parley.ports import Item, Table
from parley.store.keys import WORK_PK, Ref


async def work(table: Table, *, created_before_ms: int | None = None) -> AsyncIterator[tuple[Ref, str]]:
    """Yield session and sort key of every item in the index, which may lag: read the lock before acting on it.

    With `created_before_ms`, messages that came later are left out: the hint about them is still on its way.
    """
    cursor: Item | None = None
    while True:
        page = await table.query(WORK_PK, index="work", cursor=cursor)
        for item in page.items:
            if created_before_ms is None or item.get("created_ms", 0) < created_before_ms:
                yield Ref.of(item["PK"]), item["SK"]
        cursor = page.cursor
        if cursor is None:
            return
