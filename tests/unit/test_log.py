"""The log on a real table: the sort key is the lock."""

import asyncio

import pytest
from parley.core import event as e
from parley.core.errors import Unavailable
from parley.core.session import Session
from parley.core.value import text_of
from parley.store import Ref, SlotTaken
from parley.store.entry import MAX_EVENTS

from tests import build
from tests.build import REF, Stage, entry, event, message
from tests.fakes.flaky_table import Fault

pytestmark = pytest.mark.anyio


def texts(events: list[e.Event] | tuple[e.Event, ...]) -> list[str]:
    return [text_of(each.content) for each in events if isinstance(each, e.UserMessage)]


async def filled(stage: Stage, *sizes: int) -> None:
    """Append entries of these sizes; message n says n."""
    after = 0
    for size in sizes:
        stored = await stage.store.log.append(REF, after, [message(str(after + n)) for n in range(1, size + 1)])
        after = stored[-1].seq


# Appending.


async def test_events_get_the_next_places_in_the_log(stage: Stage) -> None:
    first = await stage.store.log.append(REF, 0, [message("a"), message("b")])
    second = await stage.store.log.append(REF, 2, [message("c")])

    assert [each.seq for each in (*first, *second)] == [1, 2, 3]
    assert await stage.log() == [*first, *second]


async def test_a_slot_is_given_once(stage: Stage) -> None:
    log = stage.store.log
    await log.append(REF, 0, [message("first")])

    with pytest.raises(SlotTaken):
        await log.append(REF, 0, [message("second")])

    assert texts(await stage.log()) == ["first"]


async def test_of_many_writers_at_one_slot_one_wins(stage: Stage) -> None:
    tries = (stage.store.log.append(REF, 0, [message(str(n))]) for n in range(10))

    results = await asyncio.gather(*tries, return_exceptions=True)

    won = [result for result in results if isinstance(result, tuple)]
    assert len(won) == 1
    assert all(isinstance(result, SlotTaken) for result in results if result is not won[0])
    assert texts(await stage.log()) == texts(won[0])


@pytest.mark.parametrize("faults", [["unconfirmed"], ["lost"], ["lost", "unconfirmed"], ["unconfirmed", "lost"]])
async def test_a_write_of_unknown_outcome_is_stored_once(stage: Stage, faults: list[Fault]) -> None:
    stage.table.fail_next(*faults)

    stored = await stage.store.log.append(REF, 0, [message("once")])

    assert await stage.log() == list(stored)


async def test_an_unknown_outcome_is_asked_again_with_the_same_bytes(stage: Stage) -> None:
    stage.table.fail_next("lost", "lost")

    await stage.store.log.append(REF, 0, [message()])

    first, *again = stage.table.writes
    assert again == [first, first]


async def test_a_slot_that_another_took_while_the_outcome_was_unknown_is_not_ours(stage: Stage) -> None:
    stage.table.fail_next("lost")

    async def another() -> None:
        await stage.another().store.log.append(REF, 0, [message("other")])

    stage.table.before_next(another, skip=1)
    with pytest.raises(SlotTaken):
        await stage.store.log.append(REF, 0, [message("ours")])

    assert texts(await stage.log()) == ["other"]


async def test_a_store_that_never_answers_is_unavailable(stage: Stage) -> None:
    stage.table.fail_next("lost", times=8)

    with pytest.raises(Unavailable):
        await stage.store.log.append(REF, 0, [message()])

    assert stage.clock.slept == [0.05 * 2**n for n in range(8)]


async def test_a_transaction_whose_entry_had_been_stored_is_adopted_as_a_whole(stage: Stage) -> None:
    claim = await stage.begin()
    stage.table.fail_next("unconfirmed")

    closing = entry(event(e.RunFinished, run_id=claim.run_id), build.idle())
    stored = await stage.store.drives.settle(claim, claim.session, closing, 0)

    assert [each.seq for each in stored] == [5, 6]
    assert (await stage.store.sessions.open(REF))[1].run is None


# Reading.


async def test_a_session_without_events_is_empty(stage: Stage) -> None:
    assert await stage.log() == []
    assert await stage.store.log.load(REF, 0) == (Session(id="sesn_1"), 0)


@pytest.mark.parametrize("after", [0, 1, 2, 3, 64, 65, 66, 67, 70, 71, 99])
async def test_reading_from_any_place_gives_what_is_behind_it_and_nothing_twice(stage: Stage, after: int) -> None:
    await filled(stage, 1, 2, MAX_EVENTS, 1, 3)

    tail = await stage.store.log.tail(REF, after)

    assert [each.seq for each in tail] == list(range(after + 1, 72))


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("after", [0, 2, 5])
@pytest.mark.parametrize("before", [None, 2, 6, 9])
@pytest.mark.parametrize("expect", [1, 3, 1000])
async def test_events_lie_between_after_and_before(
    stage: Stage, newest_first: bool, after: int, before: int | None, expect: int
) -> None:
    await filled(stage, 1, 3, 2, 2)

    events = stage.store.log.events(REF, after=after, before=before, newest_first=newest_first, expect=expect)
    found = [each.seq async for each in events]

    assert found == sorted(range(after + 1, before or 9), reverse=newest_first)


async def test_pages_of_the_table_do_not_show(stage: Stage) -> None:
    await filled(stage, *[1] * 7)
    stage.table.page_limit = 2

    assert texts(await stage.log()) == ["1", "2", "3", "4", "5", "6", "7"]
    assert [each.seq async for each in stage.store.log.events(REF, newest_first=True)] == [7, 6, 5, 4, 3, 2, 1]


async def test_another_sessions_events_do_not_show(stage: Stage) -> None:
    await stage.store.log.append(REF, 0, [message("ours")])
    for other in (Ref("acme", "sesn_10"), Ref("acme", "sesn_"), Ref("acme2", "sesn_1")):
        await stage.store.log.append(other, 0, [message("theirs")])

    assert texts(await stage.log()) == ["ours"]


async def test_loading_counts_the_bytes_that_were_read(stage: Stage) -> None:
    await filled(stage, 1, 1)

    session, size = await stage.store.log.load(REF, 0)

    assert session.seq == 2
    assert size == sum([found.size async for found in stage.store.log.read(REF)]) > 0
