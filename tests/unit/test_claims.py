"""Claims on a real table: one winner, and a barrier for the others."""

import asyncio
from typing import Any

import pytest
from parley.core import event as e
from parley.core.errors import Conflict, NotFound, SessionBusy
from parley.store import Claim, Lock, Ref
from parley.store.keys import SHOWN
from parley.store.work import work

from tests.build import REF, Stage, agent, answered, event, head, types

pytestmark = pytest.mark.anyio


async def lock(stage: Stage) -> Lock:
    _, found = await stage.store.sessions.open(REF)
    return found


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
        stage.store.claims.begin(REF, stage.agent, "busy"),
        stage.store.claims.begin(REF, agent(id="other"), "wrong agent"),
        stage.store.claims.begin(REF, stage.agent, "not yours", owner="bob"),
        stage.store.claims.begin(Ref("other", "sesn_1"), stage.agent, "foreign"),
        stage.store.claims.begin(Ref("acme", "sesn_9"), stage.agent, "unknown"),
    ):
        with pytest.raises((SessionBusy, Conflict, NotFound)):
            await refused

    assert stage.rows() == before


async def test_a_session_belongs_to_its_agent(stage: Stage) -> None:
    await stage.create()

    with pytest.raises(Conflict) as caught:
        await stage.store.claims.begin(REF, agent(id="other"), "Hi")

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
    assert [ref async for ref, _ in work(stage.sqlite)] == [REF]


async def test_a_spurious_conflict_is_tried_again(stage: Stage) -> None:
    await stage.create()
    stage.table.fail_next("conflict", "conflict")

    claim = await stage.begin()

    assert list(claim.events) == await stage.log()


async def test_runs_of_one_session_follow_one_another_without_a_gap(stage: Stage) -> None:
    for epoch in (1, 2, 3):
        claim = await stage.begin()
        assert claim.epoch == epoch
        await stage.finish(claim)

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


async def test_a_run_on_a_session_that_was_deleted_in_between_begins_nothing(stage: Stage) -> None:
    await stage.create()
    stage.table.before_next(lambda: stage.another().store.sessions.delete(REF))

    with pytest.raises(NotFound):
        await stage.store.claims.begin(REF, stage.agent, "Hi")

    assert types(await stage.log()) == ["session.deleted"]
    assert [sk async for _, sk in work(stage.sqlite)] == [SHOWN]


async def test_a_message_makes_an_expiring_session_live_on(stage: Stage) -> None:
    await stage.create()
    stage.clock.advance(29 * 86_400)
    await stage.finish()
    stage.clock.advance(29 * 86_400)

    assert await stage.store.sessions.head(REF)


# Taking over.


@pytest.mark.parametrize(("seconds", "taken"), [(0, False), (30, False), (31.9, False), (32.1, True), (10_000, True)])
async def test_a_run_is_taken_over_when_its_lease_and_a_margin_have_passed(
    stage: Stage, seconds: float, taken: bool
) -> None:
    await stage.begin()
    stage.clock.advance(seconds)

    assert bool(await stage.store.claims.take_over(REF)) is taken


async def test_of_two_that_take_over_one_wins(stage: Stage) -> None:
    await stage.begin()
    stage.clock.advance(60)
    several = [stage.another() for _ in range(5)]

    claims = await asyncio.gather(*(each.store.claims.take_over(REF) for each in several))

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

    assert await stage.store.claims.take_over(REF) is None
    assert types(await stage.log()).count("run.claimed") == 1


async def test_a_fact_that_comes_first_is_in_the_session_of_the_take_over(stage: Stage) -> None:
    old = await stage.begin()
    stage.clock.advance(60)
    other = stage.another()

    async def last_words() -> None:
        await other.store.drives.append(old, old.session, answered(event(e.AgentMessage)))

    stage.table.before_next(last_words)
    claim = await stage.store.claims.take_over(REF)

    assert claim is not None
    assert claim.session == await stage.session()
    assert types(await stage.log())[-2:] == ["run.claimed", "session.status_rescheduled"]


@pytest.mark.parametrize("state", ["nothing there", "nothing sent", "finished", "deleted", "parked"])
async def test_without_a_driver_to_replace_nothing_is_taken_over(stage: Stage, state: str) -> None:
    match state:
        case "nothing sent":
            await stage.create()
        case "finished":
            await stage.finish()
        case "deleted":
            await stage.begin()
            await stage.store.sessions.delete(REF)
        case "parked":
            await stage.park()
        case _:
            pass
    stage.clock.advance(1000)
    before = stage.rows()

    assert await stage.store.claims.take_over(REF) is None
    assert await stage.store.claims.take_over(REF, void_lease=True) is None

    assert stage.rows() == before
