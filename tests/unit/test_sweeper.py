"""What faults leave behind is found by the sweeper: drivers that died, hints that were lost, sessions that ended."""

import asyncio
import logging

import pytest
from parley.core import event as e
from parley.core.errors import Unavailable
from parley.ports import Delete, Put, Update
from parley.store import Ref
from parley.store.sweep import SECOND_PASS_MS
from parley.store.work import work
from parley.sweeper import Sweeper, Swept

from tests.build import REF, Stage, answer, asked, only, said, types
from tests.fakes.gate import Gate
from tests.fakes.hints import KeptHints

pytestmark = pytest.mark.anyio

TWO = [Ref("acme", "sesn_1"), Ref("other", "sesn_2")]


async def hints(stage: Stage) -> tuple[list[Ref], Swept]:
    """Do a round whose hints nobody follows."""
    queue = KeptHints()
    swept = await Sweeper(stage.store, queue).sweep()
    return queue.hints, swept


# Drivers that died.


async def test_every_run_whose_driver_is_gone_is_driven_on(stage: Stage) -> None:
    for ref in TWO:
        await stage.begin(ref=ref)
    other = stage.another().plays(answer(said()), answer(said()))
    stage.clock.advance(60)

    swept = await other.sweeper.sweep()

    assert swept == Swept(hints=2)
    for ref in TWO:
        assert only(e.RunFinished, await stage.ended(ref))


async def test_a_run_that_was_handed_over_and_whose_hint_was_lost_is_found_at_once(stage: Stage) -> None:
    stage.plays(answer(asked("look")))
    stage.runner.deadline.seconds_left = lambda: 0.0
    stage.runner.start(await stage.begin(), stage.agent)
    await asyncio.gather(*stage.runner.tasks)

    assert await hints(stage) == ([REF], Swept(hints=1))


async def test_a_run_that_a_persons_word_has_woken_is_found(stage: Stage) -> None:
    call_id = await stage.park()
    await stage.decide(call_id, "happened")

    assert await hints(stage) == ([REF], Swept(hints=1))


async def test_leases_that_are_held_are_left_alone(stage: Stage) -> None:
    for ref in TWO:
        await stage.begin(ref=ref)
    stage.clock.advance(31)

    assert await hints(stage) == ([], Swept())


async def test_a_run_that_waits_for_a_person_is_left_alone(stage: Stage) -> None:
    await stage.park()
    await stage.send("And this waits for the run")
    stage.clock.advance(10_000)
    before = stage.rows()

    assert await hints(stage) == ([], Swept())
    assert stage.rows() == before


async def test_when_all_is_done_nothing_is_said(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="parley")
    stage.plays(answer(said()))
    await stage.drive()

    assert await hints(stage) == ([], Swept())
    assert caplog.records == []


async def test_an_index_that_lags_behind_leads_nobody_astray(stage: Stage) -> None:
    claim = await stage.begin()
    row = await stage.sqlite.get(REF.run(claim.run_id))
    await stage.finish(claim)
    assert row
    await stage.sqlite.write(Put(row))
    stage.clock.advance(60)

    assert await hints(stage) == ([], Swept())


# Messages that wait.


async def test_a_message_whose_hint_was_lost_gets_its_turn(stage: Stage) -> None:
    await stage.create()
    await stage.send("Hi")
    stage.plays(answer(said()))
    stage.clock.advance(29)
    early = await stage.sweeper.sweep()  # the hint may be on its way
    stage.clock.advance(2)

    swept = await stage.sweeper.sweep()

    assert (early, swept) == (Swept(), Swept(hints=1))
    assert only(e.RunFinished, await stage.ended())


async def test_however_many_messages_wait_one_hint_is_enough(stage: Stage) -> None:
    await stage.create()
    await stage.send("One", "Two")
    await stage.send("Three")
    stage.clock.advance(31)

    assert await hints(stage) == ([REF], Swept(hints=1))


async def test_a_message_behind_a_run_that_is_driven_is_left_alone(stage: Stage) -> None:
    await stage.begin()
    await stage.send("Two")

    assert await hints(stage) == ([], Swept())


async def test_a_message_behind_a_run_whose_driver_is_gone_makes_no_second_hint(stage: Stage) -> None:
    await stage.begin()
    await stage.send("Two")
    stage.clock.advance(60)

    assert await hints(stage) == ([REF], Swept(hints=1))


async def test_a_message_in_a_deleted_session_is_nobodys(stage: Stage) -> None:
    await stage.create()
    await stage.send("Hi")
    await stage.store.sessions.delete(REF)

    found, _ = await hints(stage)

    assert found == []


async def test_a_message_in_a_session_without_a_lock_is_nobodys(stage: Stage) -> None:
    await stage.create()
    await stage.send("Hi")
    await stage.sqlite.write(Delete(REF.lock()))

    assert await hints(stage) == ([], Swept())


# Sessions that ended.


async def test_a_deleted_session_is_gone_after_two_passes(stage: Stage) -> None:
    stage.plays(answer(said()))
    await stage.drive()
    await stage.store.sessions.delete(REF)

    rounds = [await hints(stage), await hints(stage)]
    stage.clock.advance(SECOND_PASS_MS / 1000 + 1)
    rounds.append(await hints(stage))

    assert rounds == [([], Swept()), ([], Swept()), ([], Swept(removed=1))]
    assert stage.rows() == []


async def test_a_session_whose_row_has_lapsed_is_ended(stage: Stage) -> None:
    await stage.create()
    await stage.begin()
    stage.clock.advance(31 * 86_400)

    swept = await stage.sweeper.expire(REF)

    assert swept == Swept(expired=1)
    assert types(await stage.log())[-1] == "session.deleted"


@pytest.mark.parametrize("left", ["an open run", "a message that waits"])
async def test_a_session_that_has_lapsed_without_anybody_being_told_is_ended(stage: Stage, left: str) -> None:
    await stage.create()
    if left == "an open run":
        await stage.begin()
    else:
        await stage.send("Hi")
    stage.clock.advance(31 * 86_400)

    found, _ = await hints(stage)

    assert found == []
    assert types(await stage.log())[-1] == "session.deleted"


async def test_a_session_that_is_used_again_is_not_ended(stage: Stage) -> None:
    await stage.create()

    assert await stage.sweeper.expire(REF) == Swept()
    assert await stage.store.sessions.head(REF)


# What goes wrong.


async def test_a_session_that_cannot_be_swept_does_not_keep_others_from_it(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, logger="parley")
    await stage.create()
    await stage.store.sessions.delete(REF)
    await stage.begin(ref=TWO[1])
    stage.blobs.broken = True
    stage.clock.advance(60)

    found, swept = await hints(stage)

    assert (found, swept) == ([TWO[1]], Swept(hints=1, failed=1))
    assert [record.message for record in caplog.records] == ["session_not_swept"]


async def test_a_session_whose_blob_is_missing_does_not_keep_others_from_their_driver(stage: Stage) -> None:
    lost, whole = Ref("acme", "sesn_1"), Ref("acme", "sesn_2")
    await stage.begin(str(list(range(40_000))), ref=lost)
    await stage.begin(ref=whole)
    assert stage.blobs.kept
    stage.blobs.kept.clear()
    stage.clock.advance(60)
    other = stage.another().plays(answer(said()))

    await other.sweeper.sweep()

    assert only(e.RunFinished, await stage.ended(whole))


@pytest.mark.parametrize("row", ["entry", "waiting message"])
async def test_what_cannot_be_read_does_not_keep_others_from_their_driver(stage: Stage, row: str) -> None:
    unreadable, whole = Ref("acme", "sesn_1"), Ref("acme", "sesn_2")
    if row == "entry":
        await stage.begin(ref=unreadable)
    else:
        await stage.create(unreadable)
        await stage.send("Hi", ref=unreadable)
    await stage.begin(ref=whole)
    [item] = (await stage.sqlite.query(unreadable.pk, first="E" if row == "entry" else "Q", last="Q#~", limit=1)).items
    await stage.sqlite.write(Put(item | {"body": b'\0{"type":"from.the.future"}'}))
    stage.clock.advance(60)
    other = stage.another().plays(answer(said()))

    await other.sweeper.sweep()

    assert only(e.RunFinished, await stage.ended(whole))


async def test_an_index_of_many_pages_is_walked_to_its_end(stage: Stage) -> None:
    refs = [Ref("acme", "sesn_1"), Ref("other", "sesn_1"), Ref("acme", "sesn_2")]
    for ref in refs:
        await stage.begin(ref=ref)
    stage.table.page_limit = 2
    stage.clock.advance(60)

    found = [ref async for ref, _ in work(stage.table)]

    assert sorted(found, key=str) == sorted(refs, key=str)
    assert sorted((await hints(stage))[0], key=str) == sorted(refs, key=str)


async def test_two_sweepers_make_one_driver(stage: Stage) -> None:
    await stage.begin()
    stage.clock.advance(60)
    one, two = (stage.another().plays(answer(said())) for _ in range(2))

    await asyncio.gather(one.sweeper.sweep(), two.sweeper.sweep())

    assert only(e.RunFinished, await stage.ended())
    assert len(one.model.requests) + len(two.model.requests) == 1


async def test_a_machine_that_slept_past_its_lease_keeps_its_run(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said("Still here"))])
    stage.runner.start(await stage.begin(), stage.agent)
    await gate.reached.wait()
    await stage.sqlite.write(Update(REF.lock(), set={"lease_until": 0}))

    assert await stage.sweeper.sweep() == Swept(hints=1)
    gate.opened.set()

    assert only(e.RunFinished, await stage.ended())
    assert types(await stage.log()).count("run.claimed") == 1


async def test_an_index_that_cannot_be_read_is_no_round(stage: Stage) -> None:
    stage.table.away = True

    with pytest.raises(Unavailable):
        await stage.sweeper.sweep()
