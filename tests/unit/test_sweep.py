"""Sweeps on a real table: nothing is left, nothing comes back, whoever else is at work and wherever it is cut off."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from parley.core import event as e
from parley.core.compose import user_message
from parley.core.delta import DraftGrew
from parley.core.errors import Fenced, NotFound, SessionBusy, Unavailable
from parley.core.scribe import Scribe
from parley.core.tool import ToolContext, ToolOutcome
from parley.ports import Delete
from parley.store import Claim, Lock, Once, Ref
from parley.store.keys import SHOWN
from parley.store.sweep import SECOND_PASS_MS
from parley.store.work import work

from tests.build import REF, Stage, answer, asked, event, message, only, said, staged, tombstones, types
from tests.fakes.flaky_table import Crash, Fault

pytestmark = pytest.mark.anyio

DAY = 86_400
TTL_SECONDS = 30 * DAY
NEIGHBOUR = Ref("acme", "sesn_10")


async def lived(stage: Stage, ref: Ref = REF) -> Claim:
    """Make a session that has an item of every kind, blobs, two drivers' claims, a person's word, and an open run."""
    stage.plays(answer(said("One.")), answer(said("Two.")))
    await stage.drive(await stage.begin("x" * 200_000 + "".join(map(chr, range(300, 30_000))), ref))
    claim = await stage.begin("And now?", ref)
    seen = await stage.store.drives.append(claim, claim.session, [event(e.ModelRequestStart)])
    await stage.store.log.append(ref, seen[-1].seq, [event(e.ToolOutcomeDecided)])
    waiting = user_message(Scribe(stage.ids.new, stage.clock.now, None), "Wait")
    await stage.store.inputs.put(ref, [waiting])
    await stage.store.drafts.mark(ref)
    await stage.store.drafts.write(ref, claim.epoch, 1, [DraftGrew("sevt_x", "agent.message", "He")], 0)
    return await stage.take_over(ref)


async def deleted(stage: Stage, ref: Ref = REF) -> Claim:
    """Delete such a session; return the claim of the driver that it had."""
    claim = await lived(stage, ref)
    await stage.store.sessions.delete(ref)
    return claim


def left(stage: Stage, ref: Ref = REF) -> list[str]:
    """Name what the table and the blobs have of a session."""
    keys = [sk for pk, sk, *_ in stage.rows() if pk == ref.pk]
    return keys + [key for key in stage.blobs.kept if key.startswith(ref.blob(""))]


async def swept(stage: Stage, ref: Ref = REF) -> bool:
    """Do both passes."""
    await stage.store.sweep.sweep(ref)
    stage.clock.advance(SECOND_PASS_MS / 1000)
    return await stage.store.sweep.sweep(ref)


async def lapse(stage: Stage, how: str, ref: Ref = REF) -> None:
    """Let a session expire; DynamoDB then removes the row, SQLite leaves it."""
    stage.clock.advance(TTL_SECONDS + 1)
    if how == "removed":
        await stage.sqlite.write(Delete(ref.shown()))


async def unreadable(stage: Stage, ref: Ref = REF) -> None:
    """Look through every door, also in a process that has not folded the session."""
    for each in (stage, stage.another()):
        store = each.store
        for reading in (store.sessions.head(ref), store.sessions.open(ref), store.sessions.delete(ref)):
            with pytest.raises(NotFound):
                await reading
        with pytest.raises(NotFound):
            await store.claims.begin(ref, stage.agent, "Hello?")
        with pytest.raises(NotFound):
            await store.inputs.put(ref, [message()])
        assert await store.claims.take_over(ref, void_lease=True) is None
        listed = await store.sessions.page(
            ref.tenant, question="", wanted=lambda _: True, limit=9, newest_first=True, page=None
        )
        assert [shown.id for shown in listed.heads] == []


# Both passes.


async def test_nothing_of_a_deleted_session_is_left_after_both_passes(stage: Stage) -> None:
    await deleted(stage)
    before = left(stage)

    done = await swept(stage)

    assert {name[:2] for name in before} >= {"E#", "E~", "L", "LW", "M", "Q#", "R#", "ac"}
    assert done
    assert left(stage) == []
    assert await stage.store.sweep.sweep(REF)


async def test_another_session_keeps_all_that_is_its_own(stage: Stage) -> None:
    await lived(stage, NEIGHBOUR)
    before = left(stage, NEIGHBOUR)
    await deleted(stage)

    await swept(stage)

    assert left(stage, NEIGHBOUR) == before
    assert any(name.startswith(NEIGHBOUR.blob("")) for name in before)


async def test_the_first_pass_leaves_no_contents(stage: Stage) -> None:
    await deleted(stage)

    assert not await stage.store.sweep.sweep(REF)

    assert {name[:2] for name in left(stage)} == {"E#", "L", "M"}
    assert set(types(await stage.log())) == {"session.deleted"}


async def test_the_first_pass_keeps_no_slot_but_those_that_a_driver_may_aim_at(stage: Stage) -> None:
    claim = await lived(stage)
    stage.plays(answer(asked("look")), answer(said()))
    claims_and_words = [
        found[0].seq
        async for entry in stage.store.log.read(REF)
        if (found := entry.events)
        and (entry.driver_epoch is None or any(isinstance(each, e.RunClaimed) for each in found))
    ]
    await stage.drive(claim)
    end = (await stage.log())[-1].seq
    await stage.store.sessions.delete(REF)
    every_slot = len((await stage.sqlite.query(REF.pk, first="E#", last="E~")).items)

    await stage.store.sweep.sweep(REF)

    assert [each.seq for each in await stage.log()] == [*claims_and_words, end + 1]
    assert len(claims_and_words) + 1 < every_slot


async def test_a_listener_of_the_run_still_finds_its_end_after_the_first_pass(stage: Stage) -> None:
    claim = await deleted(stage)

    await stage.store.sweep.sweep(REF)

    last = (await stage.log())[-1]
    assert (last.type, last.run_id) == ("session.deleted", claim.run_id)


async def test_a_session_without_a_lock_is_not_taken_for_a_deleted_one(stage: Stage) -> None:
    await lived(stage)
    await stage.sqlite.write(Delete(REF.lock()))
    before = stage.rows(), dict(stage.blobs.kept)

    assert not await stage.store.sweep.sweep(REF)

    assert (stage.rows(), stage.blobs.kept) == before


async def test_a_tombstone_shows_nothing_of_what_lists_showed(stage: Stage) -> None:
    await stage.create(title="My debts", metadata={"case": "7"})

    await stage.store.sessions.delete(REF)

    row = await stage.sqlite.get(REF.shown())
    assert row is not None
    assert set(row) == {"PK", "SK", "id", "deleted", "work_pk", "work_sk"}


async def test_the_second_pass_waits_until_no_driver_of_that_time_is_alive(stage: Stage) -> None:
    await deleted(stage)
    await stage.store.sweep.sweep(REF)
    before = stage.rows()

    stage.clock.advance(SECOND_PASS_MS / 1000 - 1)
    early = await stage.store.sweep.sweep(REF)
    unchanged = stage.rows() == before
    stage.clock.advance(1)

    assert (early, unchanged) == (False, True)
    assert SECOND_PASS_MS >= 15 * 60_000
    assert await stage.store.sweep.sweep(REF)


async def test_what_strays_in_between_the_passes_goes_in_the_second(stage: Stage) -> None:
    claim = await deleted(stage)
    await stage.store.sweep.sweep(REF)

    await stage.store.drafts.write(REF, claim.epoch, 7, [DraftGrew("sevt_y", "agent.message", "late")], 0)
    await stage.store.log.append(REF, 77, [event(e.ModelRequestStart)], epoch=claim.epoch)
    await stage.blobs.put(REF.blob("appe_late"), b"late")
    stage.clock.advance(SECOND_PASS_MS / 1000)

    assert await stage.store.sweep.sweep(REF)
    assert left(stage) == []


async def test_a_session_that_nobody_sweeps_for_long_is_not_forgotten(stage: Stage) -> None:
    await deleted(stage)
    stage.clock.advance(2 * TTL_SECONDS)
    await stage.sqlite.sweep_expired(spared=SHOWN)

    assert await tombstones(stage.store.table) == [REF]
    assert await swept(stage)
    assert left(stage) == []


async def test_a_session_of_many_pages_is_swept_to_the_last(stage: Stage) -> None:
    await deleted(stage)
    stage.table.page_limit = 3  # lock, mark and row are never parted: together they are less than a page

    assert await swept(stage)
    assert left(stage) == []


async def test_only_deleted_sessions_are_led_to(stage: Stage) -> None:
    gone = [Ref("acme", f"sesn_{n}") for n in range(4)]
    for ref in [*gone, NEIGHBOUR]:
        await stage.begin(ref=ref)
    for ref in gone:
        await stage.store.sessions.delete(ref)
    stage.table.page_limit = 1

    found = await tombstones(stage.store.table)

    assert sorted(found, key=str) == gone
    assert [ref async for ref, sk in work(stage.sqlite) if sk != SHOWN] == [NEIGHBOUR]


async def test_sessions_may_be_swept_while_they_are_walked_through(stage: Stage) -> None:
    gone = [Ref("acme", f"sesn_{n}") for n in range(5)]
    for ref in gone:
        await stage.create(ref)
        await stage.store.sessions.delete(ref)
        await stage.store.sweep.sweep(ref)
    stage.clock.advance(SECOND_PASS_MS / 1000)
    stage.table.page_limit = 2

    for ref in await tombstones(stage.store.table):
        await stage.store.sweep.sweep(ref)

    assert stage.rows() == []


async def test_a_living_session_is_left_alone(stage: Stage) -> None:
    await lived(stage)
    before = stage.rows(), dict(stage.blobs.kept)

    assert not await stage.store.sweep.sweep(REF)
    assert not await stage.store.sweep.expired(REF)

    assert (stage.rows(), stage.blobs.kept) == before


async def test_nothing_can_be_read_at_any_moment_after_the_delete(stage: Stage) -> None:
    await deleted(stage)
    looked = 0

    async def look() -> None:
        nonlocal looked
        looked += 1
        await unreadable(stage)

    first = len(stage.table.writes) + 1
    stage.table.hooks |= dict.fromkeys(range(first, first + 200), look)
    await swept(stage)
    stage.table.hooks.clear()

    assert looked > 10
    assert left(stage) == []
    await unreadable(stage)


# Drivers that were frozen.


async def frozen(stage: Stage, meanwhile: Callable[[], Awaitable[object]]) -> None:
    """Freeze a driver before it stores the intent of a payment, and let it go on when something else has happened."""
    stage.plays(answer(asked("pay")), pay=ToolOutcome("ok", "paid"))
    claim = await stage.begin()
    stage.table.before_next(meanwhile)
    with pytest.raises(Fenced):
        await stage.drive(claim)


async def test_a_driver_whose_slot_was_swept_free_of_a_newer_claim_starts_no_call(stage: Stage) -> None:
    other = stage.another().plays(answer(asked("pay")), answer(said("Paid.")), pay=ToolOutcome("ok", "paid"))

    async def paid_elsewhere_deleted_and_swept() -> None:
        await other.drive(await other.take_over())
        await other.store.sessions.delete(REF)
        await other.store.sweep.sweep(REF)

    await frozen(stage, paid_elsewhere_deleted_and_swept)

    assert other.tools.names == ["pay"]
    assert stage.tools.names == []
    assert await swept(other)


async def test_a_driver_whose_slot_was_swept_free_of_a_persons_word_starts_no_call(stage: Stage) -> None:
    other = stage.another()

    async def spoken_to_deleted_and_swept() -> None:
        last = (await stage.log())[-1].seq
        await other.store.log.append(REF, last, [event(e.ToolOutcomeDecided)])
        await other.store.sessions.delete(REF)
        await other.store.sweep.sweep(REF)

    await frozen(stage, spoken_to_deleted_and_swept)

    assert stage.tools.names == []


# Cut off anywhere.


@pytest.mark.parametrize("dead", [True, False], ids=["all that follows is lost", "one write is lost"])
@pytest.mark.parametrize("fault", ["crash", "crash_after"])
async def test_wherever_it_is_cut_off_the_next_sweep_finishes_it(tmp_path: Path, fault: Fault, dead: bool) -> None:
    for cut in itertools.count(1):
        folder = tmp_path / str(cut)
        folder.mkdir()
        async with staged(folder) as stage:
            await deleted(stage)
            last = len(stage.table.writes)
            stage.table.faults |= {last + cut: fault}
            stage.table.faults |= dict.fromkeys(range(last + cut + 1, last + 100 * dead), "crash")
            crashed = await dies(swept(stage))
            stage.table.faults.clear()
            await unreadable(stage)

            led_to = await tombstones(stage.store.table)
            done = not led_to or await swept(stage)

            assert done
            assert left(stage) == [], f"cut off at write {cut}"
            if not crashed:
                break
    assert cut > 10


async def dies(sweeping: Awaitable[object]) -> bool:
    """Say whether the process died of it."""
    try:
        await sweeping
    except Crash:
        return True
    return False


async def test_blobs_that_cannot_be_removed_are_removed_by_a_later_sweep(stage: Stage) -> None:
    await deleted(stage)
    stage.blobs.broken = True

    with pytest.raises(Unavailable):
        await stage.store.sweep.sweep(REF)
    stage.blobs.broken = False

    assert await swept(stage)
    assert left(stage) == []


@pytest.mark.parametrize("fault", ["lost", "unconfirmed"])
async def test_writes_that_are_not_confirmed_are_repeated(stage: Stage, fault: Fault) -> None:
    await deleted(stage)
    first = len(stage.table.writes) + 1
    stage.table.faults |= {n: fault for n in range(first, first + 100) if n % 2}

    assert await swept(stage)
    assert left(stage) == []


# Two at once.


async def test_two_sweepers_at_once_leave_nothing(stage: Stage) -> None:
    await deleted(stage)
    other = stage.another()

    await asyncio.gather(stage.store.sweep.sweep(REF), other.store.sweep.sweep(REF))
    after_the_first = {name[:2] for name in left(stage)}
    stage.clock.advance(SECOND_PASS_MS / 1000)
    await asyncio.gather(stage.store.sweep.sweep(REF), other.store.sweep.sweep(REF))

    assert after_the_first == {"E#", "L", "M"}
    assert left(stage) == []


@pytest.mark.parametrize("passes", [1, 2])
async def test_a_sweeper_that_was_overtaken_anywhere_brings_nothing_back(tmp_path: Path, passes: int) -> None:
    for turn in itertools.count(1):
        folder = tmp_path / str(turn)
        folder.mkdir()
        async with staged(folder) as stage:
            await deleted(stage)
            other = stage.another()
            if passes == 2:
                await stage.store.sweep.sweep(REF)
                stage.clock.advance(SECOND_PASS_MS / 1000)

            async def overtaken(other: Stage = other) -> None:
                await swept(other)

            stage.table.before_next(overtaken, skip=turn - 1)
            await stage.store.sweep.sweep(REF)

            if stage.table.hooks:
                break
            assert left(stage) == [], f"overtaken at write {turn}"
    assert turn > 5


# Expiry.


@pytest.mark.parametrize("how", ["removed", "left"])
async def test_an_expired_session_is_swept_like_a_deleted_one(stage: Stage, how: str) -> None:
    await lived(stage)
    await lapse(stage, how)

    assert await stage.store.sweep.expired(REF)

    assert await tombstones(stage.store.table) == [REF]
    assert "R#" not in [sk[:2] async for _, sk in work(stage.sqlite)]
    assert (await stage.log())[-1].type == "session.deleted"
    await unreadable(stage)
    assert await swept(stage)
    await stage.sqlite.sweep_expired()
    assert left(stage) == []


@pytest.mark.parametrize("how", ["removed", "left"])
async def test_an_idle_session_expires(stage: Stage, how: str) -> None:
    await stage.create()
    await lapse(stage, how)

    assert await stage.store.sweep.expired(REF)
    assert await swept(stage)

    assert left(stage) == []


async def test_a_session_that_is_gone_or_going_does_not_expire_again(stage: Stage) -> None:
    await stage.create()
    await lapse(stage, "removed")
    await stage.store.sweep.expired(REF)
    before = stage.rows()

    again = await stage.store.sweep.expired(REF)
    unchanged = stage.rows() == before
    await swept(stage)
    after = await stage.store.sweep.expired(REF)

    assert (again, unchanged, after) == (False, True, False)
    assert left(stage) == []


@pytest.mark.parametrize("how", ["removed", "left"])
async def test_an_expired_session_is_buried_once(stage: Stage, how: str) -> None:
    await lived(stage)
    await lapse(stage, how)
    other = stage.another()

    made = await asyncio.gather(stage.store.sweep.expired(REF), other.store.sweep.expired(REF))

    assert sorted(made) == [False, True]
    assert types(await stage.log()).count("session.deleted") == 1


@pytest.mark.parametrize("how", ["removed", "left"])
@pytest.mark.parametrize("faults", [["unconfirmed"], ["lost", "unconfirmed"]])
async def test_an_expiry_that_was_not_confirmed_is_done_once(stage: Stage, how: str, faults: list[Fault]) -> None:
    await lived(stage)
    await lapse(stage, how)
    stage.table.fail_next(*faults)

    assert await stage.store.sweep.expired(REF)

    assert types(await stage.log()).count("session.deleted") == 1
    assert await stage.sqlite.get(REF.shown()) is not None


async def test_a_session_that_is_used_at_the_moment_of_its_expiry_lives_on(stage: Stage) -> None:
    """The message was judged a moment before the end, the expiry a moment after it; the message is stored first."""
    await stage.create()
    other = stage.another()
    stage.clock.advance(TTL_SECONDS + 1)
    begun: list[Claim] = []

    async def message_first() -> None:
        stage.clock.advance(-2)
        begun.append(await other.begin("Still here"))
        stage.clock.advance(2)

    stage.table.before_next(message_first)

    assert not await stage.store.sweep.expired(REF)
    assert (await stage.store.sessions.open(REF))[1].run == begun[0].run_id
    assert "session.deleted" not in types(await stage.log())


async def test_a_session_that_gets_a_message_into_its_queue_at_the_moment_of_its_expiry_lives_on(stage: Stage) -> None:
    """Such a message moves the row's end and does not touch the lock."""
    await stage.create()
    other = stage.another()
    stage.clock.advance(TTL_SECONDS + 1)

    async def message_first() -> None:
        stage.clock.advance(-2)
        await other.store.inputs.put(REF, [message()])
        stage.clock.advance(2)

    stage.table.before_next(message_first)

    assert not await stage.store.sweep.expired(REF)
    assert await stage.store.sessions.head(REF)
    assert await stage.store.inputs.first(REF) is not None


@pytest.mark.parametrize("how", ["removed", "left"])
async def test_a_message_that_comes_just_after_the_expiry_finds_no_session(stage: Stage, how: str) -> None:
    """The message was judged a moment before the end; the expiry is stored first."""
    await stage.create()
    other = stage.another()
    once = Once.of("acme", "ann", "POST", "/", "k", b"")
    stage.clock.advance(TTL_SECONDS - 1)

    async def expiry_first() -> None:
        await lapse(stage, how)
        await stage.store.sweep.expired(REF)

    other.table.before_next(expiry_first)

    with pytest.raises(NotFound):
        await other.begin("Too late", once=once)
    assert types(await stage.log()) == ["session.deleted"]
    assert await swept(stage)


async def test_a_message_to_a_row_that_dynamodb_has_just_removed_finds_no_session(stage: Stage) -> None:
    await stage.create()
    stage.clock.advance(TTL_SECONDS - 1)
    stage.table.before_next(lambda: stage.sqlite.write(Delete(REF.shown())))

    with pytest.raises(NotFound):
        await stage.store.claims.begin(REF, stage.agent, "Too late")

    assert await stage.sqlite.get(REF.shown()) is None
    assert await stage.log() == []


@pytest.mark.parametrize("how", ["removed", "left"])
async def test_expiry_stops_an_open_run_at_its_next_step(stage: Stage, how: str) -> None:
    other = stage.another()

    async def expire(arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        await lapse(stage, how)
        assert await other.store.sweep.expired(REF)
        return ToolOutcome("ok", "seen")

    stage.plays(answer(asked("look")), answer(said("Never said.")), look=expire)

    with pytest.raises(Fenced):
        await stage.drive()

    assert types(await stage.log())[-1] == "session.deleted"
    assert len(stage.model.requests) == 1
    assert await swept(stage)
    assert left(stage) == []


async def test_a_run_cannot_end_on_a_row_that_is_gone(stage: Stage) -> None:
    """DynamoDB has removed the row and its stream has not been read yet: the end of the run must not make it anew."""
    stage.plays([lambda: stage.sqlite.write(Delete(REF.shown())), *answer(said())])

    with pytest.raises(Fenced):
        await stage.drive()

    assert await stage.sqlite.get(REF.shown()) is None
    assert only(e.RunFinished, await stage.log()) == []
    assert await stage.store.sweep.expired(REF)
    assert await swept(stage)
    assert left(stage) == []


async def test_a_run_that_ends_late_on_a_row_that_is_still_there_keeps_its_session(stage: Stage) -> None:
    stage.plays([lambda: lapse(stage, "left"), *answer(said())])

    await stage.drive()

    assert not await stage.store.sweep.expired(REF)
    assert (await stage.store.sessions.open(REF))[1] == Lock(epoch=1)


async def test_what_a_driver_writes_at_the_moment_of_the_expiry_is_swept_with_the_rest(stage: Stage) -> None:
    claim = await stage.begin()
    await lapse(stage, "removed")
    other = stage.another()
    stage.table.before_next(lambda: other.store.drives.append(claim, claim.session, [event(e.ModelRequestStart)]))

    assert await stage.store.sweep.expired(REF)

    assert types(await stage.log())[-2:] == ["span.model_request_start", "session.deleted"]
    with pytest.raises(Fenced):
        await other.store.drives.renew(claim)
    assert await swept(stage)
    assert left(stage) == []


async def test_a_run_that_waits_for_a_person_for_too_long_expires_with_its_session(stage: Stage) -> None:
    stage.plays(answer(asked("pay")), pay=ToolOutcome("unknown", "?"))
    await stage.drive()
    await lapse(stage, "removed")

    assert await stage.store.sweep.expired(REF)

    await unreadable(stage)
    with pytest.raises((NotFound, SessionBusy)):
        await stage.store.claims.begin(REF, stage.agent, "Hello?")
    assert await swept(stage)
    assert left(stage) == []
