"""Following a session and sending to it, over HTTP: the production routers and store on SQLite, time that skips.

A stream here ends by itself, with the session or by plan: its minutes pass as fast as it looks.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from anthropic.types.beta.sessions import BetaManagedAgentsSendSessionEvents, BetaManagedAgentsStreamSessionEvents
from parley import dev
from parley.adapters.inline import InlineQueue
from parley.adapters.sqlite import SqliteTable
from parley.core import event as e
from parley.core.delta import DraftGrew
from parley.core.value import text_of
from parley.settings import load
from parley.state import Principal, State
from parley.store import Ref, Store
from pydantic import TypeAdapter

from tests.build import Stage, answer, asked, said, thought, types
from tests.fakes.clock import VirtualClock
from tests.fakes.gate import Gate
from tests.fakes.watched_table import Read, WatchedTable
from tests.integration.test_http import SLOT, Frame, Server, client, frames, idle, refused

pytestmark = pytest.mark.anyio

SDK_STREAM: TypeAdapter[Any] = TypeAdapter(BetaManagedAgentsStreamSessionEvents)
OURS = ("run.", "tool.", "draft.", "stream.")


class UnhurriedClock(VirtualClock):
    """Time that skips, but not so fast that a minute is over before anything could happen in it."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await asyncio.sleep(0.001)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    clock, path = UnhurriedClock(), tmp_path / "stage.db"
    async with SqliteTable(path, clock) as sqlite:
        made = Stage(path, sqlite, clock)
        yield made
        for each in (made, *made.others):
            await each.runner.close(grace_seconds=0)
            assert each.model.problems == []


def serve(stage: Stage, store: Store | None = None) -> Server:
    """Make the app of one process."""
    queue = InlineQueue(lambda tenant, session_id: stage.runner.nudge(Ref(tenant, session_id)))
    state = State(store or stage.store, {"bank": stage.agent}, Principal("acme", "ann"), stage.runner, queue)
    app = dev.app(load({}), state)
    return Server(stage, state, app, client(app))


@pytest.fixture
async def server(stage: Stage) -> AsyncIterator[Server]:
    made = serve(stage)
    async with made.http:
        yield made


@pytest.fixture
async def other(stage: Stage) -> AsyncIterator[Server]:
    """Another process over the same table."""
    made = serve(stage.another())
    async with made.http:
        yield made


async def created(server: Server) -> str:
    response = await server.http.post("/v1/sessions", json={"agent": "bank"})
    assert response.status_code == 200
    return str(response.json()["id"])


async def talked(server: Server) -> str:
    """Make a session with a run that paid something."""
    server.stage.plays(answer(said("I pay."), asked("pay", {"amount": 5})), answer(said("Paid.")))
    return str((await server.run("Pay 5"))["session_id"])


def path_of(session_id: str) -> str:
    return f"/v1/sessions/{session_id}/events"


async def followed(server: Server, session_id: str, *, headers: Any = None, **params: Any) -> httpx.Response:
    """Read a stream to its end."""
    return await server.http.get(f"{path_of(session_id)}/stream", params=params, headers=headers or {})


def messages(*texts: str) -> dict[str, Any]:
    """Write the body that sends messages."""
    return {"events": [{"type": "user.message", "content": [{"type": "text", "text": text}]} for text in texts]}


async def send(server: Server, session_id: str, *texts: str, **options: Any) -> httpx.Response:
    return await server.http.post(path_of(session_id), json=messages(*texts), **options)


def texts_of(rows: list[Any]) -> list[str]:
    return [row["content"][0]["text"] for row in rows]


async def eventually(holds: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(5):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.002)


def ids(found: list[Frame]) -> list[int]:
    return [frame.id for frame in found if frame.id is not None]


# Stored events.


async def test_from_its_start_a_stream_is_the_log(server: Server) -> None:
    session_id = await talked(server)
    log = await idle(server, session_id)

    response = await followed(server, session_id, **{"from": "start", "until": "idle"})

    told = frames(response)
    assert [(frame.id, frame.name, frame.data["id"]) for frame in told] == [(x.seq, x.type, x.id) for x in log]
    for frame in told:
        if not frame.name.startswith(OURS):
            SDK_STREAM.validate_json(json.dumps(frame.data), strict=True)


async def test_a_stream_begins_with_how_soon_to_come_back_and_is_kept_by_nobody(server: Server) -> None:
    response = await followed(server, await talked(server), **{"from": "start", "until": "idle"})

    assert response.text.startswith("retry: 1000\n\nid: 1\nevent: user.message\ndata: {")
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in response.headers


async def test_without_a_cursor_a_stream_tells_what_comes_and_not_what_was(server: Server, other: Server) -> None:
    session_id = await talked(server)
    before = len(await idle(server, session_id))
    server.stage.plays(answer(said("Again.")))
    following = asyncio.create_task(followed(other, session_id, until="idle"))
    await passed(server.stage, 1)

    await server.run("Again", session_id=session_id)
    told = frames(await following)

    log = await idle(server, session_id)
    assert ids(told) == [event.seq for event in log[before:]]


async def test_a_stream_goes_on_behind_any_cursor(server: Server) -> None:
    session_id = await talked(server)
    seqs = [event.seq for event in await idle(server, session_id)]

    for cursor in range(len(seqs) + 1):
        after = frames(await followed(server, session_id, after=cursor, until="idle"))
        header = await followed(server, session_id, headers={"last-event-id": str(cursor)}, until="idle")

        assert ids(after) == ids(frames(header)) == seqs[cursor:]


async def test_a_client_that_reconnects_knows_better_than_its_address(server: Server) -> None:
    session_id = await talked(server)
    options = {"after": 2, "from": "start", "until": "idle"}

    told = frames(await followed(server, session_id, headers={"last-event-id": "5"}, **options))
    empty = frames(await followed(server, session_id, headers={"last-event-id": ""}, **options))

    assert (ids(told)[0], ids(empty)[0]) == (6, 3)


@pytest.mark.parametrize("cursor", ["abc", "-1", "1.5", "0x2", "+3", "²", "9" * 13, "9" * 5000, "1 2"])
async def test_a_cursor_that_is_none_is_malformed(server: Server, cursor: str) -> None:
    session_id = await talked(server)

    refused(await followed(server, session_id, after=cursor), 400, "malformed")
    response = await server.http.get(f"{path_of(session_id)}/stream", headers=[(b"last-event-id", cursor.encode())])
    refused(response, 400, "malformed")


async def test_a_cursor_beyond_the_end_is_another_sessions(server: Server) -> None:
    session_id = await talked(server)
    end = len(await idle(server, session_id))

    problem = refused(await followed(server, session_id, after=end + 1), 400, "malformed")
    at_the_end = frames(await followed(server, session_id, after=end, until="idle"))

    assert str(end) in problem["detail"]
    assert at_the_end == []


@pytest.mark.parametrize(
    "params", [{"vocab": "klingon"}, {"until": "never"}, {"from": "middle"}, {"event_deltas[]": "agent.tool_use"}]
)
async def test_an_unknown_option_is_refused(server: Server, params: dict[str, str]) -> None:
    refused(await followed(server, await talked(server), **params), 422, "invalid_input")


@pytest.mark.parametrize("session_id", ["sesn_9", "x" * 2000, "a.b", "%00"])
async def test_an_unknown_session_is_not_found(server: Server, session_id: str) -> None:
    refused(await followed(server, session_id), 404, "session_not_found")
    refused(await send(server, session_id, "Hi"), 404, "session_not_found")


async def test_somebody_elses_session_and_a_deleted_one_are_not_found(server: Server) -> None:
    session_id = await talked(server)
    before = server.stage.rows()

    for caller in (server.as_("acme", "bob"), server.as_("other", "ann")):
        refused(await caller.get(f"{path_of(session_id)}/stream"), 404, "session_not_found")
        refused(await caller.post(path_of(session_id), json=messages("Hi"), headers=SLOT), 404, "session_not_found")
    assert server.stage.rows() == before
    await server.http.delete(f"/v1/sessions/{session_id}")

    refused(await followed(server, session_id), 404, "session_not_found")
    refused(await send(server, session_id, "Hi"), 404, "session_not_found")


async def test_an_admin_may_follow_and_send_to_what_is_somebody_elses(server: Server) -> None:
    session_id = await talked(server)
    server.stage.plays(answer(said("Again.")))
    boss = client(dev.app(load({}), replace(server.state, principal=Principal("acme", "boss", admin=True))))

    sent = await boss.post(path_of(session_id), json=messages("Hi"))
    told = await boss.get(f"{path_of(session_id)}/stream", params={"from": "start", "until": "idle"})

    assert sent.status_code == 200
    assert texts_of([frame.data for frame in frames(told) if frame.name == "user.message"]) == ["Pay 5", "Hi"]


# The end of a stream.


async def test_a_stream_of_a_session_where_nothing_runs_ends_by_plan(server: Server) -> None:
    session_id = await talked(server)
    end = len(await idle(server, session_id))

    [rotate] = frames(await followed(server, session_id))

    assert (rotate.id, rotate.name) == (None, "stream.rotate")
    assert rotate.data == {"type": "stream.rotate", "after": end, "reason": "idle"}


async def test_a_stream_of_a_run_gives_signs_of_life_for_fourteen_minutes(server: Server) -> None:
    claim = await server.stage.begin()

    response = await followed(server, claim.ref.id, after=4)

    [rotate] = frames(response)
    assert rotate.data["reason"] == "deadline"
    assert 75 <= response.text.count(": hb\n\n") <= 84


async def test_drafts_that_nobody_asked_for_are_no_sign_of_life(server: Server) -> None:
    stage = server.stage
    claim = await stage.begin()

    async def talk() -> None:
        for n in range(1, 10_000):
            piece = DraftGrew("m", "agent.message", "x" * n)
            await stage.store.drafts.write(claim.ref, claim.epoch, 1, [piece], claim.session.seq)
            await asyncio.sleep(0)

    talking = asyncio.create_task(talk())
    response = await followed(server, claim.ref.id, after=4, **{"event_deltas[]": "agent.thinking"})
    talking.cancel()

    assert [frame.name for frame in frames(response)] == ["stream.rotate"]
    assert 60 <= response.text.count(": hb\n\n") <= 84


async def test_a_run_that_ends_while_its_stream_begins_does_not_keep_it_open(stage: Stage) -> None:
    stage.plays(answer(said()))
    claim = await stage.begin()
    table = WatchedTable(stage.sqlite)
    ended: list[Read] = []

    async def end(read: Read) -> None:
        if len(table.reads) == 2:  # the lock was read, and not yet the end of the log, or the other way round
            ended.append(read)
            await stage.drive(claim)

    table.before_read = end
    async with serve(stage, Store.over(table, stage.blobs, stage.clock, stage.ids)).http as http:
        response = await http.get(f"{path_of(claim.ref.id)}/stream", params={"until": "idle"})

    assert {read.first[:2] for read in table.reads[:2]} == {"L", "E#"}
    assert ended
    assert [frame.name for frame in frames(response)][-1] == "session.status_idle"


async def test_a_stream_ends_when_its_session_is_deleted(server: Server) -> None:
    claim = await server.stage.begin()
    following = asyncio.create_task(followed(server, claim.ref.id, after=4))
    await passed(server.stage, 1)

    await server.http.delete(f"/v1/sessions/{claim.ref.id}")

    assert [frame.name for frame in frames(await following)] == ["session.deleted"]


# Drafts.


async def drafted(server: Server, other: Server, **params: Any) -> tuple[list[Frame], str]:
    """Follow a run from another process, with time enough for a draft before its event; return the session, too."""
    session_id, begins, ends = await created(server), Gate(), Gate()
    *begin, stop, end, over = answer(thought("Hm"), said("Hel", "lo"))
    server.stage.plays([begins, *begin, ends, stop, end, over])
    await send(server, session_id, "Hi")
    await begins.reached.wait()
    following = asyncio.create_task(followed(other, session_id, until="idle", **params))
    await passed(server.stage, 1)
    begins.opened.set()
    await ends.reached.wait()
    await passed(server.stage, 5)
    ends.opened.set()
    return frames(await following), session_id


async def passed(stage: Stage, seconds: float) -> None:
    """Wait until the watcher's looks have moved the time by so much."""
    began = stage.clock.now()

    async def over() -> bool:
        return (stage.clock.now() - began).total_seconds() >= seconds

    await eventually(over)


async def test_a_watcher_in_another_process_gets_the_drafts_that_it_asked_for(server: Server, other: Server) -> None:
    told, session_id = await drafted(server, other, **{"event_deltas[]": ["agent.message", "agent.thinking"]})

    log = await idle(server, session_id)
    starts = [frame.data["event"] for frame in told if frame.name == "event_start"]
    pieces = [frame.data["delta"]["content"]["text"] for frame in told if frame.name == "event_delta"]
    words = [event for event in log if isinstance(event, e.AgentMessage)]
    assert [start["type"] for start in starts] == ["agent.thinking", "agent.message"]
    assert starts[1]["id"] == words[0].id
    assert "".join(pieces) == "Hello"
    names = [frame.name for frame in told]
    assert names.index("event_delta") < names.index("span.model_request_start")
    assert ids(told) == [event.seq for event in log[4:]]


async def test_who_asked_for_no_drafts_gets_none_and_costs_no_write(server: Server, other: Server) -> None:
    told, session_id = await drafted(server, other)

    assert not [frame for frame in told if frame.name.startswith("event_")]
    assert ids(told) == [event.seq for event in (await idle(server, session_id))[4:]]
    assert not [sk for _, sk, *_ in server.stage.rows() if sk == "LW" or sk.startswith("E~")]


async def test_simple_words_of_a_watcher_carry_the_text_once(server: Server, other: Server) -> None:
    told, _ = await drafted(server, other, vocab="simple")

    assert "".join(frame.data["text"] for frame in told if frame.name == "text") == "Hello"
    assert "".join(frame.data["text"] for frame in told if frame.name == "thinking") == "Hm"
    assert len([frame for frame in told if frame.name == "text"]) > 1
    assert told[-1].data["output"] == "Hello"
    assert {frame.data["run_id"] for frame in told} == {told[-1].data["run_id"]}


# Simple words.


async def test_the_end_of_a_run_tells_all_of_it_wherever_the_stream_began(server: Server) -> None:
    session_id = await talked(server)
    whole = frames(await followed(server, session_id, **{"from": "start", "until": "idle", "vocab": "simple"}))
    log = await idle(server, session_id)

    for cursor in range(len(log) - 2):
        told = frames(await followed(server, session_id, after=cursor, until="idle", vocab="simple"))

        assert told[-1].name == "complete"
        assert told[-1].data == whole[-1].data
        assert told == [frame for frame in whole if frame.id and frame.id > cursor]


# Sending.


async def test_sending_answers_with_receipts_before_the_agent_has_said_anything(server: Server) -> None:
    session_id, gate = await created(server), Gate()
    server.stage.plays([gate, *answer(said())])

    response = await server.http.post(path_of(session_id), json=messages("Hi"), headers={"x-task-id": "ticket-7"})

    told = response.json()
    BetaManagedAgentsSendSessionEvents.model_validate_json(response.content, strict=True)
    [receipt] = told["data"]
    assert receipt["processed_at"] is None
    assert (receipt["type"], receipt["task_id"]) == ("user.message", "ticket-7")
    assert receipt["content"] == [{"type": "text", "text": "Hi"}]
    assert "seq" not in receipt
    gate.opened.set()
    first = (await idle(server, session_id))[0]
    assert (first.id, first.task_id, first.type) == (receipt["id"], "ticket-7", "user.message")
    assert first.processed_at is not None


async def test_what_is_sent_runs_one_after_the_other(server: Server) -> None:
    session_id = await created(server)
    server.stage.plays(*(answer(said(f"Answer {n}")) for n in range(5)))

    first = await send(server, session_id, "Zero", "One", "Two")
    second = await send(server, session_id, "Three", "Four")

    async def all_done() -> bool:
        return types(await server.stage.log(Ref("acme", session_id))).count("session.status_idle") == 5

    await eventually(lambda: _hinted(server, session_id, all_done))
    log = await server.stage.log(Ref("acme", session_id))
    asked_for = [event for event in log if isinstance(event, e.UserMessage)]
    assert [text_of(each.content) for each in asked_for] == ["Zero", "One", "Two", "Three", "Four"]
    assert [each.id for each in asked_for] == [row["id"] for row in first.json()["data"] + second.json()["data"]]
    assert len({each.run_id for each in asked_for}) == 5
    assert types(log).count("run.claimed") == 5
    runs = (await server.http.get(f"/v1/sessions/{session_id}/runs", params={"order": "asc"})).json()["data"]
    assert [row["input"] for row in runs] == ["Zero", "One", "Two", "Three", "Four"]


async def _hinted(server: Server, session_id: str, done: Callable[[], Awaitable[bool]]) -> bool:
    """Follow the hints that the stage's queue keeps, as the dev server's inline queue does by itself."""
    for ref in server.stage.queue.hints:
        await server.stage.runner.nudge(ref)
    server.stage.queue.hints.clear()
    return await done()


async def test_what_waits_is_last_in_the_list_and_shown_by_its_session(server: Server) -> None:
    session_id, gate = await created(server), Gate()
    server.stage.plays([gate, *answer(said())])
    await send(server, session_id, "First")
    await gate.reached.wait()

    await send(server, session_id, "Second", "Third")

    listed = (await server.http.get(path_of(session_id))).json()["data"]
    newest = (await server.http.get(path_of(session_id), params={"order": "desc"})).json()["data"]
    runs = (await server.http.get(path_of(session_id), params={"types[]": "run.started"})).json()["data"]
    shown = (await server.http.get(f"/v1/sessions/{session_id}")).json()
    assert [row["type"] for row in listed][:2] == ["user.message", "run.started"]
    assert texts_of(listed[-2:]) == ["Second", "Third"]
    assert [row.get("seq") for row in listed[-3:]] == [4, None, None]
    assert newest == listed[::-1]
    assert [row["type"] for row in runs] == ["run.started"]
    assert (shown["run_status"], shown["status"], shown["state"]) == ("executing_queued", "running", "active")


async def test_what_waits_comes_after_the_last_page_and_counts_in_none(server: Server) -> None:
    session_id, gate = await created(server), Gate()
    server.stage.plays([gate, *answer(said())])
    await send(server, session_id, "First", "Second")
    await gate.reached.wait()

    one = (await server.http.get(path_of(session_id), params={"limit": 3, "include_total": True})).json()
    two = (await server.http.get(path_of(session_id), params={"limit": 3, "page": one["next_page"]})).json()

    assert [row.get("seq") for row in one["data"]] == [1, 2, 3]
    assert one["total"] == 4
    assert [row.get("seq") for row in two["data"]] == [4, None]


async def test_who_follows_until_idle_sees_the_runs_of_all_that_waited(server: Server) -> None:
    session_id, gate = await created(server), Gate()
    server.stage.plays([gate, *answer(said("One"))], answer(said("Two")))
    await send(server, session_id, "First", "Second")
    await gate.reached.wait()
    following = asyncio.create_task(followed(server, session_id, **{"from": "start", "until": "idle"}))
    gate.opened.set()

    async def two_done() -> bool:
        return types(await server.stage.log(Ref("acme", session_id))).count("session.status_idle") == 2

    await eventually(lambda: _hinted(server, session_id, two_done))
    told = frames(await following)

    assert ids(told) == [event.seq for event in await idle(server, session_id)]
    assert [frame.name for frame in told].count("session.status_idle") == 2


async def test_a_message_for_a_run_that_waits_for_a_person_waits_too(server: Server) -> None:
    session_id, _ = await server.parked()

    sent = await send(server, session_id, "Meanwhile")

    assert sent.status_code == 200
    listed = (await server.http.get(path_of(session_id), params={"limit": 100})).json()["data"]
    assert texts_of(listed[-1:]) == ["Meanwhile"]
    assert (await server.http.get(f"/v1/sessions/{session_id}")).json()["run_status"] == "waiting_approval"


# The same request twice.


async def test_the_same_message_twice_under_one_key_is_sent_once_with_the_same_receipt(server: Server) -> None:
    session_id, _ = await server.parked()

    first = await send(server, session_id, "One", "Two", headers=SLOT)
    before = server.stage.rows()
    server.stage.clock.advance(60)
    again = await send(server, session_id, "One", "Two", headers=SLOT)

    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    assert server.stage.rows() == before


async def test_a_message_that_has_run_since_is_not_sent_again(server: Server) -> None:
    session_id = await created(server)
    server.stage.plays(answer(said()))
    first = await send(server, session_id, "Hi", headers=SLOT)
    log = await idle(server, session_id)

    again = await send(server, session_id, "Hi", headers=SLOT)

    assert again.json() == first.json()
    assert await idle(server, session_id) == log
    assert len(server.stage.model.requests) == 1


async def test_the_same_message_at_the_same_time_is_sent_once(server: Server) -> None:
    session_id, _ = await server.parked()

    several = await asyncio.gather(*(send(server, session_id, "Hi", headers=SLOT) for _ in range(4)))

    assert {response.status_code for response in several} == {200}
    assert len({response.json()["data"][0]["id"] for response in several}) == 1
    assert len(await server.stage.store.inputs.all(Ref("acme", session_id))) == 1


async def test_the_same_key_with_another_message_is_refused(server: Server) -> None:
    session_id, _ = await server.parked()
    await send(server, session_id, "Hi", headers=SLOT)
    before = server.stage.rows()

    refused(await send(server, session_id, "Bye", headers=SLOT), 422, "idempotency_mismatch")

    assert server.stage.rows() == before


@pytest.mark.parametrize("fault", ["lost", "unconfirmed"])
async def test_a_write_that_was_not_confirmed_is_done_once(server: Server, fault: Any) -> None:
    session_id, _ = await server.parked()
    server.stage.table.fail_next(fault)

    response = await send(server, session_id, "Hi")

    assert response.status_code == 200
    assert len(await server.stage.store.inputs.all(Ref("acme", session_id))) == 1


async def test_a_store_that_does_not_answer_is_said_with_when_to_come_back(server: Server) -> None:
    session_id = await created(server)
    server.stage.table.fail_next("lost", times=8)

    response = await send(server, session_id, "Hi")

    refused(response, 503, "store_unavailable")
    assert response.headers["retry-after"] == "1"


# Refusals store nothing.


def text(*blocks: Any) -> dict[str, Any]:
    return {"events": [{"type": "user.message", "content": list(blocks)}]}


CONFIRMED = {"type": "user.tool_confirmation", "tool_use_id": "call", "result": "allow"}

BODIES: list[tuple[str, Any, int, str, str]] = [
    ("nothing", {}, 422, "invalid_input", "events"),
    ("no events", {"events": []}, 422, "invalid_input", "at least 1"),
    ("33 events", messages(*("x" * 33)), 422, "invalid_input", "at most 32"),
    ("no content", text(), 422, "invalid_input", "at least 1"),
    ("content as text", {"events": [{"type": "user.message", "content": "Hi"}]}, 422, "invalid_input", "list"),
    ("65 blocks", text(*[{"type": "text", "text": "x"}] * 65), 422, "invalid_input", "at most 64"),
    ("an empty text", text({"type": "text", "text": ""}), 422, "invalid_input", "at least 1"),
    ("a blank message", text({"type": "text", "text": " \n"}), 422, "invalid_input", "blank"),
    ("an image without a source", text({"type": "image", "source": {}}), 422, "invalid_input", "image.source"),
    ("a document", text({"type": "document", "source": {}}), 422, "invalid_input", "document"),
    ("a lone surrogate", text({"type": "text", "text": "\ud800"}), 422, "invalid_input", "text"),
    ("unknown fields", messages("Hi") | {"on_busy": "queue"}, 422, "invalid_input", "on_busy"),
    ("one good, one bad", {"events": [*messages("Hi")["events"], {"type": "agent.message"}]}, 422,
     "invalid_input", "user.message"),
    ("a stop of one thread", {"events": [{"type": "user.interrupt", "session_thread_id": "one"}]}, 422,
     "invalid_input", "session_thread_id"),
    ("over-long", messages("x" * 1_000_001), 413, "too_large", "1,000,000"),
    ("over-long in bytes", messages("ä" * 500_001), 413, "too_large", "1,000,000"),
    ("over-long together", text(*[{"type": "text", "text": "x" * 600_000}] * 2), 413, "too_large", "1,000,000"),
    *((kind, {"events": [{"type": kind, "tool_use_id": "call", "result": "allow"}]}, 422, "invalid_input",
       "user.message")
      for kind in ("user.custom_tool_result", "user.define_outcome", "user.tool_result", "system.message",
                   "agent.message")),
    ("a confirmation of no call", {"events": [CONFIRMED]}, 404, "tool_call_not_found", "'call'"),
    ("a confirmation and a message", {"events": [*messages("Hi")["events"], CONFIRMED]}, 422,
     "mixed_events", "a request of their own"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "code", "says"), [each[1:] for each in BODIES], ids=[each[0] for each in BODIES]
)
async def test_what_cannot_be_sent_is_refused_and_not_stored(
    server: Server, body: Any, status: int, code: str, says: str
) -> None:
    session_id = await created(server)
    before = server.stage.rows()

    response = await server.http.post(
        path_of(session_id), content=json.dumps(body), headers={"content-type": "application/json"} | SLOT
    )

    assert says in refused(response, status, code)["detail"]
    assert server.stage.rows() == before


async def test_no_more_than_32_messages_wait(server: Server) -> None:
    session_id, _ = await server.parked()
    assert (await send(server, session_id, *("x" * 32))).status_code == 200
    before = server.stage.rows()

    refused(await send(server, session_id, "One more", headers=SLOT), 409, "queue_full")

    assert server.stage.rows() == before


async def test_messages_that_would_be_too_many_together_are_all_refused(server: Server) -> None:
    session_id, _ = await server.parked()
    await send(server, session_id, *("x" * 31))

    refused(await send(server, session_id, "One", "Two"), 409, "queue_full")

    assert len(await server.stage.store.inputs.all(Ref("acme", session_id))) == 31


async def test_a_session_whose_agent_is_gone_takes_no_messages(server: Server) -> None:
    await server.stage.create(Ref("acme", "sesn_shop"), agent_id="shop")
    before = server.stage.rows()

    refused(await send(server, "sesn_shop", "Hi"), 422, "agent_not_found")

    assert server.stage.rows() == before


@pytest.mark.parametrize("size", [40_000, 1_000_000])
async def test_a_large_message_is_kept_as_it_is(server: Server, size: int) -> None:
    session_id = await created(server)
    words = "".join(chr(97 + (n * 7919) % 26) for n in range(size))
    server.stage.plays(answer(said()))

    response = await send(server, session_id, words)

    assert response.json()["data"][0]["content"][0]["text"] == words
    await idle(server, session_id)
    assert server.stage.model.messages[0]["content"][0]["text"] == words
