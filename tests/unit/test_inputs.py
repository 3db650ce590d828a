"""Messages that wait: stored whole or not at all, in their order, and taken into the log once."""

import asyncio
import random
import string
from contextlib import suppress
from typing import Any

import pytest
from inline_snapshot import snapshot
from parley.core import event as e
from parley.core.compose import user_message
from parley.core.errors import Conflict, NotFound, Unavailable, Unreadable
from parley.core.scribe import Scribe
from parley.core.value import text_of
from parley.ports import ConditionFailed, Put
from parley.store import Claim, Done, Once, Ref
from parley.store.audit import Actor, By
from parley.store.idempotency import find
from parley.store.inputs import MAX_QUEUED
from parley.store.keys import SHOWN
from parley.store.work import work

from tests.build import REF, Stage, answer, only, said
from tests.fakes.flaky_table import Crash, Fault

pytestmark = pytest.mark.anyio

BOB = By(Actor("bob"), "bob")
ONCE = Once.of("acme", "ann", "POST", "/events", "key", b"{}")


def noise(size: int, seed: int = 7) -> str:
    """Text that hardly gets smaller."""
    return "".join(random.Random(seed).choices(string.ascii_letters + string.digits, k=size))


LARGE = noise(100_000)


def texts(messages: list[e.UserMessage]) -> list[str]:
    return [text_of(message.content) for message in messages]


async def waiting(stage: Stage) -> list[str]:
    return texts([queued.message for queued in await stage.store.inputs.all(REF)])


async def heard(stage: Stage) -> list[str]:
    """Tell which messages are in the log."""
    return texts(only(e.UserMessage, await stage.log()))


async def taken(stage: Stage) -> Claim:
    """Take the first message into the log, and end its run."""
    claim = await stage.store.claims.begin_queued(REF, lambda _: stage.agent)
    assert claim is not None
    await stage.finish(claim)
    return claim


# Sending.


async def test_messages_of_one_request_are_one_write(stage: Stage) -> None:
    await stage.create()
    before = len(stage.table.writes)

    await stage.send("One", "Two", "Three")

    assert len(stage.table.writes) - before == 1
    assert await waiting(stage) == ["One", "Two", "Three"]


async def test_messages_wait_in_the_order_of_their_requests(stage: Stage) -> None:
    await stage.create()

    for request in (["One", "Two"], ["Three"], ["Four", "Five"]):
        await stage.send(*request)

    assert await waiting(stage) == ["One", "Two", "Three", "Four", "Five"]
    for _ in range(5):
        await taken(stage)
    assert await heard(stage) == ["One", "Two", "Three", "Four", "Five"]


async def test_sending_is_activity_and_changes_nothing_that_the_log_says(stage: Stage) -> None:
    await stage.create(phase="completed", runs=3)
    before = await stage.store.sessions.head(REF)
    stage.clock.advance(29 * 86_400)

    await stage.send("Hi")
    stage.clock.advance(29 * 86_400)

    after = await stage.store.sessions.head(REF)
    assert (after.phase, after.runs) == ("completed", 3)
    assert after.updated_ms - before.updated_ms == 29 * 86_400_000


async def test_what_waits_is_where_the_sweeper_looks(stage: Stage) -> None:
    await stage.create()

    await stage.send("One", "Two")

    assert [sk async for _, sk in work(stage.sqlite)] == snapshot(["Q#in_0001#00", "Q#in_0001#01"])
    await taken(stage)
    await taken(stage)
    assert [sk async for _, sk in work(stage.sqlite)] == []


async def test_no_more_than_a_number_of_messages_wait(stage: Stage) -> None:
    await stage.create()
    await stage.send(*map(str, range(MAX_QUEUED - 1)))
    before = stage.rows()

    with pytest.raises(Conflict) as caught:
        await stage.send("This one would fit", "This one does not")

    assert caught.value.code == "queue_full"
    assert stage.rows() == before
    await stage.send("Fits")
    with pytest.raises(Conflict):
        await stage.send("One more")


async def test_messages_that_fill_more_than_a_page_are_all_seen(stage: Stage) -> None:
    await stage.create()
    stage.table.page_limit = 10

    for n in range(MAX_QUEUED):
        await stage.send(str(n))

    assert await waiting(stage) == [str(n) for n in range(MAX_QUEUED)]
    with pytest.raises(Conflict):
        await stage.send("One more")


async def test_a_message_that_was_taken_makes_room(stage: Stage) -> None:
    await stage.create()
    await stage.send(*map(str, range(MAX_QUEUED)))
    await taken(stage)

    await stage.send("Fits")

    assert (await waiting(stage))[-1] == "Fits"


@pytest.mark.parametrize("state", ["unknown", "deleted", "expired", "foreign", "another tenant's"])
async def test_a_session_that_the_sender_cannot_see_takes_nothing(stage: Stage, state: str) -> None:
    ref, owner = REF, "ann"
    if state != "unknown":
        await stage.create()
    match state:
        case "deleted":
            await stage.store.sessions.delete(REF)
        case "expired":
            stage.clock.advance(31 * 86_400)
        case "foreign":
            owner = "bob"
        case "another tenant's":
            ref = Ref("other", REF.id)
        case _:
            pass
    before = stage.rows()

    with pytest.raises(NotFound):
        await stage.store.inputs.put(
            ref, [user_message(Scribe(stage.ids.new, stage.clock.now, None), "Hi")], owner=owner
        )

    assert stage.rows() == before


async def test_a_session_that_is_deleted_meanwhile_takes_nothing(stage: Stage) -> None:
    await stage.create()
    stage.table.before_next(lambda: stage.another().store.sessions.delete(REF))

    with pytest.raises(ConditionFailed):
        await stage.send("Hi")

    assert await waiting(stage) == []
    assert [sk async for _, sk in work(stage.sqlite)] == [SHOWN]


# Into the log.


async def test_a_message_keeps_its_id_and_the_moment_it_came_and_is_processed_when_it_is_taken(stage: Stage) -> None:
    await stage.create(task_id="of the session")
    [sent] = await stage.send("Hi", task_id="of the message")
    stage.clock.advance(300)

    claim = await taken(stage)

    [message] = only(e.UserMessage, await stage.log())
    assert (message.id, message.created_at, message.content) == (sent.id, sent.created_at, sent.content)
    assert message.processed_at is not None
    assert (message.processed_at - message.created_at).total_seconds() == 300
    assert (message.run_id, message.task_id) == (claim.run_id, "of the message")


async def test_taking_a_message_is_one_write_with_the_start_of_its_run(stage: Stage) -> None:
    await stage.create()
    await stage.send("Hi")
    before = len(stage.table.writes)

    claim = await stage.store.claims.begin_queued(REF, lambda _: stage.agent)

    assert claim is not None
    assert len(stage.table.writes) - before == 1
    assert list(claim.events) == await stage.log()
    assert await waiting(stage) == []


async def test_a_large_message_waits_in_a_blob_that_is_gone_when_it_was_taken(stage: Stage) -> None:
    await stage.create()
    [sent] = await stage.send(LARGE)
    assert list(stage.blobs.kept) == [REF.blob(sent.id)]
    assert await waiting(stage) == [LARGE]

    await taken(stage)

    assert REF.blob(sent.id) not in stage.blobs.kept
    assert await heard(stage) == [LARGE]


async def test_a_blob_that_cannot_be_removed_keeps_nobody(stage: Stage) -> None:
    await stage.create()
    await stage.send(LARGE)
    stage.blobs.stuck = True

    await taken(stage)

    assert await heard(stage) == [LARGE]


async def test_who_reads_a_message_that_is_taken_at_this_moment_sees_that_it_does_not_wait(stage: Stage) -> None:
    await stage.create()
    await stage.send(LARGE, "Small")
    stage.blobs.before_next_get = lambda: taken(stage.another())

    assert await waiting(stage) == ["Small"]


async def test_a_message_whose_blob_is_lost_is_no_reason_to_go_on_without_it(stage: Stage) -> None:
    await stage.create()
    await stage.send(LARGE)
    stage.blobs.kept.clear()

    with pytest.raises(Unavailable):
        await stage.store.claims.begin_queued(REF, lambda _: stage.agent)


async def test_a_message_that_this_version_cannot_read_is_said_to_be_so(stage: Stage) -> None:
    await stage.create()
    await stage.send("Hi")
    [row] = (await stage.sqlite.query(REF.pk, first="Q#", last="Q#~")).items
    await stage.sqlite.write(Put(row | {"body": b'\0{"type":"from.the.future"}'}))

    with pytest.raises(Unreadable):
        await stage.store.inputs.first(REF)


# Once.


async def test_the_same_request_twice_is_stored_once_and_leads_to_what_it_made(stage: Stage) -> None:
    await stage.create()
    sent = await stage.send("One", "Two", once=ONCE)

    with pytest.raises(ConditionFailed):
        await stage.send("One", "Two", once=ONCE)

    assert await waiting(stage) == ["One", "Two"]
    done = await find(stage.table, ONCE)
    ids = tuple(message.id for message in sent)
    assert done == Done(REF.id, None, None, ids, stage.clock.milliseconds())


async def test_the_same_request_twice_is_stored_once_even_when_its_messages_were_taken(stage: Stage) -> None:
    await stage.create()
    await stage.send("One", once=ONCE)
    await taken(stage)

    with pytest.raises(ConditionFailed):
        await stage.send("One", once=ONCE)

    assert await waiting(stage) == []


@pytest.mark.parametrize("once", [None, ONCE], ids=["without a key", "with a key"])
@pytest.mark.parametrize("how_many", [1, 2])
async def test_a_write_that_is_repeated_after_its_message_was_taken_doubles_nothing(
    stage: Stage, once: Once | None, how_many: int
) -> None:
    await stage.create()
    stage.table.fail_next("unconfirmed")
    stage.table.before_next(lambda: taken(stage.another()), skip=1)

    await stage.send(*["One", "Two"][:how_many], once=once)

    assert await heard(stage) + await waiting(stage) == ["One", "Two"][:how_many]


@pytest.mark.parametrize("faults", [["unconfirmed"], ["lost"], ["lost", "unconfirmed", "lost"]])
async def test_messages_whose_write_was_not_confirmed_wait_once(stage: Stage, faults: list[Any]) -> None:
    await stage.create()
    stage.table.fail_next(*faults)

    await stage.send("One", "Two")

    assert await waiting(stage) == ["One", "Two"]


async def test_of_many_that_take_at_once_each_takes_another_message_or_none(stage: Stage) -> None:
    await stage.create()
    await stage.send("One", "Two", "Three")
    several = [stage.another() for _ in range(6)]

    for expected in (["One"], ["One", "Two"], ["One", "Two", "Three"]):
        claims = await asyncio.gather(*(each.store.claims.begin_queued(REF, lambda _: stage.agent) for each in several))
        [claim] = filter(None, claims)
        assert await heard(stage) == expected
        await stage.finish(claim)

    assert await waiting(stage) == []


@pytest.mark.parametrize("fault", ["unconfirmed", "lost", "conflict"])
async def test_a_message_whose_taking_was_not_confirmed_is_in_the_log_once(stage: Stage, fault: Fault) -> None:
    await stage.create()
    await stage.send("One", "Two")
    stage.table.fail_next(fault)

    await taken(stage)

    assert (await heard(stage), await waiting(stage)) == (["One"], ["Two"])


async def test_a_message_that_another_took_just_before_is_left_to_them(stage: Stage) -> None:
    await stage.create()
    await stage.send("One", "Two")
    stage.table.before_next(lambda: taken(stage.another()))

    await taken(stage)

    assert (await heard(stage), await waiting(stage)) == (["One", "Two"], [])


async def test_a_message_that_was_taken_and_answered_since_its_row_was_read_is_not_taken_again(stage: Stage) -> None:
    await stage.create()
    await stage.send(LARGE)
    stage.blobs.stuck = True  # so that it can still be read
    stage.blobs.before_next_get = lambda: taken(stage.another())

    claim = await stage.store.claims.begin_queued(REF, lambda _: stage.agent)

    assert claim is None
    assert await heard(stage) == [LARGE]


# Crashes everywhere.

WRITES = 7
"""One more than the scenario has: create, send, and for each of two messages a begin, and an answer with the end."""


async def sent_and_answered(stage: Stage) -> None:
    """Make a session, send two messages with a key, as a client does that tries until it is told yes; let them run."""
    if await stage.sqlite.get(REF.shown()) is None:
        await stage.create()
    if await find(stage.sqlite, ONCE) is None:
        await stage.send("One", LARGE, once=ONCE)
    while task := await stage.runner.resume(REF, void_lease=True):
        await asyncio.wait([task])


@pytest.mark.parametrize("fault", ["crash", "crash_after"])
@pytest.mark.parametrize("turn", range(1, WRITES + 1))
async def test_a_crash_at_any_write_loses_no_message_and_doubles_none(stage: Stage, fault: Fault, turn: int) -> None:
    plays = [answer(said("Yes.")) for _ in range(4)]
    stage.plays(*plays)
    stage.table.faults[turn] = fault
    with suppress(Crash):
        await sent_and_answered(stage)
    healer = stage.another().plays(*plays)

    await sent_and_answered(healer)

    log = await stage.log()
    assert await heard(stage) == ["One", LARGE]
    assert [each.seq for each in log] == list(range(1, len(log) + 1))
    assert len(only(e.RunFinished, log)) == 2
    assert await waiting(stage) == []
    assert [ref async for ref, _ in work(stage.sqlite)] == []
    assert (stage.table.faults == {}) is (turn < WRITES), "every write has had its crash, and there are no more"


# Second thoughts.


@pytest.mark.parametrize("text", ["Better", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("before", ["Hi", noise(90_000, 8)], ids=["small before", "large before"])
async def test_an_edited_message_says_the_new_words_in_its_old_place(stage: Stage, before: str, text: str) -> None:
    await stage.create()
    _, second, _ = await stage.send("One", before, "Three")

    await stage.store.inputs.edit(REF, second.id, text)

    found = [queued.message for queued in await stage.store.inputs.all(REF)]
    assert texts(found) == ["One", text, "Three"]
    assert (found[1].id, found[1].created_at) == (second.id, second.created_at)
    assert [sk for _, sk in [each async for each in work(stage.table)]] == sorted(
        queued.sk for queued in await stage.store.inputs.all(REF)
    )
    assert len(stage.blobs.kept) == (len(text) > 1000)


async def test_a_removed_message_begins_no_run(stage: Stage) -> None:
    await stage.create()
    _, second = await stage.send("One", LARGE)

    await stage.store.inputs.remove(REF, second.id)

    assert await waiting(stage) == ["One"]
    assert not stage.blobs.kept
    with pytest.raises(NotFound):
        await stage.store.inputs.remove(REF, second.id)
    with pytest.raises(NotFound):
        await stage.store.inputs.edit(REF, "sevt_unknown", "Hm")


async def test_a_message_in_the_log_stays_as_it_is(stage: Stage) -> None:
    await stage.create()
    [message] = await stage.send("One")
    await taken(stage)

    for change in (stage.store.inputs.edit(REF, message.id, "Two"), stage.store.inputs.remove(REF, message.id)):
        with pytest.raises(Conflict) as refused:
            await change
        assert refused.value.code == "event_stored"

    assert await heard(stage) == ["One"]


async def test_an_edit_that_comes_while_a_driver_takes_the_message_is_not_lost(stage: Stage) -> None:
    await stage.create()
    [message] = await stage.send("One")
    other = stage.another()

    stage.table.before_next(lambda: other.store.inputs.edit(REF, message.id, "Two"))
    await taken(stage)

    assert await heard(stage) == ["Two"]
    assert await waiting(stage) == []


async def test_a_message_that_is_removed_while_a_driver_takes_it_is_not_taken(stage: Stage) -> None:
    await stage.create()
    [message] = await stage.send("One")
    other = stage.another()

    stage.table.before_next(lambda: other.store.inputs.remove(REF, message.id))
    claim = await stage.store.claims.begin_queued(REF, lambda _: stage.agent)

    assert claim is None
    assert await heard(stage) == []


async def test_a_driver_that_takes_the_message_first_is_told_to_whoever_comes_to_change_it(stage: Stage) -> None:
    await stage.create()
    [message] = await stage.send("One")
    other = stage.another()

    stage.table.before_next(lambda: taken(other))
    with pytest.raises(Conflict):
        await stage.store.inputs.edit(REF, message.id, "Two")

    assert await heard(stage) == ["One"]


async def test_of_two_edits_at_once_both_are_made_one_after_the_other(stage: Stage) -> None:
    await stage.create()
    [message] = await stage.send("One")
    other = stage.another()

    stage.table.before_next(lambda: other.store.inputs.edit(REF, message.id, noise(90_000, 1)))
    await stage.store.inputs.edit(REF, message.id, noise(90_000, 2))

    assert await waiting(stage) == [noise(90_000, 2)]


@pytest.mark.parametrize("fault", ["lost", "unconfirmed"])
async def test_a_change_whose_write_nobody_confirmed_is_made_once(stage: Stage, fault: Fault) -> None:
    await stage.create()
    edited, removed = await stage.send("One", "Two")

    stage.table.fail_next(fault)
    await stage.store.inputs.edit(REF, edited.id, "Better")
    stage.table.fail_next(fault)
    await stage.store.inputs.remove(REF, removed.id)

    assert await waiting(stage) == ["Better"]


async def test_an_edit_that_was_taken_before_it_was_confirmed_is_no_failure(stage: Stage) -> None:
    await stage.create()
    [message] = await stage.send("One")
    other = stage.another()

    stage.table.fail_next("unconfirmed")
    stage.table.before_next(lambda: taken(other), skip=1)
    await stage.store.inputs.edit(REF, message.id, "Two")

    assert await heard(stage) == ["Two"]


async def test_who_reads_a_large_message_while_it_is_edited_reads_the_new_one(stage: Stage) -> None:
    await stage.create()
    [message] = await stage.send(LARGE)
    other = stage.another()

    stage.blobs.before_next_get = lambda: other.store.inputs.edit(REF, message.id, "Small")

    assert await waiting(stage) == ["Small"]


async def test_somebody_elses_message_cannot_be_changed(stage: Stage) -> None:
    await stage.create()
    [message] = await stage.send("One")

    for change in (
        stage.store.inputs.edit(REF, message.id, "Two", BOB),
        stage.store.inputs.remove(REF, message.id, BOB),
    ):
        with pytest.raises(NotFound):
            await change

    assert await waiting(stage) == ["One"]
