"""The queue's door: hints, jobs and events begin runs once; what cannot be done is shown once, and harms nothing."""

import asyncio
import json
import logging
import random
from contextlib import suppress
from typing import Any

import pytest
from inline_snapshot import snapshot
from parley.core import event as e
from parley.core.errors import Conflict, IdempotencyMismatch, Invalid, NotFound, ParleyError, Unavailable
from parley.core.limits import MAX_INPUT_BYTES
from parley.core.value import text_of
from parley.ports import Put
from parley.state import Principal
from parley.store import Head, Ref
from parley.store.inputs import MAX_QUEUED
from parley.worker import Worker

from tests.build import REF, Stage, agent, answer, asked, only, picture, said, settled
from tests.fakes.flaky_table import Crash, Fault
from tests.fakes.gate import Gate

pytestmark = pytest.mark.anyio

CANARY = "the vault's number is 4711"
SQS_BYTES = 1024 * 1024
"""Of one message, since 2025."""

LAST = 3
"""The delivery after which the queue gives a message up."""


def worker(stage: Stage) -> Worker:
    return Worker(stage.runner, Principal("acme", "robot", admin=True), LAST)


def job(text: str = "Hi", **fields: Any) -> str:
    return json.dumps({"agent_id": "bank", "input": text} | fields)


def hint(ref: Ref = REF) -> str:
    return json.dumps({"hint": {"tenant": ref.tenant, "session_id": ref.id}})


def from_event_bridge(id: str = "evt-1", **fields: Any) -> str:
    """Make an event as a rule puts it onto the queue, by default with a job as its detail."""
    around = {"version": "0", "source": "shop", "account": "123456789012", "region": "eu-central-1", "resources": []}
    return json.dumps(
        {"id": id, "detail-type": "order.placed", "time": "2026-11-20T12:00:00Z", **around}
        | {"detail": {"agent_id": "bank", "input": "Hi"}}
        | fields
    )


async def sessions(stage: Stage, tenant: str = "acme") -> list[Head]:
    """List all sessions, the oldest first."""
    found = await stage.store.sessions.page(
        tenant, question="", wanted=lambda _: True, limit=100, newest_first=False, page=None
    )
    return sorted(found.heads, key=lambda head: head.id)


async def logs(stage: Stage) -> list[e.Event]:
    """Read the logs of all sessions, one after the other."""
    return [each for head in await sessions(stage) for each in await stage.log(Ref("acme", head.id))]


def texts(log: list[e.Event]) -> list[str]:
    return [text_of(message.content) for message in only(e.UserMessage, log)]


# Jobs.


async def test_a_job_runs_in_a_session_of_its_own(stage: Stage) -> None:
    stage.plays(answer(said("Done.")))

    await worker(stage).take(job(task_id="ticket-7", owner="ann"), "m-1")

    [shown] = await sessions(stage)
    log = await stage.log(Ref("acme", shown.id))
    assert (shown.source, shown.owner, shown.agent_id, shown.task_id) == ("queue", "ann", "bank", "ticket-7")
    assert {each.task_id for each in log} == {"ticket-7"}
    assert texts(log) == ["Hi"]
    assert only(e.RunFinished, log)


async def test_a_job_may_have_images(stage: Stage) -> None:
    stage.plays(answer(said("A cat.")))
    content = [picture().model_dump(), {"type": "text", "text": "What is it?"}]

    for receives in (1, 2):
        await worker(stage).take(job(input=content), "m-1", receives)

    assert stage.model.messages == [{"role": "user", "content": content}]
    assert len(only(e.RunFinished, await logs(stage))) == 1


async def test_a_job_with_images_waits_for_its_turn(stage: Stage) -> None:
    await stage.park()

    await worker(stage).take(job(input=[picture().model_dump()], session_id=REF.id), "m-1")

    assert [queued.message.content for queued in await stage.store.inputs.all(REF)] == [(picture(),)]


async def test_a_job_with_a_file_for_an_image_is_given_up_with_its_place(stage: Stage) -> None:
    file = {"type": "image", "source": {"type": "file", "file_id": "file_1"}}

    with pytest.raises(Invalid):
        await worker(stage).take(job(input=[file]), "m-1", LAST)

    [failed] = only(e.RunFailed, await logs(stage))
    assert failed.code == "job_invalid"
    assert "input.blocks.0.image.source: Value error, files cannot be uploaded" in failed.message


async def test_the_largest_message_that_sqs_takes_is_shown_as_it_came(stage: Stage) -> None:
    body = random.Random(1).randbytes(SQS_BYTES // 2).hex()
    assert len(body) == SQS_BYTES

    with pytest.raises(Invalid):
        await worker(stage).take(body, "m-1", LAST)

    log = await logs(stage)
    assert texts(log) == [body]
    assert [failed.code for failed in only(e.RunFailed, log)] == ["job_invalid"]


async def test_a_job_without_an_owner_is_the_deployments(stage: Stage) -> None:
    stage.plays(answer(said()))

    await worker(stage).take(job(), "m-1")

    assert [shown.owner for shown in await sessions(stage)] == ["robot"]


async def test_a_job_has_ended_when_its_message_is_done(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said())])

    taking = asyncio.create_task(worker(stage).take(job(), "m-1"))
    await gate.reached.wait()
    await settled()
    early = taking.done()
    gate.opened.set()
    await taking

    assert not early
    assert only(e.RunFinished, await logs(stage))


async def test_a_job_goes_on_in_a_session_that_exists(stage: Stage) -> None:
    await stage.create(task_id="of the session", source="web")
    stage.plays(answer(said()))

    await worker(stage).take(job(session_id=REF.id, owner="ann", task_id="of the job"), "m-1")

    [shown] = await sessions(stage)
    assert (shown.id, shown.source, shown.runs) == (REF.id, "web", 1)
    assert {each.task_id for each in await stage.log()} == {"of the job"}


async def test_a_job_for_a_busy_session_waits_for_its_turn(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said("One."))], answer(said("Two.")))
    stage.runner.start(await stage.begin("One?"), stage.agent)
    await gate.reached.wait()

    await worker(stage.another()).take(job("Two?", session_id=REF.id, task_id="ticket-7"), "m-1")
    gate.opened.set()
    await stage.follow_hints()

    log = await stage.log()
    assert texts(log) == ["One?", "Two?"]
    assert [message.task_id for message in only(e.UserMessage, log)] == [None, "ticket-7"]
    assert len(only(e.RunFinished, log)) == 2


async def test_a_job_for_a_session_whose_driver_is_gone_gets_it_driven(stage: Stage) -> None:
    await stage.begin("One?")
    stage.clock.advance(60)
    stage.plays(answer(said("One.")), answer(said("Two.")))

    await worker(stage).take(job("Two?", session_id=REF.id), "m-1")
    await stage.follow_hints()

    assert texts(await stage.log()) == ["One?", "Two?"]
    assert len(only(e.RunFinished, await stage.log())) == 2


async def test_a_job_for_a_session_that_is_driven_here_takes_nothing_over(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said("One."))], answer(said("Two.")))
    stage.runner.start(await stage.begin("One?"), stage.agent)
    await gate.reached.wait()
    stage.clock.moment = stage.clock.now().replace(hour=23)  # this machine slept

    await worker(stage).take(job("Two?", session_id=REF.id), "m-1")
    gate.opened.set()
    await stage.follow_hints()

    assert [claimed.epoch for claimed in only(e.RunClaimed, await stage.log())] == [1, 2]


async def test_a_job_that_ends_badly_is_done_all_the_same(stage: Stage) -> None:
    stage.plays(answer(said(), stop_reason="refusal"))

    await worker(stage).take(job(), "m-1", LAST)

    assert [failed.code for failed in only(e.RunFailed, await logs(stage))] == ["model_refused"]


# Once.


@pytest.mark.parametrize("elsewhere", [False, True])
async def test_the_same_message_twice_is_one_run(stage: Stage, elsewhere: bool) -> None:
    stage.plays(answer(said()))
    await worker(stage).take(job(), "m-1")

    await worker(stage.another() if elsewhere else stage).take(job(), "m-1", 2)

    assert texts(await logs(stage)) == ["Hi"]


async def test_a_message_that_comes_again_while_its_run_is_at_work_changes_nothing(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said())])
    first = asyncio.create_task(worker(stage).take(job(), "m-1"))
    await gate.reached.wait()

    await worker(stage).take(job(), "m-1", 2)
    await worker(stage.another()).take(job(), "m-1", 3)
    gate.opened.set()
    await first

    assert texts(await logs(stage)) == ["Hi"]
    assert len(only(e.RunClaimed, await logs(stage))) == 1


async def test_a_message_whose_worker_died_goes_on_with_its_next_delivery(stage: Stage) -> None:
    stage.table.fail_next("crash_after")
    with pytest.raises(Crash):
        await worker(stage).take(job(), "m-1")
    stage.clock.advance(60)
    other = stage.another().plays(answer(said()))

    await worker(other).take(job(), "m-1", 2)

    log = await logs(stage)
    assert texts(log) == ["Hi"]
    assert len(only(e.RunFinished, log)) == 1


async def test_two_messages_that_say_the_same_are_two_runs(stage: Stage) -> None:
    stage.plays(answer(said()), answer(said()))

    for message_id in ("m-1", "m-2"):
        await worker(stage).take(job(), message_id)

    assert texts(await logs(stage)) == ["Hi", "Hi"]


async def test_two_messages_with_the_same_key_are_one_run(stage: Stage) -> None:
    stage.plays(answer(said()))

    for message_id in ("m-1", "m-2"):
        await worker(stage).take(job(idempotency_key="order-1"), message_id)

    assert texts(await logs(stage)) == ["Hi"]


async def test_the_same_key_with_another_job_is_refused(stage: Stage) -> None:
    stage.plays(answer(said()))
    await worker(stage).take(job(idempotency_key="order-1"), "m-1")

    with pytest.raises(IdempotencyMismatch):
        await worker(stage).take(job("Something else", idempotency_key="order-1"), "m-2")

    assert texts(await logs(stage)) == ["Hi"]


async def test_a_job_that_waits_is_there_once_however_often_its_message_comes(stage: Stage) -> None:
    await stage.begin("One?")

    for receives in (1, 2, LAST):
        await worker(stage).take(job("Two?", session_id=REF.id), "m-1", receives)

    assert [text_of(queued.message.content) for queued in await stage.store.inputs.all(REF)] == ["Two?"]


# Events.


async def test_an_event_of_event_bridge_is_the_job_that_is_its_detail(stage: Stage) -> None:
    stage.plays(answer(said()))
    detail = {"agent_id": "bank", "input": "An order", "owner": "ann"}

    await worker(stage).take(from_event_bridge(detail=detail), "m-1")

    assert [shown.owner for shown in await sessions(stage)] == ["ann"]
    assert texts(await logs(stage)) == ["An order"]


async def test_an_event_that_is_delivered_as_two_messages_is_one_run(stage: Stage) -> None:
    stage.plays(answer(said()), answer(said()))

    for message_id, id in (("m-1", "evt-1"), ("m-2", "evt-1"), ("m-3", "evt-2")):
        await worker(stage).take(from_event_bridge(id), message_id)

    assert texts(await logs(stage)) == ["Hi", "Hi"]


async def test_a_key_in_the_detail_counts_more_than_the_events_id(stage: Stage) -> None:
    stage.plays(answer(said()))
    detail = {"agent_id": "bank", "input": "Hi", "idempotency_key": "order-1"}

    for message_id, id in (("m-1", "evt-1"), ("m-2", "evt-2")):
        await worker(stage).take(from_event_bridge(id, detail=detail), message_id)

    assert texts(await logs(stage)) == ["Hi"]


# Hints.


async def test_a_hint_drives_a_run_whose_driver_is_gone_to_its_end(stage: Stage) -> None:
    await stage.begin()
    stage.clock.advance(60)
    stage.plays(answer(said()))

    await worker(stage).take(hint(), "m-1")

    assert only(e.RunFinished, await stage.log())


async def test_a_hint_gives_a_message_its_turn(stage: Stage) -> None:
    await stage.create()
    await stage.send("Hi")
    stage.plays(answer(said()))

    await worker(stage).take(hint(), "m-1")

    assert only(e.RunFinished, await stage.log())


@pytest.mark.parametrize("state", ["nothing there", "idle", "driven elsewhere", "waits for a person", "deleted"])
async def test_a_hint_that_comes_too_late_changes_nothing(stage: Stage, state: str) -> None:
    match state:
        case "idle":
            await stage.finish()
        case "driven elsewhere":
            await stage.begin()
        case "waits for a person":
            await stage.park()
        case "deleted":
            await stage.begin()
            await stage.store.sessions.delete(REF)
        case _:
            pass
    before = stage.rows()

    await worker(stage.another()).take(hint(), "m-1", LAST)

    assert stage.rows() == before


async def test_a_hint_for_a_run_that_is_driven_here_changes_nothing(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said())])
    stage.runner.start(await stage.begin(), stage.agent)
    await gate.reached.wait()
    stage.clock.moment = stage.clock.now().replace(hour=23)  # this machine slept

    await worker(stage).take(hint(), "m-1")
    gate.opened.set()
    await stage.follow_hints()

    assert len(only(e.RunClaimed, await stage.log())) == 1


async def test_a_hint_that_cannot_be_followed_is_given_up_without_a_session_of_its_own(stage: Stage) -> None:
    """The session that it points at is there to be looked at, and the sweeper gives the hint again every minute."""
    await stage.begin()
    entry = await stage.sqlite.get(REF.entry(1))
    assert entry
    await stage.sqlite.write(Put(entry | {"body": b'\0{"type":"from.the.future"}'}))
    stage.clock.advance(60)
    before = stage.rows()

    with pytest.raises(ParleyError):
        await worker(stage).take(hint(), "m-1", LAST - 1)
    await worker(stage).take(hint(), "m-1", LAST)

    assert stage.rows() == before


# Poison.

DEEP = "[" * 100_000
POISON: dict[str, tuple[str, type[ParleyError]]] = {
    "empty": ("", Invalid),
    "not JSON": (f"{{{CANARY}", Invalid),
    "a number": ("7", Invalid),
    "null": ("null", Invalid),
    "a list": (json.dumps(["hint", CANARY]), Invalid),
    "a string": (json.dumps(f"hint {CANARY}"), Invalid),
    "too deep": (DEEP, Invalid),
    "no fields": ("{}", Invalid),
    "a field too many": (job(CANARY, colour="red"), Invalid),
    "a field of the wrong kind": (job(CANARY, task_id=7), Invalid),
    "not a name of an agent": (job(CANARY, agent_id="The Bank!"), Invalid),
    "not an id of a session": (job(CANARY, session_id="../etc"), Invalid),
    "nothing said": (job(""), Invalid),
    "a blank": (job(" \n\t"), Invalid),
    "half a character": ('{"agent_id": "bank", "input": "\\ud800"}', Invalid),
    "oversized": (job("x" * (MAX_INPUT_BYTES + 1)), Invalid),
    "oversized in bytes": (job("ä" * (MAX_INPUT_BYTES // 2 + 1)), Invalid),
    "no hint": (json.dumps({"hint": {"tenant": "acme"}}), Invalid),
    "an event without a job": (from_event_bridge(detail={"order": CANARY}), Invalid),
    "an event without an id": (json.dumps({"detail-type": "x", "detail": {}}), Invalid),
    "unknown agent": (job(CANARY, agent_id="nobody"), Invalid),
    "unknown session": (job(CANARY, session_id="sesn_9"), NotFound),
    "wrong owner": (job(CANARY, session_id=REF.id, owner="bob"), NotFound),
    "wrong owner of a busy session": (job(CANARY, session_id="sesn_busy", owner="bob"), NotFound),
    "deleted session": (job(CANARY, session_id="sesn_deleted"), NotFound),
    "another agent's session": (job(CANARY, session_id="sesn_other"), Conflict),
    "a session with a full queue": (job(CANARY, session_id="sesn_busy"), Conflict),
}


@pytest.fixture
async def town(stage: Stage) -> Stage:
    """A stage with sessions in every state that a job can be refused for."""
    await stage.create()
    await stage.create(Ref("acme", "sesn_other"), agent_id="other")
    await stage.begin(ref=Ref("acme", "sesn_busy"))
    await stage.send(*map(str, range(MAX_QUEUED)), ref=Ref("acme", "sesn_busy"))
    await stage.create(Ref("acme", "sesn_deleted"))
    await stage.store.sessions.delete(Ref("acme", "sesn_deleted"))
    return stage


@pytest.mark.parametrize("name", POISON)
async def test_what_cannot_be_done_is_refused_and_leaves_nothing_until_its_last_delivery(
    town: Stage, name: str
) -> None:
    body, refusal = POISON[name]
    before = town.rows()

    for receives in range(1, LAST):
        with pytest.raises(refusal):
            await worker(town).take(body, "m-1", receives)

    assert town.rows() == before


@pytest.mark.parametrize("name", POISON)
async def test_what_cannot_be_done_ends_as_one_failed_run_that_people_can_see(
    town: Stage, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    body, refusal = POISON[name]
    caplog.set_level(logging.DEBUG, logger="parley")
    known = {head.id for head in await sessions(town)}

    for _ in range(2):  # a queue may deliver once more than it has said
        with pytest.raises(refusal):
            await worker(town).take(body, "m-1", LAST)

    [failed] = only(e.RunFailed, await logs(town))
    assert "'m-1'" in failed.message
    assert failed.code
    [shown] = [head for head in await sessions(town) if head.id not in known]
    assert (shown.source, shown.phase) == ("queue", "error")
    log = await town.log(Ref("acme", shown.id))
    assert isinstance(log[-1], e.StatusIdle)
    assert CANARY not in caplog.text + failed.message
    assert CANARY not in str([record.__dict__ for record in caplog.records])


@pytest.mark.parametrize("name", POISON)
async def test_what_cannot_be_done_harms_no_session(town: Stage, name: str) -> None:
    body, refusal = POISON[name]
    with pytest.raises(refusal):
        await worker(town).take(body, "m-1", LAST)
    town.plays(answer(said()))

    await worker(town).take(job("Still there?", session_id=REF.id, owner="ann"), "m-2")

    assert texts(await town.log()) == ["Still there?"]
    assert only(e.RunFinished, await town.log())


async def test_a_job_of_an_agent_that_is_not_deployed_fails_where_it_was_to_run(stage: Stage) -> None:
    await stage.create(agent_id="gone")
    body = job("Hi", agent_id="gone", session_id=REF.id, task_id="ticket-7")

    with pytest.raises(Invalid):
        await worker(stage).take(body, "m-1", LAST)

    log = await stage.log()
    [failed] = only(e.RunFailed, log)
    assert failed.code == "agent_not_found"
    assert failed.message == snapshot("The queue's message 'm-1' was given up: There is no agent 'gone'.")
    assert {each.task_id for each in log} == {"ticket-7"}
    assert len(await sessions(stage)) == 1


async def test_a_job_that_is_put_back_after_its_agent_was_deployed_runs(stage: Stage) -> None:
    await stage.create(agent_id="late")
    body = job("Hi", agent_id="late", session_id=REF.id, idempotency_key="order-1")
    with pytest.raises(Invalid):
        await worker(stage).take(body, "m-1", LAST)
    stage.runner.agents = {"late": agent(id="late")}
    stage.plays(answer(said("Now.")))

    await worker(stage).take(body, "m-1 again")

    log = await stage.log()
    assert len(only(e.RunFailed, log)) == len(only(e.RunFinished, log)) == 1


async def test_a_message_that_could_not_be_read_is_shown_as_it_was(stage: Stage) -> None:
    with pytest.raises(Invalid):
        await worker(stage).take("{not JSON", "m-1", LAST)

    [shown] = await sessions(stage)
    assert (shown.agent_id, shown.owner) == ("unknown", "robot")
    assert texts(await logs(stage)) == ["{not JSON"]


async def test_what_was_wrong_is_told_without_quoting_it(stage: Stage) -> None:
    with pytest.raises(Invalid) as caught:
        await worker(stage).take(job(CANARY, task_id=7, colour="red"), "m-1")

    assert caught.value.code == "job_invalid"
    assert caught.value.message == snapshot(
        "task_id: Input should be a valid string; colour: Extra inputs are not permitted"
    )


async def test_what_nobody_has_foreseen_is_shown_with_its_last_delivery_by_name_only(stage: Stage) -> None:
    stage.table.fail_next("crash")
    with pytest.raises(Crash):
        await worker(stage).take(job(CANARY), "m-1", LAST - 1)
    before = stage.rows()
    stage.table.fail_next("crash")

    with pytest.raises(Crash):
        await worker(stage).take(job(CANARY), "m-1", LAST)

    assert before == []
    [failed] = only(e.RunFailed, await logs(stage))
    assert (failed.code, failed.message) == snapshot(("job_failed", "The queue's message 'm-1' was given up: Crash"))


async def test_a_store_that_is_away_is_no_fault_of_the_message(stage: Stage) -> None:
    stage.table.fail_next("lost", times=40)

    with pytest.raises(Unavailable):
        await worker(stage).take(job(), "m-1", LAST)
    stage.table.faults.clear()
    stage.plays(answer(said()))
    await worker(stage).take(job(), "m-1 again")

    assert only(e.RunFinished, await logs(stage))


async def test_a_run_that_was_handed_over_is_a_message_done(stage: Stage) -> None:
    stage.plays(answer(asked("look")))
    stage.runner.deadline.seconds_left = lambda: 0.0

    await worker(stage).take(job(), "m-1")

    [shown] = await sessions(stage)
    assert stage.queue.hints == [Ref("acme", shown.id)]
    assert shown.phase == "rescheduling"


@pytest.mark.parametrize("fault", ["crash", "crash_after"])
@pytest.mark.parametrize("turn", [1, 2])
async def test_a_job_that_was_given_up_never_runs_even_if_its_worker_dies_over_it(
    stage: Stage, fault: Fault, turn: int
) -> None:
    stage.plays(answer(asked("pay")), answer(said("Paid")))
    stage.table.faults[len(stage.table.writes) + turn] = fault

    with suppress(Exception):
        await worker(stage).take(job("Pay 5", session_id="sesn_gone"), "m-1", LAST)
    stage.clock.advance(60)
    await stage.sweeper.sweep()
    await settled()

    assert stage.tools.names == []
    assert not only(e.RunFinished, await logs(stage))
    assert {failed.code for failed in only(e.RunFailed, await logs(stage))} <= {"session_not_found"}


async def test_a_job_that_an_earlier_delivery_stored_is_not_shown_as_failed(stage: Stage) -> None:
    gate = Gate()
    stage.plays([gate, *answer(said())])
    first = asyncio.create_task(worker(stage).take(job("Once?"), "m-1", LAST - 1))
    await gate.reached.wait()
    [head] = await sessions(stage)
    entry = await stage.sqlite.get(Ref("acme", head.id).entry(1))
    assert entry
    await stage.sqlite.write(Put(entry | {"body": b'\0{"type":"from.the.future"}'}))
    stage.clock.advance(60)

    await worker(stage.another()).take(job("Once?"), "m-1", LAST)

    assert [each.id for each in await sessions(stage)] == [head.id]
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


async def test_a_message_that_is_both_a_hint_and_a_job_is_neither(stage: Stage) -> None:
    body = json.dumps(json.loads(hint()) | json.loads(job()))

    with pytest.raises(ParleyError):
        await worker(stage).take(body, "m-1", 1)
