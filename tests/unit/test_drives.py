"""Claims on a real table: one winner, barriers for the others, parked locks, releases."""

import asyncio
from typing import Any

import pytest
from parley.core import event as e
from parley.core.compose import Scribe
from parley.core.errors import Conflict, Fenced, NotFound, SessionBusy
from parley.core.outcome import Word, decide
from parley.core.tool import ToolOutcome
from parley.ports import ConditionFailed
from parley.store import Claim, Lock, Ref, SlotTaken
from parley.store.rows import open_runs, run_row

from tests.build import REF, Stage, agent, answer, answered, asked, entry, event, head, idle, only, types

pytestmark = pytest.mark.anyio


async def lock(stage: Stage) -> Lock:
    _, found = await stage.store.sessions.open(REF)
    return found


async def finish(stage: Stage, claim: Claim) -> None:
    closing = entry(event(e.RunFinished, run_id=claim.run_id), idle())
    await stage.store.drives.settle(claim, claim.session, closing, claim.unsealed_bytes)


async def parked(stage: Stage) -> str:
    """Leave a run that waits for a person's word on this call."""
    stage.plays(answer(asked("pay")), pay=ToolOutcome("unknown", "?"))
    await stage.drive()
    [use] = only(e.AgentToolUse, await stage.log())
    return use.id


# Beginning.


async def test_a_message_and_the_start_of_its_run_are_one_write(stage: Stage) -> None:
    claim = await stage.begin("Hi", task_id="ticket-7")

    assert len(stage.table.writes) == 1
    assert list(claim.events) == await stage.log()
    assert types(claim.events) == ["user.message", "run.started", "session.status_running", "run.claimed"]
    assert claim.session == await stage.session()


async def test_a_begun_run_holds_the_session(stage: Stage) -> None:
    claim = await stage.begin()

    assert await lock(stage) == Lock(1, claim.run_id, stage.clock.milliseconds() + 30_000)
    with pytest.raises(SessionBusy) as caught:
        await stage.begin("More")
    assert claim.run_id in caught.value.message
    assert types(await stage.log()).count("user.message") == 1


async def test_a_refused_message_leaves_nothing_behind(stage: Stage) -> None:
    await stage.begin()
    before = stage.rows()

    for refused in (
        stage.store.drives.begin(REF, stage.agent, "busy"),
        stage.store.drives.begin(REF, agent(id="other"), "wrong agent"),
        stage.store.drives.begin(REF, stage.agent, "not yours", owner="bob"),
        stage.store.drives.begin(Ref("other", "sesn_1"), stage.agent, "foreign"),
        stage.store.drives.begin(Ref("acme", "sesn_9"), stage.agent, "unknown"),
    ):
        with pytest.raises((SessionBusy, Conflict, NotFound)):
            await refused

    assert stage.rows() == before


async def test_a_session_belongs_to_its_agent(stage: Stage) -> None:
    await stage.create()

    with pytest.raises(Conflict) as caught:
        await stage.store.drives.begin(REF, agent(id="other"), "Hi")

    assert caught.value.code == "other_agent"


async def test_of_many_messages_at_once_one_begins_a_run(stage: Stage) -> None:
    await stage.create()
    several = [stage.another() for _ in range(6)]

    results = await asyncio.gather(*(each.begin() for each in several), return_exceptions=True)

    claims = [result for result in results if isinstance(result, Claim)]
    assert len(claims) == 1
    assert all(isinstance(result, SessionBusy) for result in results if result is not claims[0])
    assert types(await stage.log()).count("user.message") == 1


@pytest.mark.parametrize("faults", [["unconfirmed"], ["lost"], ["lost", "unconfirmed"]])
async def test_a_message_whose_write_was_not_confirmed_begins_one_run(stage: Stage, faults: list[Any]) -> None:
    stage.table.fail_next(*faults)

    claim = await stage.begin()

    assert list(claim.events) == await stage.log()
    assert [ref async for ref in open_runs(stage.sqlite)] == [REF]


async def test_a_spurious_conflict_is_tried_again(stage: Stage) -> None:
    await stage.create()
    stage.table.fail_next("conflict", "conflict")

    claim = await stage.begin()

    assert list(claim.events) == await stage.log()


async def test_runs_of_one_session_follow_one_another_without_a_gap(stage: Stage) -> None:
    for epoch in (1, 2, 3):
        claim = await stage.begin()
        assert claim.epoch == epoch
        await finish(stage, claim)

    assert [event.seq for event in await stage.log()] == list(range(1, 19))


async def test_a_new_session_carries_what_it_was_made_with(stage: Stage) -> None:
    await stage.begin(new=head(title="Rent", task_id="ticket-7", metadata={"a": "b"}))

    shown = await stage.store.sessions.head(REF)
    assert (shown.title, shown.task_id, shown.metadata, shown.runs) == ("Rent", "ticket-7", {"a": "b"}, 1)
    assert {event.task_id for event in await stage.log()} == {"ticket-7"}


async def test_a_task_of_the_message_counts_more_than_that_of_the_session(stage: Stage) -> None:
    await stage.create(task_id="old")

    await stage.begin(task_id="new")

    assert {event.task_id for event in await stage.log()} == {"new"}


# Taking over.


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
        await finish(stage, old)

    assert (await lock(stage)).run == new.run_id
    await finish(stage, new)
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


@pytest.mark.parametrize(("seconds", "taken"), [(0, False), (30, False), (31.9, False), (32.1, True), (10_000, True)])
async def test_a_run_is_taken_over_when_its_lease_and_a_margin_have_passed(
    stage: Stage, seconds: float, taken: bool
) -> None:
    await stage.begin()
    stage.clock.advance(seconds)

    assert bool(await stage.store.drives.take_over(REF)) is taken


async def test_of_two_that_take_over_one_wins(stage: Stage) -> None:
    await stage.begin()
    stage.clock.advance(60)
    several = [stage.another() for _ in range(5)]

    claims = await asyncio.gather(*(each.store.drives.take_over(REF) for each in several))

    assert len([claim for claim in claims if claim]) == 1
    assert types(await stage.log()).count("run.claimed") == 2


async def test_a_take_over_that_was_not_confirmed_stands_once(stage: Stage) -> None:
    await stage.begin()
    stage.table.fail_next("unconfirmed")

    claim = await stage.take_over()

    assert types(await stage.log()).count("run.claimed") == 2
    assert (await lock(stage)).epoch == claim.epoch == 2


async def test_a_renewal_that_comes_first_keeps_the_run(stage: Stage) -> None:
    claim = await stage.begin()
    stage.clock.advance(60)
    stage.table.before_next(lambda: stage.another().store.drives.renew(claim))

    assert await stage.store.drives.take_over(REF) is None
    assert types(await stage.log()).count("run.claimed") == 1


async def test_a_fact_that_comes_first_is_in_the_session_of_the_take_over(stage: Stage) -> None:
    old = await stage.begin()
    stage.clock.advance(60)
    other = stage.another()

    async def last_words() -> None:
        await other.store.drives.append(old, old.session, answered(event(e.AgentMessage)))

    stage.table.before_next(last_words)
    claim = await stage.store.drives.take_over(REF)

    assert claim is not None
    assert claim.session == await stage.session()
    assert types(await stage.log())[-2:] == ["run.claimed", "session.status_rescheduled"]


@pytest.mark.parametrize("state", ["nothing there", "nothing sent", "finished", "deleted", "parked"])
async def test_without_a_driver_to_replace_nothing_is_taken_over(stage: Stage, state: str) -> None:
    match state:
        case "nothing sent":
            await stage.create()
        case "finished":
            await finish(stage, await stage.begin())
        case "deleted":
            await stage.begin()
            await stage.store.sessions.delete(REF)
        case "parked":
            await parked(stage)
        case _:
            pass
    stage.clock.advance(1000)
    before = stage.rows()

    assert await stage.store.drives.take_over(REF) is None
    assert await stage.store.drives.take_over(REF, void_lease=True) is None

    assert stage.rows() == before


# Waiting for a person.


async def test_a_parked_run_keeps_its_session_busy_without_a_lease(stage: Stage) -> None:
    await parked(stage)

    held = await lock(stage)
    assert held.run is not None
    assert held.lease_until_ms is None
    with pytest.raises(SessionBusy):
        await stage.begin("Meanwhile")


async def test_a_persons_word_lets_anybody_take_over_at_once(stage: Stage) -> None:
    call_id = await parked(stage)

    await stage.decide(call_id, "happened")
    claim = await stage.store.drives.take_over(REF)

    assert claim is not None
    assert claim.session.run is not None
    assert claim.session.run.parked is False


async def test_of_two_words_at_once_one_counts(stage: Stage) -> None:
    call_id = await parked(stage)
    held, session = await lock(stage), await stage.session()

    def word(outcome: e.OutcomeWord) -> Any:
        scribe = Scribe(stage.ids.new, stage.clock.now, held.run)
        words = decide(scribe, session, call_id, Word(outcome), "ann")
        return stage.store.drives.wake(REF, held, session, words)

    results = await asyncio.gather(word("happened"), word("did_not_happen"), return_exceptions=True)

    assert len([result for result in results if isinstance(result, tuple)]) == 1
    assert any(isinstance(result, SlotTaken | ConditionFailed) for result in results)
    assert len(only(e.ToolOutcomeDecided, await stage.log())) == 1


async def test_a_word_that_was_not_confirmed_stands_once(stage: Stage) -> None:
    call_id = await parked(stage)
    stage.table.fail_next("unconfirmed")

    await stage.decide(call_id, "happened")

    assert len(only(e.ToolOutcomeDecided, await stage.log())) == 1
    assert await stage.store.drives.take_over(REF) is not None


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
        await stage.store.drives.wake(REF, awake, session, words)
    except (SlotTaken, ConditionFailed):
        await stage.decide(use.id, "happened")

    stage.clock.advance(60)
    assert await stage.store.drives.take_over(REF) is not None


async def test_a_renewal_that_comes_after_the_run_was_parked_neither_wakes_it_nor_keeps_a_word_out(
    stage: Stage,
) -> None:
    stage.plays(answer(asked("pay")), pay=ToolOutcome("unknown", "?"))
    claim = await stage.begin()
    await stage.drive(claim)
    [use] = only(e.AgentToolUse, await stage.log())
    await stage.store.drives.renew(claim)
    stage.clock.advance(60)
    before = await stage.store.drives.take_over(REF)

    await stage.decide(use.id, "happened")

    assert before is None
    assert await stage.store.drives.take_over(REF) is not None


# Settling.


async def test_the_end_of_a_run_is_one_write_of_log_lock_list_and_row(stage: Stage) -> None:
    claim = await stage.begin()
    stage.clock.advance(5)

    await finish(stage, claim)

    assert len(stage.table.writes) == 2
    shown, held = await stage.store.sessions.open(REF)
    row = await run_row(stage.sqlite, REF, claim.run_id)
    assert (shown.phase, shown.active_ms, shown.updated_ms) == ("completed", 5000, stage.clock.milliseconds())
    assert held == Lock(epoch=1)
    assert (row.phase, row.first_seq, row.last_seq) == ("completed", 1, 6)
    assert (row.ended_ms or 0) - row.started_ms == 5000
    assert [ref async for ref in open_runs(stage.sqlite)] == []


async def test_a_clock_that_went_backwards_takes_no_time_away(stage: Stage) -> None:
    claim = await stage.begin()
    stage.clock.advance(-10)

    await finish(stage, claim)

    shown = await stage.store.sessions.head(REF)
    assert shown.active_ms >= 0
    assert shown.updated_ms >= shown.created_ms


async def test_an_end_whose_slot_was_taken_changes_nothing(stage: Stage) -> None:
    claim = await stage.begin()
    await stage.store.log.append(REF, claim.session.seq, [event(e.ToolOutcomeDecided)])
    before = stage.rows()

    with pytest.raises(SlotTaken):
        await finish(stage, claim)

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


async def test_the_rows_of_open_runs_lead_to_their_sessions(stage: Stage) -> None:
    refs = [Ref("acme", "sesn_1"), Ref("other", "sesn_1"), Ref("acme", "sesn_2")]
    for ref in refs:
        await stage.begin(ref=ref)
    stage.table.page_limit = 1

    found = [ref async for ref in open_runs(stage.table)]

    assert sorted(found, key=str) == sorted(refs, key=str)


async def test_a_run_on_a_session_that_was_deleted_in_between_begins_nothing(stage: Stage) -> None:
    await stage.create()
    stage.table.before_next(lambda: stage.another().store.sessions.delete(REF))

    with pytest.raises(NotFound):
        await stage.store.drives.begin(REF, stage.agent, "Hi")

    assert types(await stage.log()) == ["session.deleted"]
    assert [ref async for ref in open_runs(stage.sqlite)] == []


async def test_a_message_makes_an_expiring_session_live_on(stage: Stage) -> None:
    await stage.create()
    stage.clock.advance(29 * 86_400)
    await finish(stage, await stage.begin())
    stage.clock.advance(29 * 86_400)

    assert await stage.store.sessions.head(REF)


async def test_while_a_call_is_at_work_for_long_the_lease_is_the_lock(stage: Stage) -> None:
    claim = await stage.begin()
    for _ in range(10):
        stage.clock.advance(25)
        await stage.store.drives.renew(claim)

    assert await stage.another().store.drives.take_over(REF) is None
