"""What a claim allows, on a real table: appends, leases, releases, the end of a run; and a person's word."""

import asyncio
from typing import Any

import pytest
from parley.core import event as e
from parley.core.errors import Fenced, NotFound, SessionBusy
from parley.core.outcome import Word, decide
from parley.core.scribe import Scribe
from parley.core.tool import ToolOutcome
from parley.deadline import Deadline
from parley.ports import ConditionFailed
from parley.store import Lock, SlotTaken
from parley.store.rows import run_row
from parley.store.words import Word as Said
from parley.store.work import work

from tests.build import REF, Stage, answer, answered, asked, event, idle, only, said, types

pytestmark = pytest.mark.anyio


async def lock(stage: Stage) -> Lock:
    _, found = await stage.store.sessions.open(REF)
    return found


# Of an older driver.


async def test_taking_over_is_a_barrier_in_the_log(stage: Stage) -> None:
    old = await stage.begin()
    new = await stage.take_over()

    with pytest.raises(SlotTaken):
        await stage.store.drives.append(old, old.session, answered(event(e.AgentMessage)))

    tail = await stage.store.log.tail(REF, old.session.seq)
    assert types(tail) == ["run.claimed", "session.status_rescheduled"]
    assert only(e.RunClaimed, tail)[0].epoch == new.epoch == old.epoch + 1
    assert new.session == await stage.session()


async def test_an_older_driver_cannot_end_the_run(stage: Stage) -> None:
    old = await stage.begin()
    new = await stage.take_over()

    with pytest.raises(Fenced):
        await stage.finish(old)

    assert (await lock(stage)).run == new.run_id
    await stage.finish(new)
    assert (await lock(stage)).run is None


async def test_even_after_it_has_caught_up_an_older_driver_cannot_end_the_run(stage: Stage) -> None:
    old = await stage.begin()
    await stage.take_over()
    caught_up = await stage.session()

    with pytest.raises(Fenced):
        await stage.store.drives.settle(old, caught_up, [event(e.RunFinished), idle()], 0)

    assert only(e.RunFinished, await stage.log()) == []


async def test_an_older_driver_cannot_renew(stage: Stage) -> None:
    old = await stage.begin()
    await stage.take_over()
    before = stage.rows()

    with pytest.raises(Fenced):
        await stage.store.drives.renew(old)

    assert stage.rows() == before


async def test_renewing_extends_the_lease_and_nothing_else(stage: Stage) -> None:
    claim = await stage.begin()
    held = await lock(stage)
    stage.clock.advance(20)

    await stage.store.drives.renew(claim)

    assert await lock(stage) == Lock(held.epoch, held.run, (held.lease_until_ms or 0) + 20_000)


async def test_renewing_is_no_crime_when_the_answer_was_lost(stage: Stage) -> None:
    claim = await stage.begin()
    stage.table.fail_next("unconfirmed")

    await stage.store.drives.renew(claim)


async def test_while_a_call_is_at_work_for_long_the_lease_is_the_lock(stage: Stage) -> None:
    claim = await stage.begin()
    for _ in range(10):
        stage.clock.advance(25)
        await stage.store.drives.renew(claim)

    assert await stage.another().store.claims.take_over(REF) is None


# Waiting for a person.


async def test_a_parked_run_keeps_its_session_busy_without_a_lease(stage: Stage) -> None:
    await stage.park()

    held = await lock(stage)
    assert held.run is not None
    assert held.lease_until_ms is None
    with pytest.raises(SessionBusy):
        await stage.begin("Meanwhile")


async def test_a_persons_word_lets_anybody_take_over_at_once(stage: Stage) -> None:
    call_id = await stage.park()

    await stage.decide(call_id, "happened")
    claim = await stage.store.claims.take_over(REF)

    assert claim is not None
    assert claim.session.run is not None
    assert claim.session.run.parked is False


async def test_of_two_words_at_once_one_counts(stage: Stage) -> None:
    call_id = await stage.park()
    held, session = await lock(stage), await stage.session()
    head = await stage.store.sessions.head(REF)

    def word(outcome: e.OutcomeWord) -> Any:
        scribe = Scribe(stage.ids.new, stage.clock.now, held.run)
        words = decide(scribe, session, call_id, Word(outcome), "ann")
        return stage.store.words.put(Said.of(REF, head, session, words), held, lock={})

    results = await asyncio.gather(word("happened"), word("did_not_happen"), return_exceptions=True)

    assert len([result for result in results if result is None]) == 1
    assert any(isinstance(result, SlotTaken | ConditionFailed) for result in results)
    assert len(only(e.ToolOutcomeDecided, await stage.log())) == 1


async def test_a_word_that_was_not_confirmed_stands_once(stage: Stage) -> None:
    call_id = await stage.park()
    stage.table.fail_next("unconfirmed")

    await stage.decide(call_id, "happened")

    assert len(only(e.ToolOutcomeDecided, await stage.log())) == 1
    assert await stage.store.claims.take_over(REF) is not None


async def test_a_word_given_while_the_driver_goes_to_sleep_still_wakes_the_run(stage: Stage) -> None:
    """The lock is read before the driver parks, the log after: the word must not stand in a log that nobody drives."""
    stage.plays(answer(asked("pay")), pay=ToolOutcome("unknown", "?"))
    claim = await stage.begin()
    awake = await lock(stage)
    await stage.drive(claim)
    session = await stage.session()
    [use] = only(e.AgentToolUse, await stage.log())
    words = decide(Scribe(stage.ids.new, stage.clock.now, awake.run), session, use.id, Word("happened"), "ann")

    try:
        head = await stage.store.sessions.head(REF)
        await stage.store.words.put(Said.of(REF, head, session, words), awake, lock={})
    except (SlotTaken, ConditionFailed):
        await stage.decide(use.id, "happened")

    stage.clock.advance(60)
    assert await stage.store.claims.take_over(REF) is not None


async def test_a_renewal_that_comes_after_the_run_was_parked_neither_wakes_it_nor_keeps_a_word_out(
    stage: Stage,
) -> None:
    stage.plays(answer(asked("pay")), pay=ToolOutcome("unknown", "?"))
    claim = await stage.begin()
    await stage.drive(claim)
    [use] = only(e.AgentToolUse, await stage.log())
    await stage.store.drives.renew(claim)
    kept = (await lock(stage)).lease_until_ms
    stage.clock.advance(60)
    before = await stage.store.claims.take_over(REF)

    await stage.decide(use.id, "happened")

    assert (kept, before) == (None, None)
    assert await stage.store.claims.take_over(REF) is not None


async def test_a_renewal_that_comes_after_a_hand_over_does_not_keep_the_next_driver_out(stage: Stage) -> None:
    claim = await stage.begin()
    stage.plays(answer(asked("look")), look=ToolOutcome("ok", "seen"))
    short = Deadline(lambda: 1.0)
    async for _ in stage.engine.drive(claim, stage.agent, short):
        pass

    await stage.store.drives.renew(claim)

    assert await stage.store.claims.take_over(REF) is not None


async def test_a_renewal_that_comes_after_the_end_of_the_run_is_no_fault_of_its_driver(stage: Stage) -> None:
    claim = await stage.begin()
    stage.plays(answer(said()))
    await stage.drive(claim)

    await stage.store.drives.renew(claim)

    assert (await lock(stage)).lease_until_ms is None


async def test_releasing_a_run_that_has_just_been_parked_does_not_make_it_look_like_one_without_a_driver(
    stage: Stage,
) -> None:
    stage.plays(answer(asked("pay")), pay=ToolOutcome("unknown", "?"))
    claim = await stage.begin()
    await stage.drive(claim)

    with pytest.raises(Fenced):
        await stage.store.drives.release(claim)

    assert (await lock(stage)).lease_until_ms is None


# Settling.


async def test_the_end_of_a_run_is_one_write_of_log_lock_list_and_row(stage: Stage) -> None:
    claim = await stage.begin()
    stage.clock.advance(5)

    await stage.finish(claim)

    assert len(stage.table.writes) == 2
    shown, held = await stage.store.sessions.open(REF)
    row = await run_row(stage.sqlite, REF, claim.run_id)
    assert (shown.phase, shown.active_ms, shown.updated_ms) == ("completed", 5000, stage.clock.milliseconds())
    assert held == Lock(epoch=1)
    assert (row.phase, row.first_seq, row.last_seq) == ("completed", 1, 6)
    assert (row.ended_ms or 0) - row.started_ms == 5000
    assert [ref async for ref, _ in work(stage.sqlite)] == []


async def test_a_clock_that_went_backwards_takes_no_time_away(stage: Stage) -> None:
    claim = await stage.begin()
    stage.clock.advance(-10)

    await stage.finish(claim)

    shown = await stage.store.sessions.head(REF)
    assert shown.active_ms >= 0
    assert shown.updated_ms >= shown.created_ms


async def test_an_end_whose_slot_was_taken_changes_nothing(stage: Stage) -> None:
    claim = await stage.begin()
    await stage.store.log.append(REF, claim.session.seq, [event(e.ToolOutcomeDecided)])
    before = stage.rows()

    with pytest.raises(SlotTaken):
        await stage.finish(claim)

    assert stage.rows() == before


async def test_a_failed_run_says_why_in_its_row(stage: Stage) -> None:
    claim = await stage.begin("Hi " * 1000, task_id="ticket-7")

    failed = event(e.RunFailed, run_id=claim.run_id, code="step_limit", message="Enough.")
    await stage.store.drives.settle(claim, claim.session, [failed, idle("retries_exhausted")], 0)

    row = await run_row(stage.sqlite, REF, claim.run_id)
    assert (row.phase, row.error_code, row.error_message) == ("error", "step_limit", "Enough.")
    assert (row.input, row.task_id) == (("Hi " * 1000)[:500], "ticket-7")


async def test_a_run_of_an_unknown_id_is_not_found(stage: Stage) -> None:
    await stage.begin()

    for unknown in ("run_9", "", "x" * 2000, "\0", "ä"):
        with pytest.raises(NotFound):
            await run_row(stage.sqlite, REF, unknown)
