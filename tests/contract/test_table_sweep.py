"""Sweeps on every table: the store's longest chain of reads and writes, where one table might differ from another."""

import pytest
from parley.core.compose import user_message
from parley.core.errors import NotFound
from parley.core.scribe import Scribe
from parley.ports import Delete, Item, Table
from parley.store import Claim, Ref, Store
from parley.store.sweep import SECOND_PASS_MS

from tests.build import REF, agent, entry, head, message, tombstones
from tests.contract.backends import ManualClock
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.ids import CountingIds

pytestmark = pytest.mark.anyio

TTL_SECONDS = 30 * 86_400
NEIGHBOUR = Ref("acme", "sesn_10")


@pytest.fixture
def blobs() -> MemoryBlobs:
    return MemoryBlobs()


@pytest.fixture
def store(table: Table, blobs: MemoryBlobs, clock: ManualClock) -> Store:
    return Store.over(table, blobs, clock, CountingIds())


async def lived(store: Store, ref: Ref = REF) -> Claim:
    """Make a session with an open run, some entries, a blob and a message that waits."""
    claim = await store.claims.begin(ref, agent(), "".join(map(chr, range(300, 30_000))), new=head(ref))
    session = claim.session
    for text in "abcdefghij":
        await store.drives.append(claim, session, entry(message(text)))
        session = session.but(seq=session.seq + 1)
    await store.inputs.put(ref, [user_message(Scribe(store.log.ids.new, store.log.clock.now, None), "Wait")])
    return claim


async def left(table: Table, ref: Ref = REF) -> list[str]:
    """Name what the table has of a session."""
    found: list[str] = []
    cursor: Item | None = None
    while True:
        page = await table.query(ref.pk, cursor=cursor, limit=7)
        found += [item["SK"] for item in page.items]
        cursor = page.cursor
        if cursor is None:
            return found


async def swept(store: Store, clock: ManualClock, ref: Ref = REF) -> bool:
    """Do both passes."""
    await store.sweep.sweep(ref)
    clock.advance(SECOND_PASS_MS / 1000)
    return await store.sweep.sweep(ref)


async def test_of_a_deleted_session_nothing_is_left(
    store: Store, table: Table, blobs: MemoryBlobs, clock: ManualClock
) -> None:
    await lived(store)
    await lived(store, NEIGHBOUR)
    before = await left(table, NEIGHBOUR)

    await store.sessions.delete(REF)
    led_to = await tombstones(store.table)
    await store.sweep.sweep(REF)
    in_between = await left(table)
    done = await swept(store, clock)

    assert led_to == [REF]
    assert [sk[:2] for sk in in_between] == ["E#", "E#", "L", "M"]
    assert done
    assert await left(table) == []
    assert await tombstones(store.table) == []
    assert {key.split("/")[1] for key in blobs.kept} == {NEIGHBOUR.id}
    assert await left(table, NEIGHBOUR) == before


@pytest.mark.parametrize("how", ["removed", "left"])
async def test_of_an_expired_session_nothing_is_left(
    store: Store, table: Table, blobs: MemoryBlobs, clock: ManualClock, how: str
) -> None:
    await lived(store)
    early = await store.sweep.expired(REF)
    clock.advance(TTL_SECONDS + 1)
    if how == "removed":
        await table.write(Delete(REF.shown()))

    made = await store.sweep.expired(REF)
    again = await store.sweep.expired(REF)
    led_to = await tombstones(store.table)
    done = await swept(store, clock)

    assert (early, made, again, led_to, done) == (False, True, False, [REF], True)
    assert await left(table) == []
    assert blobs.kept == {}
    with pytest.raises(NotFound):
        await store.sessions.open(REF)
