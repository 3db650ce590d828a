"""Sessions that a person holds, changes, sets back, copies and ends: what is stored, and what drivers make of it."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from parley.core import control as c
from parley.core import event as e
from parley.core.budget import Budget
from parley.core.changes import Changes
from parley.core.errors import (
    Conflict,
    Invalid,
    NotFound,
    SessionArchived,
    SessionBusy,
    SessionSuspended,
)
from parley.core.run import AskPerson, CallModel, Finish, HandOver, Pause, next_step
from parley.state import Principal
from parley.store import Head, Lock, Ref
from parley.store.audit import Actor, By
from parley.store.head import milliseconds
from parley.store.inputs import Inputs
from parley.store.sessions import Sessions
from parley.worker import Worker

from tests import build
from tests.build import REF, Stage, answer, answered, asked, event, numbered, only, opened, said, tool_use, types
from tests.fakes.gate import Gate
from tests.unit.test_session import folded

pytestmark = pytest.mark.anyio

ANN = By(Actor("ann", "dev", "req_1"))
SAID = event(e.AgentMessage)


async def lock(stage: Stage) -> Lock:
    _, found = await stage.store.sessions.open(REF)
    return found


async def shows(stage: Stage) -> str:
    return (await stage.store.sessions.head(REF)).phase


async def at_work(stage: Stage, gate: Gate) -> "asyncio.Task[Any]":
    """Let a run come to where its tool waits at the gate."""
    stage.plays(answer(asked("look")), answer(said("Seen.")), look=gate.tool)
    driven = asyncio.create_task(stage.drive())
    await gate.reached.wait()
    return driven


# The next step.


@pytest.mark.parametrize(
    ("log", "step"),
    [
        (opened(), Pause),
        ([*opened(), *answered(tool_use(name="look"))], Pause),
        ([*opened(), *answered(tool_use(evaluated_permission="ask"))], AskPerson),
        ([*opened(), *answered(SAID)], Finish),
    ],
)
def test_while_suspended_nothing_begins_but_what_ends_a_drive_may(log: list[e.Event], step: type[Any]) -> None:
    session = folded(*log, event(c.SessionSuspended, id="held"))

    decided = next_step(session, build.agent())

    assert isinstance(decided, step)
    assert decided != Pause("")


def test_a_pause_needs_no_time() -> None:
    session = folded(*opened(), *answered(tool_use(name="look")), event(c.SessionSuspended))

    assert not isinstance(next_step(session, build.agent(), 0.0), HandOver)


def test_a_suspended_run_that_is_to_stop_stops() -> None:
    session = folded(*opened(), event(c.SessionSuspended), event(c.UserInterrupt))

    assert next_step(session, build.agent()).ends_drive
    assert not session.rests


def test_what_is_resumed_goes_on() -> None:
    session = folded(
        *opened(), event(c.SessionSuspended), build.idle("requires_action", "held"), event(c.SessionResumed)
    )

    assert next_step(session, build.agent()) == CallModel()
    assert (session.shows, session.suspended) == ("executing", False)


def test_a_second_suspension_is_still_the_first_and_a_resume_of_what_runs_is_none() -> None:
    parked = [*opened(), *answered(tool_use()), build.idle("requires_action", "call")]

    twice = folded(event(c.SessionSuspended, id="one"), event(c.SessionSuspended, id="two"))
    resumed = folded(*parked, event(c.SessionResumed))

    assert twice.suspension == "one"
    assert resumed.run is not None
    assert resumed.run.parked


@pytest.mark.parametrize(
    ("events", "shown"),
    [
        ([event(c.SessionSuspended)], "suspended"),
        ([event(c.SessionSuspended), event(c.SessionTerminated)], "archived"),
        ([event(c.SessionTerminated), event(e.SessionDeleted)], "deleted"),
        ([event(c.SessionSuspended), event(c.SessionResumed)], "created"),
    ],
)
def test_what_a_session_shows_is_what_a_person_decided_before_what_its_run_does(
    events: list[e.Event], shown: str
) -> None:
    assert folded(*events).shows == shown


# Suspend and resume.


async def test_a_run_pauses_when_its_call_has_ended_and_goes_on_after_the_resume(stage: Stage) -> None:
    gate = Gate()
    driven = await at_work(stage, gate)

    [held] = (await stage.store.lives.suspend(REF, ANN)).events
    gate.opened.set()
    await driven
    paused = await stage.log()

    assert types(paused)[-3:] == ["session.suspended", "agent.tool_result", "session.status_idle"]
    [idle] = only(e.StatusIdle, paused)
    assert idle.stop_reason.event_ids == (held.id,)
    assert (await shows(stage), await lock(stage)) == ("suspended", replace(await lock(stage), lease_until_ms=None))
    assert await stage.another().runner.resume(REF) is None

    await stage.store.lives.resume(REF, ANN)
    await stage.runner.nudge(REF)
    log = await stage.ended()

    assert types(log)[-2:] == ["run.finished", "session.status_idle"]
    assert types(log).count("agent.tool_result") == 1
    assert await shows(stage) == "completed"


async def test_a_resume_before_the_boundary_leaves_the_driver_alone(stage: Stage) -> None:
    gate = Gate()
    driven = await at_work(stage, gate)

    await stage.store.lives.suspend(REF, ANN)
    await stage.store.lives.resume(REF, ANN)
    assert await stage.another().runner.resume(REF) is None
    gate.opened.set()
    await driven

    log = await stage.log()
    assert types(log)[-1] == "session.status_idle"
    assert types(log).count("run.claimed") == 1


async def test_a_word_given_meanwhile_wakes_nobody_until_the_resume(stage: Stage) -> None:
    call = await stage.park()
    await stage.store.lives.suspend(REF, ANN)

    await stage.decide(call, "happened", "Receipt 7")
    stage.clock.advance(3600)
    await stage.sweeper.sweep()

    assert await stage.store.claims.take_over(REF) is None
    assert (await lock(stage)).lease_until_ms is None
    stage.plays(answer(said("Paid.")))
    await stage.store.lives.resume(REF, ANN)
    await stage.runner.nudge(REF)
    assert types(await stage.ended())[-2:] == ["run.finished", "session.status_idle"]


async def test_after_a_resume_a_run_waits_for_what_it_waited_for_and_asks_nobody_twice(stage: Stage) -> None:
    call = await stage.park()
    await stage.store.lives.suspend(REF, ANN)
    await stage.store.lives.resume(REF, ANN)

    task = await stage.runner.nudge(REF)
    assert task is not None
    await task

    log = await stage.log()
    assert types(log).count("tool.outcome_unknown") == 1
    assert only(e.StatusIdle, log)[-1].stop_reason.event_ids == (call,)
    assert await shows(stage) == "waiting"


async def test_a_driver_that_died_while_the_session_was_suspended_is_followed_by_one_pause(stage: Stage) -> None:
    await stage.begin()
    await stage.store.lives.suspend(REF, ANN)
    stage.clock.advance(3600)

    await stage.sweeper.sweep()
    await build.settled()
    before = len(await stage.log())
    stage.clock.advance(3600)
    await stage.sweeper.sweep()
    await build.settled()

    assert len(await stage.log()) == before
    assert types(await stage.log())[-3:] == ["run.claimed", "session.status_rescheduled", "session.status_idle"]
    assert await shows(stage) == "suspended"


async def test_messages_wait_while_suspended_and_the_sweeper_does_not_mind(stage: Stage) -> None:
    await stage.create()
    await stage.store.lives.suspend(REF, ANN)
    await stage.send("One")
    stage.clock.advance(3600)

    swept = await stage.sweeper.sweep()
    with pytest.raises(SessionSuspended):
        await stage.begin("Two")

    assert swept.hints == 0
    assert await stage.runner.resume(REF) is None
    stage.plays(answer(said("One!")))
    await stage.store.lives.resume(REF, ANN)
    await stage.runner.nudge(REF)
    assert types(await stage.ended())[-2:] == ["run.finished", "session.status_idle"]


@pytest.mark.parametrize("waiting", [True, False])
async def test_a_message_that_is_about_to_begin_does_not_slip_past_a_suspension(stage: Stage, *, waiting: bool) -> None:
    """The lock is read, then the session is suspended, then its log is read."""
    await stage.create()
    await stage.send("One")

    class Late(Sessions):
        async def open(self, ref: Ref, owner: str | None = None) -> tuple[Head, Lock]:
            seen = await super().open(ref, owner)
            await stage.store.lives.suspend(ref, ANN)
            return seen

    late = Late(stage.store.log, stage.store.cursors, stage.clock, 3600)
    claims = replace(stage.store.claims, sessions=late)
    if waiting:
        assert await claims.begin_queued(REF, lambda _: stage.agent) is None
    else:
        with pytest.raises(SessionSuspended):
            await claims.begin(REF, stage.agent, "Two")

    assert types(await stage.log()) == ["session.suspended"]


async def test_a_job_for_a_suspended_session_waits_and_one_for_an_archived_session_ends_visibly(stage: Stage) -> None:
    worker = Worker(stage.runner, Principal("acme", "robot", admin=True), 1)
    job = json.dumps({"agent_id": "bank", "input": "Hi", "session_id": REF.id})
    await stage.create()

    await stage.store.lives.suspend(REF, ANN)
    await worker.take(job, "one")
    waiting = await stage.store.inputs.wait(REF)
    stage.plays(answer(said("Hello")))
    await stage.store.lives.resume(REF, ANN)
    await stage.runner.nudge(REF)
    await stage.ended()
    await stage.follow_hints()
    await stage.store.lives.archive(REF, ANN)
    with pytest.raises(SessionArchived):
        await worker.take(job, "two")

    assert waiting
    listed = await stage.store.sessions.page(
        "acme", question="", wanted=lambda head: head.phase == "error", limit=9, newest_first=True, page=None
    )
    assert len(listed.heads) == 1


async def test_a_suspended_session_with_an_open_run_is_suspended_to_who_sends_to_it(stage: Stage) -> None:
    await stage.park()
    await stage.store.lives.suspend(REF, ANN)

    with pytest.raises(SessionSuspended):
        await stage.begin("Two")


@pytest.mark.parametrize(
    "again",
    [
        lambda lives: lives.suspend(REF, ANN),
        lambda lives: lives.update(REF, ANN, Changes(title="Rent", autonomy="L1")),
        lambda lives: lives.checkpoint(REF, ANN, "here"),
    ],
    ids=["suspend", "update", "checkpoint"],
)
async def test_what_is_so_already_is_not_stored_again(stage: Stage, again: Callable[..., Any]) -> None:
    await stage.create()
    first = await again(stage.store.lives)
    rows = stage.rows()

    second = await again(stage.store.lives)

    assert (len(first.events), second.events) == (1, ())
    assert stage.rows() == rows


# Archive.


async def test_an_archived_session_takes_nothing_any_more(stage: Stage) -> None:
    await stage.finish()
    await stage.store.lives.archive(REF, ANN)
    log = await stage.log()

    lives = stage.store.lives
    refused: list[Callable[[], Awaitable[Any]]] = [
        lambda: stage.begin("More"),
        lambda: stage.send("More"),
        lambda: stage.decide("call", "happened"),
        lambda: lives.suspend(REF, ANN),
        lambda: lives.resume(REF, ANN),
        lambda: lives.update(REF, ANN, Changes(title="Rent")),
        lambda: lives.checkpoint(REF, ANN, "here"),
        lambda: lives.restore(REF, ANN, None, 1),
    ]
    for write in refused:
        with pytest.raises(SessionArchived):
            await write()
    assert (await lives.archive(REF, ANN)).events == ()
    assert await stage.log() == log
    assert types(log)[-1] == "session.status_terminated"
    head = await stage.store.sessions.head(REF)
    assert (head.phase, head.archived_ms) == ("archived", milliseconds(stage.clock.now()))


async def test_an_archived_session_can_be_forked_and_deleted(stage: Stage) -> None:
    await stage.finish()
    await stage.store.lives.archive(REF, ANN)

    fork = await stage.store.lives.fork(REF, ANN, build.head(Ref("acme", "sesn_2")), None, None)
    await stage.store.sessions.delete(REF)

    assert fork.phase == "created"
    with pytest.raises(NotFound):
        await stage.store.sessions.head(REF)


async def test_what_is_under_way_is_not_archived(stage: Stage) -> None:
    claim = await stage.begin()
    with pytest.raises(SessionBusy):
        await stage.store.lives.archive(REF, ANN)
    await stage.finish(claim)
    await stage.send("More")

    with pytest.raises(Conflict) as refused:
        await stage.store.lives.archive(REF, ANN)

    assert refused.value.code == "messages_wait"
    assert await shows(stage) == "completed"


async def test_no_message_comes_into_a_session_that_is_being_archived(stage: Stage) -> None:
    """It is looked whether messages wait, and then one comes, before the archive is written."""
    await stage.create()

    class Late(Inputs):
        async def wait(self, ref: Ref) -> bool:
            found = await super().wait(ref)
            await stage.send("Just now")
            return found

    late = replace(stage.store.lives, inputs=Late(stage.store.sessions, stage.store.log))
    with pytest.raises(Conflict) as refused:
        await late.archive(REF, ANN)

    assert refused.value.code == "messages_wait"
    assert await shows(stage) == "created"


# Update.


async def test_only_what_changed_is_told_and_metadata_are_told_whole(stage: Stage) -> None:
    await stage.create(title="Rent", metadata={"of": "May", "due": "soon"})

    [first] = (await stage.store.lives.update(REF, ANN, Changes(metadata={"due": None, "paid": "no"}))).events
    [second] = (await stage.store.lives.update(REF, ANN, Changes("", {"paid": "yes"}, "L0"))).events
    head = await stage.store.sessions.head(REF)

    assert isinstance(first, c.SessionUpdated)
    assert isinstance(second, c.SessionUpdated)
    assert (first.title, first.metadata, first.autonomy) == (None, {"of": "May", "paid": "no"}, None)
    assert (second.title, second.metadata, second.autonomy) == ("", {"of": "May", "paid": "yes"}, "L0")
    assert (head.title, head.metadata, head.autonomy) == (None, {"of": "May", "paid": "yes"}, "L0")
    assert (await stage.session()).autonomy == "L0"


async def test_changes_at_once_do_not_lose_each_other(stage: Stage) -> None:
    await stage.create()

    await asyncio.gather(*(stage.store.lives.update(REF, ANN, Changes(metadata={f"n{n}": "x"})) for n in range(5)))

    assert sorted((await stage.store.sessions.head(REF)).metadata) == ["n0", "n1", "n2", "n3", "n4"]


async def test_a_change_outlives_the_end_of_the_run_that_it_came_into(stage: Stage) -> None:
    claim = await stage.begin()
    await stage.store.lives.update(REF, ANN, Changes(title="Rent"))

    stage.plays(answer(said("Hello")))
    await stage.drive(claim)

    head = await stage.store.sessions.head(REF)
    assert (head.title, head.phase) == ("Rent", "completed")


async def test_there_is_an_end_to_metadata(stage: Stage) -> None:
    await stage.create()

    with pytest.raises(Invalid):
        await stage.store.lives.update(REF, ANN, Changes(metadata={f"n{n}": "x" for n in range(17)}))


# Restore and fork.


async def test_a_session_goes_on_from_a_checkpoint(stage: Stage) -> None:
    for text in ("One", "Two"):
        stage.plays(answer(said(f"{text}!")))
        await stage.drive(await stage.begin(text))
        await stage.store.lives.checkpoint(REF, ANN, text)

    [back] = (await stage.store.lives.restore(REF, ANN, "One", None)).events
    stage.plays(answer(said("Three!")))
    await stage.drive(await stage.begin("Three"))

    assert isinstance(back, c.SessionRestored)
    asked_last = b"".join(stage.model.requests[-1].messages).decode()
    assert [text in asked_last for text in ("One!", "Two", "set back", "Three")] == [True, False, True, True]
    assert (back.keep, back.checkpoint) == (2, "One")


async def test_only_a_session_without_an_open_run_is_set_back(stage: Stage) -> None:
    await stage.park()

    with pytest.raises(SessionBusy):
        await stage.store.lives.restore(REF, ANN, None, 1)


@pytest.mark.parametrize(("checkpoint", "seq"), [("nowhere", None), (None, 99)])
async def test_there_is_no_way_back_to_what_never_was(stage: Stage, checkpoint: str | None, seq: int | None) -> None:
    await stage.finish()

    with pytest.raises(NotFound):
        await stage.store.lives.restore(REF, ANN, checkpoint, seq)


async def test_a_fork_goes_on_by_itself_as_large_as_it_is_and_keeps_its_level_and_budget(stage: Stage) -> None:
    stage.plays(answer(said("Long.")))
    await stage.drive(await stage.begin("\N{FOX FACE} " + "".join(map(str, range(40_000)))))
    await stage.store.lives.update(REF, ANN, Changes(autonomy="L0", budget=Budget(max_calls=3)))
    other = Ref("acme", "sesn_2")

    head = await stage.store.lives.fork(REF, ANN, build.head(other), None, None)
    await stage.store.sessions.delete(REF)
    await stage.store.sweep.sweep(REF)
    stage.plays(answer(said("And on.")))
    await stage.drive(await stage.begin("Go on", other))

    log = await stage.log(other)
    assert (head.autonomy, head.budget) == ("L0", Budget(max_calls=3))
    assert types(log)[:3] == ["session.restored", "session.updated", "user.message"]
    assert len(stage.model.requests[-1].messages) == 3
    session = await stage.session(other)
    assert (session.autonomy, session.budget) == ("L0", Budget(max_calls=3))


async def test_a_fork_of_an_earlier_place_has_no_more_than_was_there(stage: Stage) -> None:
    for text in ("One", "Two"):
        stage.plays(answer(said(f"{text}!")))
        await stage.drive(await stage.begin(text))
    other = Ref("acme", "sesn_2")

    await stage.store.lives.fork(REF, ANN, build.head(other), None, 1)

    [begun] = await stage.log(other)
    assert isinstance(begun, c.SessionRestored)
    assert (begun.to_seq, begun.source_session_id, len(begun.messages)) == (1, "sesn_1", 2)
    assert len(await stage.log()) == len(numbered(await stage.log()))


# Read back.


async def test_a_snapshot_keeps_what_a_person_decided(stage: Stage) -> None:
    await stage.create()
    await stage.store.lives.checkpoint(REF, ANN, "here")
    await stage.store.lives.update(REF, ANN, Changes("Rent", {"of": "May"}, "L1"))
    await stage.store.lives.suspend(REF, ANN)
    session = await stage.session()

    read = type(session).model_validate_json(session.model_dump_json())

    assert read == session
    assert [(each.name, each.seq) for each in read.checkpoints] == [("here", 1)]
