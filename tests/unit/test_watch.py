"""Watching from outside: what a watcher is told, how often it looks, and when its stream ends."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, TypeVar

import pytest
from parley.core import control as c
from parley.core import event as e
from parley.core.delta import Delta, DraftDiscarded, DraftGrew, DraftStarted, Kind, Output, Rotated
from parley.core.tool import ToolOutcome
from parley.deadline import Deadline
from parley.follow import tail
from parley.store import Claim, Store
from parley.store.audit import Actor, By
from parley.store.drafts import Draft
from parley.watch import HEARTBEAT_SECONDS, IDLE_SECONDS, LIFE_SECONDS, Watch, seconds

from tests.build import REF, Stage, answer, answered, asked, cut, event, failed_call, message, only, said, thought
from tests.build import types as types_of
from tests.fakes.gate import Gate
from tests.fakes.watched_table import Read, WatchedTable

pytestmark = pytest.mark.anyio

Outputs = AsyncIterator[Sequence[Output]]
D = TypeVar("D", bound=Delta)


def watch(stage: Stage, after: int = 0, *, running: bool = False, **options: Any) -> Watch:
    return Watch(options.pop("store", stage.store), REF, after, running, **options)


async def heard(watcher: Watch) -> list[Output]:
    """Listen to the end."""
    return [output async for batch in watcher.outputs() for output in batch]


async def until(looking: Outputs, over: Callable[[list[Output]], object]) -> list[Output]:
    """Listen until what was told is enough."""
    told: list[Output] = []
    async with asyncio.timeout(10):
        while not over(told):
            told += await anext(looking)
    return told


def deltas(outputs: Sequence[Output]) -> list[Delta]:
    return [output for output in outputs if not isinstance(output, e.EventBase)]


def pick(kind: type[D], outputs: Sequence[Output]) -> list[D]:
    return [output for output in outputs if isinstance(output, kind)]


def grew(event_id: str, text: str, kind: Kind = "agent.message") -> DraftGrew:
    return DraftGrew(event_id, kind, text)


async def write(stage: Stage, claim: Claim, n: int, *pieces: DraftGrew, after: int | None = None) -> None:
    """Write a row of drafts as the claim's driver does."""
    behind = claim.session.seq if after is None else after
    await stage.store.drafts.write(REF, claim.epoch, n, pieces, behind)


async def append(stage: Stage, *events: e.Event) -> None:
    await stage.store.log.append(REF, len(await stage.log()), events)


def on(stage: Stage) -> tuple[Store, WatchedTable]:
    """Give a second store over the stage's table, whose reads are seen."""
    table = WatchedTable(stage.sqlite)
    return Store.over(table, stage.blobs, stage.clock, stage.ids), table


# Stored events.


async def test_every_event_behind_any_cursor_is_told_in_order_and_once(stage: Stage) -> None:
    stage.plays(answer(said("I pay."), asked("pay")), answer(thought(), said("Paid.")))
    await stage.drive()
    log = await stage.log()
    assert len(log) > 10

    for cursor in range(len(log) + 1):
        told = await heard(watch(stage, cursor, until_idle=True))

        assert told == log[cursor:]


async def test_what_is_stored_while_somebody_watches_is_told_once(stage: Stage) -> None:
    stage.plays(answer(asked("pay")), answer(said()))
    claim = await stage.begin()
    watcher = watch(stage, 2, running=True, until_idle=True)

    told, _ = await asyncio.gather(heard(watcher), stage.drive(claim))

    assert only(e.EventBase, told) == (await stage.log())[2:]


async def test_a_cursor_at_the_end_of_the_log_is_told_what_comes_next(stage: Stage) -> None:
    claim = await stage.begin()
    looking = watch(stage, claim.session.seq, running=True).outputs()
    await append(stage, *answered(message()))

    told = await anext(looking)

    assert [event.seq for event in only(e.EventBase, told)] == [5, 6, 7]


# Drafts.


async def test_a_draft_begins_grows_and_becomes_its_event(stage: Stage) -> None:
    claim = await stage.begin()
    looking = watch(stage, claim.session.seq, running=True).outputs()

    await write(stage, claim, 1, grew("m", ""))
    begun = await anext(looking)
    await write(stage, claim, 2, grew("m", "Hel"))
    first = await anext(looking)
    await write(stage, claim, 3, grew("m", "lo"))
    second = await anext(looking)
    await append(stage, *answered(event(e.AgentMessage, id="m", content=({"type": "text", "text": "Hello"},))))
    ended = await anext(looking)

    assert begun == [DraftStarted("m", "agent.message")]
    assert (first, second) == ([grew("m", "Hel")], [grew("m", "lo")])
    assert types_of(ended) == ["span.model_request_start", "agent.message", "span.model_request_end"]


async def test_what_was_never_a_row_is_told_before_the_event(stage: Stage) -> None:
    """The words of the simple vocabulary send a message's text once: its drafts have to be all of it."""
    claim = await stage.begin()
    looking = watch(stage, claim.session.seq, running=True).outputs()
    await write(stage, claim, 1, grew("t", "H", "agent.thinking"), grew("m", "Hel"))
    await anext(looking)
    thinking = event(e.AgentThinking, id="t", thinking="Hm")
    words = event(e.AgentMessage, id="m", content=({"type": "text", "text": "Hello"},))

    await append(stage, *answered(thinking, words))
    ended = await anext(looking)

    assert deltas(ended) == [grew("t", "m", "agent.thinking"), grew("m", "lo")]
    assert types_of(ended)[1:5] == ["draft grew", "agent.thinking", "draft grew", "agent.message"]


async def test_who_comes_in_the_middle_of_a_message_gets_its_beginning_at_once(stage: Stage) -> None:
    claim = await stage.begin()
    for n, text in enumerate(("", "Hel", "lo", " you"), 1):
        await write(stage, claim, n, grew("m", text))

    told = await until(watch(stage, claim.session.seq, running=True).outputs(), bool)

    assert told == [DraftStarted("m", "agent.message"), grew("m", "Hello you")]


async def test_two_drafts_grow_side_by_side(stage: Stage) -> None:
    claim = await stage.begin()
    looking = watch(stage, claim.session.seq, running=True).outputs()

    await write(stage, claim, 1, grew("t", "Hm", "agent.thinking"), grew("m", "He"))
    first = await anext(looking)
    await write(stage, claim, 2, grew("t", "!", "agent.thinking"), grew("m", "llo"))
    second = await anext(looking)

    assert types_of(first) == ["draft started", "draft grew", "draft started", "draft grew"]
    assert second == [grew("t", "!", "agent.thinking"), grew("m", "llo")]


async def test_rows_that_are_left_of_an_event_begin_no_draft_again(stage: Stage) -> None:
    claim = await stage.begin()
    await write(stage, claim, 1, grew("m", "Hello"))
    early = watch(stage, claim.session.seq, running=True).outputs()
    await anext(early)
    await append(stage, *answered(event(e.AgentMessage, id="m", content=({"type": "text", "text": "Hello"},))))
    late = watch(stage, len(await stage.log()), running=True).outputs()

    told = [*await until(early, bool), *await anext(early), *await anext(late)]

    assert deltas(told) == []
    assert types_of(told).count("agent.message") == 1


@pytest.mark.parametrize("end", [failed_call(), [event(e.RunClaimed, epoch=2)]], ids=["failed call", "take-over"])
async def test_a_draft_that_does_not_become_an_event_is_discarded_once(stage: Stage, end: list[e.Event]) -> None:
    claim = await stage.begin()
    await write(stage, claim, 1, grew("m", "Hel"))
    early = watch(stage, claim.session.seq, running=True).outputs()
    await anext(early)

    await append(stage, *end)
    told = [*await anext(early), *await anext(early)]
    late = await anext(watch(stage, len(await stage.log()), running=True).outputs())

    assert deltas(told) == [DraftDiscarded("m")]
    assert late == [], "left-over rows say nothing"


async def test_a_newer_drivers_drafts_take_the_place_of_the_older_ones(stage: Stage) -> None:
    dead = await stage.begin()
    await write(stage, dead, 1, grew("old", "Hel"))
    looking = watch(stage, dead.session.seq, running=True).outputs()
    await anext(looking)

    claim = await stage.take_over()
    await write(stage, claim, 1, grew("new", "Wor"))
    await write(stage, dead, 2, grew("old", "lo"))  # a driver that is not dead but slow
    told = [*await anext(looking), *await anext(looking)]

    assert types_of(told) == [
        "run.claimed", "draft discarded", "session.status_rescheduled", "draft started", "draft grew"
    ]  # fmt: skip
    assert deltas(told)[1:] == [DraftStarted("new", "agent.message"), grew("new", "Wor")]


async def test_who_wants_no_drafts_gets_none_and_makes_nobody_write_any(stage: Stage) -> None:
    claim = await stage.begin()
    await write(stage, claim, 1, grew("m", "Hel"))
    looking = watch(stage, claim.session.seq, running=True, drafts=False).outputs()

    told = await anext(looking)

    assert told == []
    assert not await stage.store.drafts.watched(REF)


async def test_a_watcher_in_another_process_is_told_every_word_of_a_run(stage: Stage) -> None:
    words = [f"word {n} " for n in range(40)]
    gates = [Gate() for _ in words]
    begin, start, *pieces, stop, end, over = answer(said(*words))
    stage.plays([begin, start, *(step for pair in zip(gates, pieces, strict=True) for step in pair), stop, end, over])
    claim = await stage.begin()
    other = stage.another()
    looking = watch(other, claim.session.seq, running=True, until_idle=True).outputs()
    assert await anext(looking) == [], "nothing yet: a sign of life"
    stage.runner.start(claim, stage.agent)

    told: list[Output] = []
    async with asyncio.timeout(20):
        for gate in gates:
            gate.opened.set()
            told += await anext(looking)
        told += [output async for batch in looking for output in batch]

    heard_of = pick(DraftGrew, told)
    assert len(heard_of) > 1
    assert "".join(piece.text for piece in heard_of) == "".join(words)
    assert [pick(DraftStarted, told)[0].event_id] == [each.id for each in only(e.AgentMessage, told)]
    assert only(e.EventBase, told) == (await stage.log())[claim.session.seq :]


async def test_a_draft_of_a_call_that_broke_off_is_discarded_for_who_watches(stage: Stage) -> None:
    gate = Gate()
    stage.plays([*cut(answer(said("Hel", "lo")), -2), gate], answer(said("Again.")))
    claim = await stage.begin()
    looking = watch(stage.another(), claim.session.seq, running=True, until_idle=True).outputs()
    await anext(looking)
    stage.runner.start(claim, stage.agent)

    told = await until(looking, lambda told: pick(DraftGrew, told))
    gate.opened.set()
    told += [output async for batch in looking for output in batch]

    begun = pick(DraftStarted, told)[0].event_id
    assert pick(DraftDiscarded, told) == [DraftDiscarded(begun)]
    assert [event.content[0].text for event in only(e.AgentMessage, told)] == ["Again."]
    assert types_of(told).index("session.error") > types_of(told).index("draft discarded")


async def test_who_waits_for_the_end_of_a_run_is_not_told_of_the_drafts_of_the_next(stage: Stage) -> None:
    stage.plays(answer(said("One")))
    claim = await stage.begin()
    waiting = tail(stage.another().runner, REF, claim.run_id, 0)
    await anext(waiting)
    await stage.drive(claim)
    second = await stage.begin("Next")
    await write(stage, second, 1, grew("m", "Two"))

    told = [output async for batch in waiting for output in batch]

    assert types_of(told)[-1] == "session.status_idle"
    assert deltas(told) == []


# How often it looks.


async def test_a_look_is_one_read(stage: Stage) -> None:
    store, table = on(stage)
    claim = await stage.begin()
    looking = watch(stage, claim.session.seq, running=True, store=store).outputs()
    await anext(looking)
    table.reads.clear()
    stage.clock.slept.clear()

    await anext(looking)

    assert len(table.reads) == len(stage.clock.slept) > 10
    assert set(table.reads) == {Read("E#000000000005", "E~\U0010ffff")}


async def test_looks_become_rarer_while_nothing_happens_and_frequent_again_when_something_does(stage: Stage) -> None:
    claim = await stage.begin()
    looking = watch(stage, claim.session.seq, running=True).outputs()
    await anext(looking)
    quiet = list(stage.clock.slept)

    await write(stage, claim, 1, grew("m", "Hel"))
    await anext(looking)
    stage.clock.slept.clear()
    await write(stage, claim, 2, grew("m", "lo"))
    await anext(looking)

    assert quiet == sorted(quiet)
    assert quiet[0] < 0.2
    assert quiet[-1] == pytest.approx(0.4)
    assert stage.clock.slept == [pytest.approx(0.15)]


async def test_looks_stay_frequent_while_a_draft_is_open(stage: Stage) -> None:
    claim = await stage.begin()
    looking = watch(stage, claim.session.seq, running=True).outputs()
    await write(stage, claim, 1, grew("m", "Hel"))
    await until(looking, bool)
    stage.clock.slept.clear()

    assert await anext(looking) == []

    assert set(stage.clock.slept) == {0.15}


async def test_a_watcher_gets_a_sign_of_life_every_ten_seconds(stage: Stage) -> None:
    claim = await stage.begin()
    looking = watch(stage, claim.session.seq, running=True).outputs()
    began = stage.clock.now()

    for n in range(1, 6):
        assert await anext(looking) == []
        assert seconds(began, stage.clock.now()) == pytest.approx(n * HEARTBEAT_SECONDS, abs=0.5 * n)


# The mark.


async def test_the_mark_is_written_at_once_and_every_twenty_seconds(stage: Stage) -> None:
    claim = await stage.begin()
    looking = watch(stage, claim.session.seq, running=True).outputs()
    before = len(stage.table.writes)

    assert not await stage.store.drafts.watched(REF)
    await anext(looking)
    assert await stage.store.drafts.watched(REF)
    began = stage.clock.now()
    while seconds(began, stage.clock.now()) < 89:
        await anext(looking)

    marks = stage.table.writes[before:]
    assert 5 <= len(marks) <= 6
    assert {op.key for [op] in marks} == {REF.watched()}


async def test_a_mark_lapses_a_minute_after_its_watcher_has_gone(stage: Stage) -> None:
    claim = await stage.begin()
    await anext(watch(stage, claim.session.seq, running=True).outputs())

    stage.clock.advance(45)
    assert await stage.store.drafts.watched(REF)
    stage.clock.advance(30)
    assert not await stage.store.drafts.watched(REF)


async def test_a_mark_that_cannot_be_written_does_not_end_the_watch(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    claim = await stage.begin()
    looking = watch(stage, claim.session.seq, running=True).outputs()
    stage.table.fail_next("lost")

    await anext(looking)
    await append(stage, *answered(message()))

    assert types_of(await anext(looking))
    assert "watch_not_marked" in caplog.messages


# When it ends.


async def lived(stage: Stage, watcher: Watch) -> tuple[Output, float]:
    """Watch to the end; return what came last, and after how long."""
    began = stage.clock.now()
    told = await heard(watcher)
    return told[-1], seconds(began, stage.clock.now())


async def test_a_watch_ends_by_plan_after_fourteen_minutes_even_while_a_run_is_at_work(stage: Stage) -> None:
    claim = await stage.begin()

    last, after = await lived(stage, watch(stage, claim.session.seq, running=True))

    assert last == Rotated(claim.session.seq, "deadline")
    assert after == pytest.approx(LIFE_SECONDS, abs=1)


async def test_a_watch_ends_before_its_process_does(stage: Stage) -> None:
    claim = await stage.begin()
    end = stage.clock.milliseconds() + 100_000
    deadline = Deadline(lambda: (end - stage.clock.milliseconds()) / 1000)

    last, after = await lived(stage, watch(stage, claim.session.seq, running=True, deadline=deadline))

    assert last == Rotated(claim.session.seq, "deadline")
    assert after == pytest.approx(90, abs=1)


async def test_a_watch_of_a_session_where_nothing_runs_ends_after_a_minute(stage: Stage) -> None:
    stage.plays(answer(said()))
    await stage.drive()

    last, after = await lived(stage, watch(stage, 9))

    assert last == Rotated(9, "idle")
    assert after == pytest.approx(IDLE_SECONDS, abs=1)


async def test_the_minute_begins_when_the_run_has_ended(stage: Stage) -> None:
    stage.plays(answer(said()))
    claim = await stage.begin()
    looking = watch(stage, claim.session.seq, running=True).outputs()
    began = stage.clock.now()
    while seconds(began, stage.clock.now()) < 2 * IDLE_SECONDS:
        assert await anext(looking) == []
    await stage.drive(claim)
    ended = stage.clock.now()

    told = [output async for batch in looking for output in batch]

    assert told[-1] == Rotated(9, "idle")
    assert seconds(ended, stage.clock.now()) == pytest.approx(IDLE_SECONDS, abs=1)


async def test_the_minute_begins_anew_after_a_run_between_two_looks(stage: Stage) -> None:
    await stage.create()
    stage.plays(answer(said()))
    looking = watch(stage).outputs()
    for _ in range(5):
        assert await anext(looking) == []
    await stage.drive()
    ended = stage.clock.now()

    told = [output async for batch in looking for output in batch]

    assert types_of(told)[-2:] == ["session.status_idle", "rotated"]
    assert seconds(ended, stage.clock.now()) == pytest.approx(IDLE_SECONDS, abs=1)


async def test_a_watch_of_a_run_that_has_come_to_wait_for_a_person_ends_after_a_minute(stage: Stage) -> None:
    stage.plays(answer(asked("pay")), pay=ToolOutcome("unknown", "?"))
    claim = await stage.begin()
    watcher = watch(stage, claim.session.seq, running=True)
    await stage.drive(claim)

    last, _ = await lived(stage, watcher)

    assert last == Rotated(len(await stage.log()), "idle")


async def test_a_run_that_waits_for_a_person_is_not_at_work_until_the_person_has_decided(stage: Stage) -> None:
    stage.plays(answer(asked("pay")), pay=ToolOutcome("unknown", "?"))
    await stage.drive()
    log = await stage.log()
    watcher = watch(stage, len(log))

    last, _ = await lived(stage, watcher)
    assert last == Rotated(len(log), "idle")
    await stage.decide(log[-1].stop_reason.event_ids[0], "did_not_happen")  # type: ignore[union-attr, index]
    last, after = await lived(stage, watch(stage, len(log)))

    assert last == Rotated(len(log) + 2, "deadline")
    assert after > IDLE_SECONDS


async def test_a_watch_ends_when_the_session_is_deleted(stage: Stage) -> None:
    claim = await stage.begin()
    await write(stage, claim, 1, grew("m", "Hel"))
    looking = watch(stage, claim.session.seq, running=True).outputs()
    await anext(looking)
    await stage.store.sessions.delete(REF)

    told = [output async for batch in looking for output in batch]

    assert types_of(told) == ["session.deleted", "draft discarded"]


# Until idle.


async def test_who_watches_until_idle_leaves_at_once_when_nothing_runs(stage: Stage) -> None:
    stage.plays(answer(said()))
    await stage.drive()

    last, after = await lived(stage, watch(stage, 0, until_idle=True))

    assert isinstance(last, e.StatusIdle)
    assert after < 1


async def test_who_watches_until_idle_stays_while_a_message_waits(stage: Stage) -> None:
    stage.plays(answer(said("One")), answer(said("Two")))
    claim = await stage.begin()
    await stage.store.inputs.put(REF, [message("Next")])
    looking = watch(stage, claim.session.seq, running=True, until_idle=True).outputs()
    await stage.drive(claim)

    told = await until(looking, lambda told: only(e.StatusIdle, told))
    assert await anext(looking) == [], "still there after the idle moment"
    task = await stage.runner.resume(REF)
    assert task is not None
    await task
    told += [output async for batch in looking for output in batch]

    assert [event.content[0].text for event in only(e.AgentMessage, told)] == ["One", "Two"]
    assert isinstance(told[-1], e.StatusIdle)


@pytest.mark.parametrize("held", [False, True])
async def test_who_watches_until_idle_does_not_wait_where_only_a_person_lets_messages_have_their_turn(
    stage: Stage, held: bool
) -> None:
    stage.plays(answer(asked("pay")), pay=ToolOutcome("ok" if held else "unknown", "?"))
    if held:
        stage.plays(answer(said()))
    await stage.drive()
    if held:
        await stage.store.lives.suspend(REF, By(Actor("ann", "dev", "req_1")))
    await stage.store.inputs.put(REF, [message("Next")])

    last, after = await lived(stage, watch(stage, 0, until_idle=True))

    assert isinstance(last, c.SessionSuspended if held else e.StatusIdle)
    assert after < 2


async def test_a_run_that_begins_in_the_moment_of_leaving_is_still_told(stage: Stage) -> None:
    store, table = on(stage)
    stage.plays(answer(said()), answer(said("Next")))
    await stage.drive()
    begun: list[Claim] = []

    async def begin_just_before_the_last_look(read: Read) -> None:
        if [each.first[:2] for each in table.reads[-2:]] == ["Q#", "E#"] and not begun:
            begun.append(await stage.begin("Once more"))
            await stage.drive(begun[0])

    table.before_read = begin_just_before_the_last_look
    told = await heard(watch(stage, 9, until_idle=True, store=store))

    assert begun
    assert only(e.EventBase, told) == (await stage.log())[9:]
    assert isinstance(told[-1], e.StatusIdle)


async def test_who_comes_before_all_waits_for_a_run(stage: Stage) -> None:
    await stage.create()
    stage.plays(answer(said()))
    looking = watch(stage, until_idle=True, early=True).outputs()
    assert await anext(looking) == []

    await stage.drive()
    told = [output async for batch in looking for output in batch]

    assert told == await stage.log()


# Rows of drafts.


async def test_a_row_keeps_its_pieces_for_an_hour_and_no_longer(stage: Stage) -> None:
    claim = await stage.begin()
    await write(stage, claim, 1, grew("m", "Hel"))

    _, drafts = await stage.store.log.watch(REF, claim.session.seq)
    stage.clock.advance(3700)
    _, later = await stage.store.log.watch(REF, claim.session.seq)

    assert drafts == [Draft("m", "agent.message", "Hel", 4)]
    assert later == []
