"""A stream cut at any byte and taken up again: whoever reconnects has every event, each once, and every word right.

Frames are read by the `anthropic` SDK's decoder, byte for byte as a socket might give them; it is none of ours.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Literal

import pytest
from anthropic._streaming import SSEDecoder
from hypothesis import given, settings
from hypothesis import strategies as st
from parley.core.tool import ToolOutcome
from starlette.types import Message

from tests.build import Stage, answer, asked, cut, said, thought
from tests.fakes.model import Raw
from tests.integration.test_http import EXECUTE, Server, idle
from tests.integration.test_stream import eventually, serve, stage

__all__ = ["stage"]  # the fixture whose time skips without haste

pytestmark = pytest.mark.anyio

Vocabulary = Literal["native", "simple"]
VOCABULARIES = ("native", "simple")

WORDS = {
    "agent.message": "text",
    "agent.thinking": "thinking",
    "agent.tool_use": "tool_call",
    "agent.tool_result": "tool_result",
    "plan.proposed": "plan",
    "approval.requested": "approval_required",
    "approval.decided": "approval_decided",
    "session.error": "error",
    "run.finished": "complete",
}
"""What of the log the simple vocabulary has a word for, and which; and an idle session that waits for a person."""

DRAFTS = {"event_deltas[]": ["agent.message", "agent.thinking"]}

TEXT = "Grüße\u2028an 😀\r\nalle\n\nid: 99\n\n"
"""Characters of several bytes, and what could break a frame."""


@pytest.fixture
async def server(stage: Stage) -> AsyncIterator[Server]:
    made = serve(stage)
    async with made.http:
        yield made


# Reading as a client does.


@dataclass(frozen=True)
class Frame:
    """One frame; `id` only when it has one of its own."""

    id: int | None
    name: str
    data: dict[str, Any]


class Stream:
    """The bytes of one connection, and which frames are whole after any number of them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.frames: list[Frame] = []
        self._whole = [0]
        for frame in SSEDecoder().iter_bytes(self._each_byte()):
            if frame.event:
                last = max([seen.id for seen in self.frames if seen.id], default=None)
                id = int(frame.id) if frame.id else None
                self.frames.append(Frame(None if id == last else id, frame.event, frame.json()))
        self._whole.append(len(self.frames))

    def _each_byte(self) -> Iterator[bytes]:
        for position in range(len(self.data)):
            yield self.data[position : position + 1]
            self._whole.append(len(self.frames))
        self._whole.pop()

    def until(self, position: int) -> list[Frame]:
        """Return the frames that are whole when the connection breaks behind so many bytes."""
        return self.frames[: self._whole[position]]


def cursor_of(frames: list[Frame], otherwise: int | None = None) -> int | None:
    """Return what a client sends as `Last-Event-ID`."""
    return next((frame.id for frame in reversed(frames) if frame.id is not None), otherwise)


@dataclass
class Reader:
    """A client that does as the guide says: a draft is worth nothing until its event, and no more when reconnected."""

    texts: dict[str, str] = field(default_factory=dict)
    """Of every message that is whole."""
    drafts: dict[str, str] = field(default_factory=dict)

    def read(self, connection: list[Frame]) -> None:
        """Take the frames of one more connection."""
        self.drafts.clear()
        for frame in connection:
            self._take(frame.name, frame.data)

    def _take(self, name: str, data: dict[str, Any]) -> None:
        match name:
            case "event_delta":
                content = data["delta"]["content"]
                self.drafts[data["event_id"]] = self.drafts.get(data["event_id"], "") + content[content["type"]]
            case "draft.discarded" | "draft_discarded":
                self.drafts.pop(data.get("event_id") or data["message_id"], None)
            case "span.model_request_end":  # a preview whose event has not come by then will not come
                self.drafts.clear()
            case "agent.message":
                whole = "".join(block["text"] for block in data["content"])
                assert self.drafts.pop(data["id"], whole) == whole
                self.texts[data["id"]] = whole
            case "agent.thinking":
                assert self.drafts.pop(data["id"], data["thinking"]) == data["thinking"]
            case "text" | "thinking" if data.get("final"):
                pieces = self.drafts.pop(data["message_id"], "")
                assert not (pieces and data["text"])
                if name == "text":
                    self.texts[data["message_id"]] = data["text"] or pieces
            case "text" | "thinking":
                self.drafts[data["message_id"]] = self.drafts.get(data["message_id"], "") + data["text"]
            case _:
                pass


def hold(connections: list[list[Frame]], log: list[dict[str, Any]], vocabulary: Vocabulary) -> None:
    """Hold what a client has of several connections against the log."""
    stored = [frame for frames in connections for frame in frames if frame.id is not None]
    expected = log if vocabulary == "native" else [row for row in log if word_of(row)]
    assert [frame.id for frame in stored] == [row["seq"] for row in expected]
    if vocabulary == "native":
        assert [frame.data for frame in stored] == expected
    else:
        assert [frame.name for frame in stored] == [word_of(row) for row in expected]
    reader = Reader()
    for frames in connections:
        reader.read(frames)
    assert reader.texts == texts_of(log)
    assert reader.drafts == {}


def word_of(row: dict[str, Any]) -> str | None:
    """Return the simple vocabulary's word for an event, if it has one."""
    waits = row["type"] == "session.status_idle" and row["stop_reason"]["type"] == "requires_action"
    return "complete" if waits else WORDS.get(row["type"])


def texts_of(log: list[dict[str, Any]]) -> dict[str, str]:
    return {row["id"]: "".join(b["text"] for b in row["content"]) for row in log if row["type"] == "agent.message"}


# A run that was recorded.


def eventful(*, pays: str = "pay") -> list[list[Raw]]:
    """Play a run that thinks, speaks, calls three tools, fails in the middle of a draft, and speaks again."""
    return [
        answer(thought("Hm, ", "well"), said("I ", TEXT, "look."), asked("look"), asked("file"), asked(pays)),
        cut(answer(thought("So"), said("A draft ", "for nobody"))),
        answer(thought("So"), said("All ", "is done.")),
    ]


@dataclass
class Recorded:
    """A run that has ended: the bytes of the first connection, and the answer to whoever comes back, by its cursor."""

    log: list[dict[str, Any]]
    first: Stream
    again: Mapping[int | None, Stream]


async def log_of(server: Server, session_id: str) -> list[dict[str, Any]]:
    await idle(server, session_id)
    page = await server.http.get(f"/v1/sessions/{session_id}/events", params={"limit": 100})
    rows: list[dict[str, Any]] = page.json()["data"]
    assert not page.json()["has_more"]
    return rows


async def stream_of(server: Server, session_id: str, cursor: int | None, vocabulary: Vocabulary) -> Stream:
    """Follow a session that is idle to its end."""
    headers = {} if cursor is None else {"last-event-id": str(cursor)}
    params = {"vocab": vocabulary, "until": "idle", "from": "start", **DRAFTS}
    response = await server.http.get(f"/v1/sessions/{session_id}/events/stream", params=params, headers=headers)
    assert response.status_code == 200, response.text
    return Stream(response.content)


async def recorded(server: Server, vocabulary: Vocabulary, door: str) -> Recorded:
    """Run once; keep what each connection would be answered with."""
    server.stage.plays(*eventful(), look=ToolOutcome("ok", TEXT))
    response = await server.http.post(EXECUTE, params={"vocab": vocabulary}, json={"input": TEXT})
    session_id = response.headers["location"].rsplit("/", 1)[1]
    log = await log_of(server, session_id)
    again = {
        cursor: await stream_of(server, session_id, cursor, vocabulary)
        for cursor in [None, *(row["seq"] for row in log)]
    }
    return Recorded(log, Stream(response.content) if door == "execute" else again[None], again)


@pytest.mark.parametrize("door", ["execute", "events/stream"])
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
async def test_cut_at_any_byte_and_resumed_a_stream_is_the_log(
    server: Server, vocabulary: Vocabulary, door: str
) -> None:
    run = await recorded(server, vocabulary, door)
    kinds = {row["type"] for row in run.log}
    others = {"tool.intended", "user.message", "session.status_rescheduled"}
    assert kinds >= (set(WORDS) - {"approval.requested", "approval.decided"}) | others

    for position in range(len(run.first.data) + 1):
        had = run.first.until(position)
        hold([had, run.again[cursor_of(had)].frames], run.log, vocabulary)

    assert len(run.first.data) > 1500
    discarded = [frame for frame in run.first.frames if frame.name in ("draft.discarded", "draft_discarded")]
    assert len(discarded) == (2 if door == "execute" else 0)


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
async def test_a_stream_that_is_cut_again_and_again_is_the_log(server: Server, vocabulary: Vocabulary) -> None:
    run = await recorded(server, vocabulary, "execute")

    @settings(max_examples=300, deadline=None, derandomize=True, database=None)
    @given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
    def cut_where(places: list[float]) -> None:
        connections, cursor, stream = [], None, run.first
        for place in places:
            connections.append(stream.until(int(place * len(stream.data))))
            cursor = cursor_of(connections[-1], cursor)
            stream = run.again[cursor]
        hold([*connections, stream.frames], run.log, vocabulary)

    cut_where()


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
async def test_only_what_is_stored_has_an_id(server: Server, vocabulary: Vocabulary) -> None:
    run = await recorded(server, vocabulary, "execute")

    blocks = [block.split(b"\n") for block in run.first.data.split(b"\n\n")]
    with_id = [block for block in blocks if any(line.startswith(b"id") for line in block)]
    drafts = [frame for frame in run.first.frames if frame.id is None]

    stored = [row for row in run.log if vocabulary == "native" or word_of(row)]
    assert [block[0] for block in with_id] == [b"id: %d" % row["seq"] for row in stored]
    assert len(drafts) > 10
    assert not [frame for frame in drafts if frame.name in {row["type"] for row in run.log} or frame.data.get("final")]


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
async def test_a_run_that_waited_for_decisions_is_told_alike_wherever_one_resumes(
    server: Server, vocabulary: Vocabulary
) -> None:
    made = await server.http.post("/v1/sessions", json={"agent": "bank", "autonomy": "L1"})
    session_id = made.json()["id"]
    calls = [asked(name) for name in ("look", "file", "pay")]
    server.stage.plays(answer(thought("Hm"), said("I ask."), *calls), answer(said("All ", "is done.")))
    body = {"input": TEXT, "session_id": session_id}
    first = Stream((await server.http.post(EXECUTE, params={"vocab": vocabulary}, json=body)).content)
    for row in (await server.http.get("/v1/approvals", params={"order": "asc"})).json()["data"]:
        denied = {"decision": "deny" if row["name"] == "pay" else "approve"}
        assert (await server.http.post(f"/v1/approvals/{row['id']}/decision", json=denied)).status_code == 200

    log = await log_of(server, session_id)
    whole = (await stream_of(server, session_id, None, vocabulary)).frames
    rest = (await stream_of(server, session_id, cursor_of(first.frames), vocabulary)).frames

    hold([first.frames, rest], [row for row in log if row.get("run_id")], vocabulary)
    assert [word_of(row) for row in log].count("complete") > 1
    for row in log:
        again = (await stream_of(server, session_id, row["seq"], vocabulary)).frames
        assert again == [frame for frame in whole if frame.id and frame.id > row["seq"]]


# A run that is still going on.


class Connection:
    """One request to the app that may break at any moment, as a socket does."""

    def __init__(self, server: Server, method: str, path: str, query: str = "", **headers: str) -> None:
        self.data = b""
        self._left = asyncio.Event()
        self._started: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()
        raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        scope = {"type": "http", "http_version": "1.1", "method": method, "path": path, "raw_path": path.encode()}
        scope |= {"query_string": query.encode(), "headers": raw, "scheme": "http", "server": ("parley.test", 80)}
        self._body = [json.dumps({"input": TEXT}).encode()] if method == "POST" else [b""]
        self.task = asyncio.create_task(server.app(scope, self._receive, self._send))

    async def headers(self) -> dict[str, str]:
        """Wait for the beginning of the answer."""
        return await self._started

    async def breaks(self) -> Stream:
        """Leave; return what came until then."""
        self._left.set()
        await self.task
        return Stream(self.data)

    async def looks(self, stage: Stage) -> None:
        """Let it look for a second, by the stage's clock, or until it has seen the end."""
        until = stage.clock.now() + timedelta(seconds=1)

        async def looked() -> bool:
            return stage.clock.now() >= until or self.task.done()

        await eventually(looked)

    async def ends(self) -> Stream:
        """Wait for the end of the answer."""
        await self.task
        return Stream(self.data)

    async def _receive(self) -> Message:
        if self._body:
            return {"type": "http.request", "body": self._body.pop()}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if self._left.is_set():
            return  # as uvicorn does
        if message["type"] == "http.response.start":
            assert message["status"] == 200
            self._started.set_result({name.decode(): value.decode() for name, value in message["headers"]})
        self.data += message.get("body", b"")


class Meter:
    """Lets a model say so many of its raw events, and no more until it is told."""

    def __init__(self) -> None:
        self.said, self.total = 0, 0
        self._allowed = asyncio.Semaphore(0)
        self._spoke = asyncio.Event()

    async def __call__(self) -> None:
        await self._allowed.acquire()
        self.said += 1
        self._spoke.set()

    async def allow(self, count: int | None) -> None:
        """Let it say so many more, or with `None` all, and wait until they are said, or the run has no more."""
        until = self.total if count is None else min(self.said + count, self.total)
        for _ in range(until - self.said):
            self._allowed.release()

        while self.said < until:
            await self._spoke.wait()
            self._spoke.clear()

    def between(self, raws: list[Raw]) -> list[Raw | Callable[[], Awaitable[object]]]:
        self.total += len(raws)
        return [step for raw in raws for step in (self, raw)]


@pytest.mark.parametrize("vocabulary", VOCABULARIES)
async def test_cut_while_the_run_goes_on_and_resumed_elsewhere_a_stream_is_the_log(
    server: Server, stage: Stage, vocabulary: Vocabulary
) -> None:
    elsewhere = serve(stage.another())
    words = {"event_delta", "text", "thinking"}
    drafts = 0

    for moment in range(sum(map(len, eventful()))):
        meter = Meter()
        stage.plays(*(meter.between(play) for play in eventful()))
        first = Connection(server, "POST", EXECUTE, f"vocab={vocabulary}", content_type="application/json")
        session_id = (await first.headers())["location"].rsplit("/", 1)[1]
        await meter.allow(moment)
        had = (await first.breaks()).frames
        second = followed(elsewhere, session_id, cursor_of(had), vocabulary)
        await second.looks(stage)
        await meter.allow(2)
        await second.looks(stage)
        await meter.allow(None)
        connections = [had, (await second.ends()).frames]
        while connections[-1][-1].name == "stream.rotate":  # its minutes were over before the run was
            cursor = connections[-1][-1].data["after"]
            connections.append((await followed(elsewhere, session_id, cursor, vocabulary).ends()).frames)

        hold(connections, await log_of(server, session_id), vocabulary)
        drafts += len([frame for frame in connections[1] if frame.id is None and frame.name in words])

    assert drafts > 10  # the second connection has seen some, too


def followed(server: Server, session_id: str, cursor: int | None, vocabulary: Vocabulary) -> Connection:
    """Follow a session that is at work, with all that there is to see."""
    query = f"vocab={vocabulary}&until=idle&from=start&event_deltas[]=agent.message&event_deltas[]=agent.thinking"
    headers = {} if cursor is None else {"last_event_id": str(cursor)}
    return Connection(server, "GET", f"/v1/sessions/{session_id}/events/stream", query, **headers)
