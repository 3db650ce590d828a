"""The index `work`: what somebody must still look at."""

from collections.abc import AsyncIterator

from parley.ports import Item, Table
from parley.store.keys import WORK_PK, Ref


async def work(
    table: Table, *, created_before_ms: int | None = None, due_ms: int | None = None
) -> AsyncIterator[tuple[Ref, str]]:
    """Yield session and sort key of every item in the index, which may lag: read the lock before acting on it.

    With `created_before_ms`, messages that came later are left out: the hint about them is still on its way. With
    `due_ms`, what is not due then is left out, too.
    """
    cursor: Item | None = None
    while True:
        page = await table.query(WORK_PK, index="work", cursor=cursor)
        for item in page.items:
            young = created_before_ms is not None and item.get("created_ms", 0) >= created_before_ms
            early = due_ms is not None and item.get("due_ms", 0) > due_ms
            if not young and not early:
                yield Ref.of(item["PK"]), item["SK"]
        cursor = page.cursor
        if cursor is None:
            return
