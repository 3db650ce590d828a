"""Saying something to a session that is busy, over HTTP: stop, steer, queue, and second thoughts."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from anthropic.types.beta.sessions import BetaManagedAgentsSendSessionEvents
from parley.adapters.sqlite import SqliteTable
from parley.core import control as c
from parley.core import event as e
from parley.core.compose import user_message
from parley.core.scribe import Scribe
from parley.core.value import text_of
from parley.store import Ref
from pydantic import TypeAdapter

from tests.build import Stage, answer, asked, only, said, types
from tests.fakes.gate import Gate
from tests.integration.test_http import EXECUTE, SLOT, Server, frames, idle, refused
from tests.integration.test_stream import UnhurriedClock, eventually, messages, path_of, send, serve

pytestmark = pytest.mark.anyio

SENT: TypeAdapter[Any] = TypeAdapter(BetaManagedAgentsSendSessionEvents)
STOP: dict[str, Any] = {"type": "user.interrupt"}


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    clock, path = UnhurriedClock(), tmp_path / "stage.db"
    async with SqliteTable(path, clock) as sqlite:
        made = Stage(path, sqlite, clock)
        yield made
        for each in (made, *made.others):
            await each.runner.close(grace_seconds=0)
            assert each.model.problems == []


@pytest.fixture
async def server(stage: Stage) -> AsyncIterator[Server]:
    made = serve(stage)
    assert made.state.queue
    stage.runner.queue = made.state.queue  # what a run's end hints at is done here, as on a laptop
    async with made.http:
        yield made


@pytest.fixture
async def other(stage: Stage) -> AsyncIterator[Server]:
    """Another process over the same table."""
    made = serve(stage.another())
    async with made.http:
        yield made


class Busy:
    """A session whose run stands before a gate, in the middle of its answer."""

    def __init__(self, server: Server, *later: Any) -> None:
        self.server, self.gate = server, Gate()
        stream = answer(said("Half", " an answer"))
        server.stage.plays([*stream[:3], self.gate, *stream[3:]], *later)

    async def begin(self) -> "Busy":
        self.first = asyncio.create_task(self.server.http.post(EXECUTE, json={"input": "First"}))
        await self.gate.reached.wait()
        listed = (await self.server.http.get("/v1/sessions")).json()["data"]
        self.id = str(listed[0]["id"])
        [run] = (await self.server.http.get(f"/v1/sessions/{self.id}/runs")).json()["data"]
        self.run_id, self.path = str(run["id"]), f"/v1/sessions/{self.id}"
        return self

    def execute(self, text: str, on_busy: str, **options: Any) -> "asyncio.Task[httpx.Response]":
        """Send a message in the background: its stream may wait."""
        body = {"input": text, "session_id": self.id, "stream": options.pop("stream", True)}
        return asyncio.create_task(
            self.server.http.post(EXECUTE, json=body, params={"on_busy": on_busy}, headers=options.pop("headers", {}))
        )

    async def queued(self) -> list[dict[str, Any]]:
        rows = (await self.server.http.get(f"{self.path}/events", params={"limit": 100})).json()["data"]
        return [row for row in rows if "seq" not in row]

    async def waits(self, count: int = 1) -> None:
        """Let so many messages have begun to wait."""

        async def enough() -> bool:
            return len(await self.queued()) == count

        await eventually(enough)

    async def heard(self) -> list[str]:
        """Tell which messages are in the log."""
        log = await self.server.stage.log(Ref("acme", self.id))
        return [text_of(message.content) for message in only(e.UserMessage, log)]


async def ended(server: Server, busy: Busy, runs: int) -> list[e.Event]:
    return await server.stage.ended(Ref("acme", busy.id), runs)


# Stop.


async def test_an_interrupt_ends_the_run_keeps_its_words_and_is_answered_as_the_sdk_has_it(server: Server) -> None:
    busy = await Busy(server).begin()

    response = await server.http.post(f"{busy.path}/events", json={"events": [STOP]})
    told = frames(await busy.first)

    SENT.validate_python(response.json(), strict=False)
    [sent] = response.json()["data"]
    assert (sent["type"], sent["run_id"], sent["requested_by"]) == ("user.interrupt", busy.run_id, "ann")
    assert sent["seq"] > 0
    complete = told[-1]
    assert complete.name == "complete"
    assert (complete.data["status"], complete.data["stop_reason"], complete.data["output"]) == (
        "interrupted",
        "interrupted",
        "Half",
    )
    run = (await server.http.get(f"{busy.path}/runs/{busy.run_id}")).json()
    assert (run["status"], run["stop_reason"]) == ("interrupted", "interrupted")
    session = (await server.http.get(busy.path)).json()
    assert (session["status"], session["run_status"]) == ("idle", "interrupted")


async def test_a_run_in_another_process_is_stopped_over_the_table(server: Server, other: Server) -> None:
    server.stage.runner.look_seconds = 0.01
    busy = await Busy(server).begin()

    response = await other.http.post(f"{busy.path}/runs/{busy.run_id}/cancel")
    told = frames(await busy.first)

    assert response.status_code == 200
    assert told[-1].data["status"] == "interrupted"


async def test_a_run_is_stopped_by_its_id_once_and_again_without_harm(server: Server) -> None:
    busy = await Busy(server).begin()
    path = f"{busy.path}/runs/{busy.run_id}/cancel"

    first, twin = [await server.http.post(path, headers=SLOT) for _ in range(2)]
    await busy.first
    again = await server.http.post(path)

    assert [response.status_code for response in (first, twin, again)] == [200, 200, 200]
    assert twin.headers["idempotent-replayed"] == "true"
    assert first.json()["id"] == busy.run_id
    assert again.json()["status"] == "interrupted"
    assert len(only(c.UserInterrupt, await ended(server, busy, 1))) == 1


async def test_a_run_that_has_ended_by_itself_can_not_be_stopped(server: Server) -> None:
    server.stage.plays(answer())
    told = await server.run()

    response = await server.http.post(f"/v1/sessions/{told['session_id']}/runs/{told['run_id']}/cancel")

    assert "completed" in refused(response, 409, "run_ended")["detail"]


async def test_an_unknown_run_or_session_can_not_be_stopped(server: Server) -> None:
    server.stage.plays(answer())
    told = await server.run()

    refused(await server.http.post(f"/v1/sessions/{told['session_id']}/runs/run_none/cancel"), 404, "run_not_found")
    refused(await server.http.post("/v1/sessions/sesn_none/runs/run_none/cancel"), 404, "session_not_found")
    async with server.as_("acme", "bob") as bob:
        path = f"/v1/sessions/{told['session_id']}/runs/{told['run_id']}/cancel"
        refused(await bob.post(path), 404, "session_not_found")


async def test_a_run_that_waits_for_a_person_is_stopped_too(server: Server) -> None:
    session_id, call_id = await server.parked()
    [run] = (await server.http.get(f"/v1/sessions/{session_id}/runs")).json()["data"]

    response = await server.http.post(f"/v1/sessions/{session_id}/runs/{run['id']}/cancel")

    assert response.status_code == 200

    async def closed() -> bool:
        log = await server.stage.log(Ref("acme", session_id))
        return bool(only(c.RunCancelled, log)) and isinstance(log[-1], e.StatusIdle)

    await eventually(closed)
    log = await server.stage.log(Ref("acme", session_id))
    assert [result.tool_use_id for result in only(e.AgentToolResult, log)] == [call_id]


async def test_an_interrupt_of_a_session_where_nothing_runs_is_kept_and_changes_nothing(server: Server) -> None:
    server.stage.plays(answer(), answer(said("Still here.")))
    told = await server.run()

    response = await server.http.post(path_of(told["session_id"]), json={"events": [STOP]})
    again = await server.run("And now?", session_id=told["session_id"])

    assert response.json()["data"][0]["run_id"] is None
    assert (again["status"], again["output"]) == ("completed", "Still here.")
    assert types(await idle(server, told["session_id"])).count("user.interrupt") == 1


async def test_an_interrupt_and_messages_in_one_request_are_stored_together(server: Server) -> None:
    busy = await Busy(server, answer(said("Second.")), answer(said("Third."))).begin()
    body = {"events": [STOP, *messages("Second", "Third")["events"]]}

    first, twin = [await server.http.post(f"{busy.path}/events", json=body, headers=SLOT) for _ in range(2)]
    log = await ended(server, busy, 3)

    SENT.validate_python(first.json(), strict=False)
    assert [event["type"] for event in first.json()["data"]] == ["user.interrupt", "user.message", "user.message"]
    assert twin.json() == first.json()
    assert twin.headers["idempotent-replayed"] == "true"
    assert types(log).count("user.interrupt") == types(log).count("run.cancelled") == 1
    assert await busy.heard() == ["First", "Second", "Third"]
    assert [text_of(message.content) for message in only(e.AgentMessage, log)] == ["Half", "Second.", "Third."]


async def test_too_many_messages_with_an_interrupt_stop_nothing(server: Server) -> None:
    busy = await Busy(server).begin()
    assert (await send(server, busy.id, *("x" * 32))).status_code == 200
    before = server.stage.rows()

    response = await server.http.post(f"{busy.path}/events", json={"events": [STOP, *messages("More")["events"]]})

    refused(response, 409, "queue_full")
    assert server.stage.rows() == before


# What becomes of events that are sent to a busy session.


async def test_a_steered_message_joins_the_run_and_is_read_with_the_next_request(server: Server) -> None:
    busy = await Busy(server, answer(said("In euros."))).begin()

    first, twin = [
        await send(server, busy.id, "And in euros", params={"on_busy": "steer"}, headers=SLOT) for _ in range(2)
    ]
    busy.gate.opened.set()
    told = frames(await busy.first)

    SENT.validate_python(first.json(), strict=False)
    [sent] = first.json()["data"]
    assert (sent["run_id"], sent["type"]) == (busy.run_id, "user.message")
    assert sent["seq"]
    assert sent["processed_at"]
    assert twin.json() == first.json()
    assert told[-1].data["output"] == "In euros."
    assert await busy.heard() == ["First", "And in euros"]
    assert [each["role"] for each in server.stage.model.messages] == ["user", "assistant", "user"]


async def test_a_message_that_finds_nothing_to_steer_begins_a_run(server: Server) -> None:
    server.stage.plays(answer(), answer(said("Second.")))
    told = await server.run()

    response = await send(server, told["session_id"], "Second", params={"on_busy": "steer"})

    assert "seq" not in response.json()["data"][0]
    assert len(only(e.RunStarted, await server.stage.ended(Ref("acme", told["session_id"]), 2))) == 2


async def test_messages_that_interrupt_stop_the_run_and_begin_next(server: Server) -> None:
    busy = await Busy(server, answer(said("Second."))).begin()

    response = await send(server, busy.id, "Second", params={"on_busy": "interrupt"})
    log = await ended(server, busy, 2)

    assert [event["type"] for event in response.json()["data"]] == ["user.interrupt", "user.message"]
    assert [status for status in types(log) if status in ("run.cancelled", "run.finished")] == [
        "run.cancelled",
        "run.finished",
    ]


async def test_messages_that_interrupt_nothing_store_no_interrupt(server: Server) -> None:
    server.stage.plays(answer(), answer())
    told = await server.run()

    response = await send(server, told["session_id"], "Second", params={"on_busy": "interrupt"})

    assert [event["type"] for event in response.json()["data"]] == ["user.message"]
    assert not only(c.UserInterrupt, await server.stage.ended(Ref("acme", told["session_id"]), 2))


async def test_a_busy_session_refuses_who_wants_to_be_refused(server: Server) -> None:
    busy = await Busy(server, answer(), answer()).begin()
    reject = {"on_busy": "reject"}

    refused(await send(server, busy.id, "Second", params=reject, headers=SLOT), 409, "session_busy")
    await server.stage.store.inputs.put(Ref("acme", busy.id), await _message(server, "Third"))
    busy.gate.opened.set()
    await busy.first
    await ended(server, busy, 2)
    free = await send(server, busy.id, "Fourth", params=reject, headers=SLOT)

    assert free.status_code == 200
    await ended(server, busy, 3)
    assert await busy.heard() == ["First", "Third", "Fourth"]


async def test_a_session_where_messages_wait_is_busy(server: Server) -> None:
    busy = await Busy(server).begin()
    server.stage.runner.closing = True  # its hints are for others now
    await server.stage.store.inputs.put(Ref("acme", busy.id), await _message(server, "Second"))
    busy.gate.opened.set()
    await busy.first

    response = await send(server, busy.id, "Third", params={"on_busy": "reject"})

    assert "wait" in refused(response, 409, "session_busy")["detail"]


async def test_a_suspended_session_refuses_who_would_rather_be_refused_than_wait(server: Server) -> None:
    session_id = (await server.http.post("/v1/sessions", json={"agent": "bank"})).json()["id"]
    await server.http.post(f"/v1/sessions/{session_id}/suspend")

    response = await send(server, session_id, "Hi", params={"on_busy": "reject"})

    refused(response, 409, "session_suspended")
    assert await server.stage.store.inputs.all(Ref("acme", session_id)) == []


async def _message(server: Server, text: str) -> list[e.UserMessage]:
    return [user_message(Scribe(server.stage.ids.new, server.stage.clock.now, None), text)]


# What becomes of a message that is executed in a busy session.


async def test_who_executes_and_queues_gets_heartbeats_and_then_its_own_run_from_its_first_frame(
    server: Server,
) -> None:
    busy = await Busy(server, answer(said("Second."))).begin()

    waiting = busy.execute("Second", "queue", headers=SLOT)
    await busy.waits()
    busy.gate.opened.set()
    response, twin = await waiting, await busy.execute("Second", "queue", headers=SLOT)

    own = [event for event in await ended(server, busy, 2) if event.run_id not in (None, busy.run_id)]
    told = frames(response)
    assert ": hb" in response.text
    assert "content-location" not in response.headers
    assert response.headers["location"] == busy.path
    assert {frame.data["run_id"] for frame in told} == {own[0].run_id}
    assert (told[-1].name, told[-1].data["output"]) == ("complete", "Second.")
    assert twin.headers["idempotent-replayed"] == "true"
    assert twin.headers["content-location"] == f"{busy.path}/runs/{own[0].run_id}"
    assert frames(twin)[-1].data == told[-1].data
    assert await busy.heard() == ["First", "Second"]


async def test_the_frames_of_a_run_that_was_waited_for_are_all_of_its_log(server: Server) -> None:
    busy = await Busy(server, answer(said("Second."))).begin()
    body = {"input": "Second", "session_id": busy.id}

    waiting = asyncio.create_task(server.http.post(EXECUTE, json=body, params={"on_busy": "queue", "vocab": "native"}))
    await busy.waits()
    busy.gate.opened.set()
    told = frames(await waiting)

    own = [event for event in await ended(server, busy, 2) if event.run_id not in (None, busy.run_id)]
    assert [frame.id for frame in told if frame.id] == [event.seq for event in own]


async def test_the_same_request_while_its_message_waits_waits_with_it(server: Server) -> None:
    busy = await Busy(server, answer(said("Second."))).begin()

    first = busy.execute("Second", "queue", headers=SLOT)
    await busy.waits()
    second = busy.execute("Second", "queue", headers=SLOT)
    await asyncio.sleep(0.02)
    busy.gate.opened.set()

    told = [frames(response)[-1].data for response in (await first, await second)]
    assert told[0] == told[1]
    assert await busy.heard() == ["First", "Second"]


async def test_who_queues_and_wants_one_answer_is_told_that_it_waits(server: Server) -> None:
    busy = await Busy(server, answer(said("Second."))).begin()

    response = await busy.execute("Second", "queue", stream=False, headers=SLOT)
    busy.gate.opened.set()
    await ended(server, busy, 2)
    later = await busy.execute("Second", "queue", stream=False, headers=SLOT)

    assert (response.status_code, later.status_code) == (202, 200)
    assert (response.json()["session_id"], response.json()["status"]) == (busy.id, "running")
    assert "run_id" not in response.json()
    assert "content-location" not in response.headers
    assert later.json()["output"] == "Second."


async def test_a_message_that_is_executed_does_not_overtake_those_that_wait(server: Server) -> None:
    busy = await Busy(server, answer(said("Second.")), answer(said("Third."))).begin()
    server.stage.runner.closing = True  # its hints are for others now
    await send(server, busy.id, "Second")
    busy.gate.opened.set()
    await busy.first

    server.stage.runner.closing = False
    told = frames(await busy.execute("Third", "queue"))

    assert await busy.heard() == ["First", "Second", "Third"]
    assert told[-1].data["output"] == "Third."


@pytest.mark.parametrize("on_busy", ["queue", "steer", "interrupt"])
async def test_a_session_where_nothing_runs_takes_a_message_whatever_was_to_happen(
    server: Server, on_busy: str
) -> None:
    server.stage.plays(answer(), answer(said("Second.")))
    told = await server.run()

    response = await server.http.post(
        EXECUTE, json={"input": "Second", "session_id": told["session_id"]}, params={"on_busy": on_busy}
    )

    assert response.headers["content-location"]
    assert frames(response)[-1].data["output"] == "Second."
    assert not only(c.UserInterrupt, await idle(server, told["session_id"]))


async def test_who_executes_and_steers_follows_the_open_run_from_there(server: Server) -> None:
    busy = await Busy(server, answer(said("In euros."), tokens=(7, 3))).begin()

    steered = busy.execute("And in euros", "steer", headers=SLOT)

    async def joined() -> bool:
        return len(await busy.heard()) == 2

    await eventually(joined)
    busy.gate.opened.set()
    response, first, twin = await steered, await busy.first, await busy.execute("And in euros", "steer", headers=SLOT)

    told = frames(response)
    assert response.headers["content-location"] == f"{busy.path}/runs/{busy.run_id}"
    assert told[-1].data == frames(first)[-1].data == frames(twin)[-1].data
    assert told[-1].data["output"] == "In euros."
    assert twin.headers["idempotent-replayed"] == "true"
    assert await busy.heard() == ["First", "And in euros"]
    assert min(frame.id for frame in told if frame.id) > 5


async def test_who_steers_a_run_that_waits_for_a_person_and_wants_one_answer_is_told_so_at_once(server: Server) -> None:
    session_id, call_id = await server.parked()
    body = {"input": "And in euros", "session_id": session_id, "stream": False}

    async with asyncio.timeout(5):
        first, twin = [
            await server.http.post(EXECUTE, json=body, params={"on_busy": "steer"}, headers=SLOT) for _ in range(2)
        ]

    told = first.json()
    assert (first.status_code, told["status"]) == (200, "waiting_approval")
    assert told["pending_tool_call_ids"] == [call_id]
    assert [each["content"][0]["text"] for each in told["messages"]] == ["And in euros"]
    assert twin.json() == told


async def test_who_executes_and_interrupts_stops_the_run_and_is_next(server: Server) -> None:
    busy = await Busy(server, answer(said("Second."))).begin()

    response = await busy.execute("Second", "interrupt", headers=SLOT)
    twin = await busy.execute("Second", "interrupt", headers=SLOT)

    assert frames(await busy.first)[-1].data["status"] == "interrupted"
    assert frames(response)[-1].data == frames(twin)[-1].data
    assert frames(response)[-1].data["output"] == "Second."
    assert len(only(c.UserInterrupt, await ended(server, busy, 2))) == 1


async def test_a_busy_session_refuses_what_is_executed_unless_told_otherwise(server: Server) -> None:
    busy = await Busy(server).begin()

    response = await server.http.post(EXECUTE, json={"input": "Second", "session_id": busy.id})

    refused(response, 409, "session_busy")


async def test_a_message_for_another_agents_session_does_not_wait(server: Server) -> None:
    busy = await Busy(server, answer()).begin()
    head = await server.stage.store.sessions.head(Ref("acme", busy.id))
    others = await server.stage.create(Ref("acme", "sesn_other"), agent_id="other")
    await server.stage.store.inputs.put(others, await _message(server, "Hi"))

    response = await server.http.post(
        EXECUTE, json={"input": "Second", "session_id": others.id}, params={"on_busy": "queue"}
    )

    refused(response, 409, "other_agent")
    assert head.agent_id == "bank"


async def test_who_waits_for_a_message_that_is_removed_is_told(server: Server) -> None:
    busy = await Busy(server).begin()
    waiting = busy.execute("Second", "queue", headers=SLOT)
    await busy.waits()
    [queued] = await busy.queued()

    removed = await server.http.delete(f"{busy.path}/events/{queued['id']}")
    told = frames(await waiting)
    twin = await busy.execute("Second", "queue", headers=SLOT)

    assert removed.json() == {"id": queued["id"], "type": "event_removed"}
    assert [(frame.name, frame.data["code"]) for frame in told] == [("error", "message_removed")]
    refused(twin, 410, "message_removed")


async def test_who_waits_in_a_session_that_is_deleted_is_told(server: Server) -> None:
    busy = await Busy(server).begin()
    waiting = busy.execute("Second", "queue")
    await busy.waits()

    await server.http.delete(busy.path)

    assert frames(await waiting)[-1].data["code"] == "session_deleted"


# Second thoughts.


async def test_a_message_that_waits_is_edited_and_removed(server: Server) -> None:
    busy = await Busy(server, answer(said("Better."))).begin()
    first, second = (await send(server, busy.id, "Worse", "Never", headers={"x-task-id": "t"})).json()["data"]
    content = [{"type": "text", "text": "Better"}]

    edited, twin = [
        await server.http.post(f"{busy.path}/events/{first['id']}", json={"content": content}, headers=SLOT)
        for _ in range(2)
    ]
    removed = await server.http.delete(f"{busy.path}/events/{second['id']}")
    waiting = await busy.queued()
    busy.gate.opened.set()
    await ended(server, busy, 2)

    assert edited.json() == first | {"content": content}
    assert twin.json() == edited.json()
    assert twin.headers["idempotent-replayed"] == "true"
    assert removed.json() == {"id": second["id"], "type": "event_removed"}
    assert [row["content"] for row in waiting] == [content]
    assert await busy.heard() == ["First", "Better"]


async def test_what_does_not_wait_can_not_be_changed(server: Server) -> None:
    server.stage.plays(answer())
    told = await server.run()
    log = await idle(server, told["session_id"])
    body = {"content": [{"type": "text", "text": "Other"}]}

    for event_id, status, code in ((log[0].id, 409, "event_stored"), ("sevt_none", 404, "event_not_found")):
        path = f"{path_of(told['session_id'])}/{event_id}"
        refused(await server.http.post(path, json=body), status, code)
        refused(await server.http.delete(path), status, code)
    path = f"{path_of(told['session_id'])}/{log[0].id}"
    refused(await server.http.post(path, json={"content": []}), 422, "invalid_input")
    large = {"content": [{"type": "text", "text": "x" * 1_000_001}]}
    refused(await server.http.post(path, json=large), 413, "too_large")


async def test_somebody_elses_message_looks_like_none(server: Server) -> None:
    busy = await Busy(server).begin()
    [sent] = (await send(server, busy.id, "Second")).json()["data"]
    body = {"content": [{"type": "text", "text": "Other"}]}

    for tenant, owner in (("acme", "bob"), ("evil", "ann")):
        async with server.as_(tenant, owner) as stranger:
            path = f"{busy.path}/events/{sent['id']}"
            refused(await stranger.post(path, json=body), 404, "session_not_found")
            refused(await stranger.delete(path), 404, "session_not_found")

    assert [row["id"] for row in await busy.queued()] == [sent["id"]]


async def test_an_interrupt_during_tools_lets_them_end(server: Server) -> None:
    gate = Gate()
    server.stage.plays(answer(asked("pay", {"amount": 5})), pay=gate.tool)
    first = asyncio.create_task(server.http.post(EXECUTE, json={"input": "Pay"}))
    await gate.reached.wait()
    [session] = (await server.http.get("/v1/sessions")).json()["data"]

    await server.http.post(path_of(session["id"]), json={"events": [STOP]})
    gate.opened.set()
    told = frames(await first)

    assert [frame.name for frame in told][-2:] == ["tool_result", "complete"]
    assert told[-2].data["output"] == "done"
    assert told[-1].data["status"] == "interrupted"
