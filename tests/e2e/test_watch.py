"""Watching from another process: the unmodified SDK, two servers over one DynamoDB, connections that break."""

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import anthropic
import pytest
from anthropic.types.beta import BetaManagedAgentsDeltaEvent, BetaManagedAgentsStartEvent
from anthropic.types.beta.sessions import (
    BetaManagedAgentsAgentMessageEvent,
    BetaManagedAgentsAgentThinkingEvent,
    BetaManagedAgentsAgentToolResultEvent,
    BetaManagedAgentsAgentToolUseEvent,
    BetaManagedAgentsSessionStatusIdleEvent,
    BetaManagedAgentsSessionStatusRunningEvent,
    BetaManagedAgentsSpanModelRequestEndEvent,
    BetaManagedAgentsSpanModelRequestStartEvent,
    BetaManagedAgentsUserMessageEvent,
)

from tests.contract.backends import emulator
from tests.e2e.processes import Process, client, fake_anthropic, parley, running, with_claude
from tests.e2e.streams import Frame, frames, ids_of
from tests.e2e.test_kill import events, wait_for

pytestmark = pytest.mark.xdist_group("processes")

SLOW = "[[text 30x8 delay=0.05]]"
TALK = f'[[think about it]] [[tool look {{"seconds": 0.2}}]] [[then]] {SLOW}'
DRAFTS: dict[str, Any] = {"event_deltas[]": ["agent.message", "agent.thinking"]}


@pytest.fixture(scope="module")
def fake() -> Iterator[Process]:
    with running(fake_anthropic) as process:
        yield process


@pytest.fixture(scope="module")
def server(fake: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(lambda: parley(tmp_path_factory.mktemp("watch"), **with_claude(fake))) as process:
        yield process


# The SDK.


def message(text: str) -> dict[str, Any]:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def check_of_the_sdk(told: list[Any], sent_id: str) -> None:
    """Hold what the SDK gave to what a whole run with thinking, a tool and an answer is."""
    passing = (BetaManagedAgentsStartEvent, BetaManagedAgentsDeltaEvent)
    stored = [event for event in told if not isinstance(event, passing)]
    kinds = [type(event) for event in stored if not event.type.startswith(("run.", "tool."))]
    assert kinds == [
        BetaManagedAgentsUserMessageEvent,
        BetaManagedAgentsSessionStatusRunningEvent,
        BetaManagedAgentsSpanModelRequestStartEvent,
        BetaManagedAgentsAgentThinkingEvent,
        BetaManagedAgentsAgentToolUseEvent,
        BetaManagedAgentsSpanModelRequestEndEvent,
        BetaManagedAgentsAgentToolResultEvent,
        BetaManagedAgentsSpanModelRequestStartEvent,
        BetaManagedAgentsAgentMessageEvent,
        BetaManagedAgentsSpanModelRequestEndEvent,
        BetaManagedAgentsSessionStatusIdleEvent,
    ]
    assert stored[0].id == sent_id
    assert stored[0].processed_at is not None
    words: Any = next(event for event in stored if isinstance(event, BetaManagedAgentsAgentMessageEvent))
    deltas = [event for event in told if isinstance(event, BetaManagedAgentsDeltaEvent)]
    assert len(deltas) > 2
    assert {delta.event_id for delta in deltas} == {words.id}
    assert "".join(delta.delta.content.text for delta in deltas) == words.content[0].text
    assert len(words.content[0].text) == 30 * 8
    begun = [event.event.type for event in told if isinstance(event, BetaManagedAgentsStartEvent)]
    assert begun[-1] == "agent.message"
    assert told.index(deltas[0]) < told.index(words)


def test_the_sdk_sends_and_streams(server: Process) -> None:
    told: list[Any] = []
    with anthropic.Anthropic(base_url=server.url, api_key="anything", max_retries=0) as sdk:
        session = sdk.beta.sessions.create(agent="desk", environment_id="any")
        with sdk.beta.sessions.events.stream(session.id, event_deltas=["agent.message", "agent.thinking"]) as stream:

            def read() -> None:
                for event in stream:
                    told.append(event)
                    if event.type == "session.status_idle":
                        return

            reader = threading.Thread(target=read)
            reader.start()
            sent = sdk.beta.sessions.events.send(session.id, events=[message(TALK)])  # type: ignore[list-item]
            reader.join(20)
            assert not reader.is_alive()

    assert sent.data
    assert sent.data[0].processed_at is None
    check_of_the_sdk(told, sent.data[0].id)


def test_the_asynchronous_sdk_sends_and_streams(server: Process) -> None:
    async def talk() -> tuple[list[Any], str]:
        told: list[Any] = []
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="anything", max_retries=0) as sdk:
            session = await sdk.beta.sessions.create(agent="desk", environment_id="any")
            stream = await sdk.beta.sessions.events.stream(session.id, event_deltas=["agent.message", "agent.thinking"])
            sent = await sdk.beta.sessions.events.send(session.id, events=[message(TALK)])  # type: ignore[list-item]
            async with asyncio.timeout(20), stream:
                async for event in stream:
                    told.append(event)
                    if event.type == "session.status_idle":
                        break
        assert sent.data
        return told, sent.data[0].id

    check_of_the_sdk(*asyncio.run(talk()))


def test_the_sdk_gets_typed_errors_for_what_cannot_be_sent_or_followed(server: Process) -> None:
    with anthropic.Anthropic(base_url=server.url, api_key="anything", max_retries=0) as sdk:
        session = sdk.beta.sessions.create(agent="desk", environment_id="any")

        with pytest.raises(anthropic.UnprocessableEntityError, match=r"user\.message"):
            sdk.beta.sessions.events.send(
                session.id, events=[{"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_unknown"}]
            )
        with pytest.raises(anthropic.NotFoundError):
            sdk.beta.sessions.events.send(
                session.id,
                events=[{"type": "user.tool_confirmation", "tool_use_id": "sevt_unknown", "result": "allow"}],
            )
        with pytest.raises(anthropic.NotFoundError):
            sdk.beta.sessions.events.stream("sesn_unknown")


# Another process.


@dataclass
class Seen:
    """What a watcher has read, and when each frame came."""

    frames: list[Frame] = field(default_factory=list)
    moments: list[datetime] = field(default_factory=list)

    def latencies_ms(self) -> list[float]:
        """From the making of each stored event to its sight here."""
        pairs = zip(self.frames, self.moments, strict=True)
        return [
            (at - datetime.fromisoformat(frame.data["processed_at"])).total_seconds() * 1000
            for frame, at in pairs
            if frame.id and frame.event != "span.model_request_start"  # stored with its end
        ]


def watch(server: Process, session_id: str, seen: Seen, ready: Callable[[], object], **params: Any) -> None:
    """Read a stream to its end."""
    path = f"/v1/sessions/{session_id}/events/stream"
    with client(server) as http, http.stream("GET", path, params=params) as answer:
        assert answer.status_code == 200, answer.read()
        ready()
        for frame in frames(answer.iter_lines()):
            seen.frames.append(frame)
            seen.moments.append(datetime.now(UTC))


@pytest.fixture(scope="module")
def two(fake: Process, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Process]]:
    """Give two servers over one table."""
    with emulator("ministack", tmp_path_factory.mktemp("dynamodb")) as endpoint:
        settings = with_claude(fake) | {
            "PARLEY_STORE": "dynamodb",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        with (
            running(lambda: parley(tmp_path_factory.mktemp("one"), **settings)) as one,
            running(lambda: parley(tmp_path_factory.mktemp("two"), **settings)) as other,
        ):
            yield one, other


def test_a_watcher_at_another_server_sees_every_event_and_every_word(two: tuple[Process, Process]) -> None:
    driving, watching = two
    seen, ready = Seen(), threading.Event()
    with client(driving) as http:
        session_id = http.post("/v1/sessions", json={"agent": "desk"}).json()["id"]
        watcher = threading.Thread(
            target=watch, args=(watching, session_id, seen, ready.set), kwargs={"until": "idle"} | DRAFTS
        )
        watcher.start()
        assert ready.wait(10)
        sent = http.post(f"/v1/sessions/{session_id}/events", json={"events": [message(TALK), message(SLOW)]})
        watcher.join(40)

    assert sent.status_code == 200
    log = events(driving, session_id)
    assert [event["type"] for event in log].count("session.status_idle") == 2
    assert ids_of(seen.frames) == [event["seq"] for event in log]
    assert [frame.data["id"] for frame in seen.frames if frame.id] == [event["id"] for event in log]
    written = {event["id"]: event["content"][0]["text"] for event in log if event["type"] == "agent.message"}
    told: dict[str, str] = {}
    for frame in seen.frames:
        if frame.event == "event_delta":
            id = frame.data["event_id"]
            told[id] = told.get(id, "") + frame.data["delta"]["content"]["text"]
    assert told == written
    assert len([frame for frame in seen.frames if frame.event == "event_delta"]) > 4
    late = sorted(seen.latencies_ms())
    print(f"\nstored event to a watcher at another server: p95 {late[int(len(late) * 0.95)]:.0f} ms of {len(late)}")
    assert late[-1] < 10_000


def test_simple_words_from_the_start_can_be_had_at_another_server(two: tuple[Process, Process]) -> None:
    driving, watching = two
    with client(driving) as http:
        session_id = http.post("/v1/sessions", json={"agent": "desk"}).json()["id"]
        http.post(f"/v1/sessions/{session_id}/events", json={"events": [message("[[say hello]]")]})
        wait_for(driving, session_id, "completed")
    seen = Seen()

    watch(watching, session_id, seen, lambda: None, **{"from": "start", "until": "idle", "vocab": "simple"})

    assert [frame.event for frame in seen.frames] == ["text", "complete"]
    assert seen.frames[-1].data["output"] == "hello"


# Connections that break.


def cut_after(server: Process, session_id: str, last: int, size: int) -> tuple[list[Frame], bool]:
    """Read `size` bytes behind a cursor, and hang up; return the frames that were whole, and whether all had come."""
    body, over = b"", True
    path, params = f"/v1/sessions/{session_id}/events/stream", {"until": "idle", "from": "start"} | DRAFTS
    with (
        client(server) as http,
        http.stream("GET", path, params=params, headers={"last-event-id": str(last)} if last else {}) as answer,
    ):
        assert answer.status_code == 200
        for part in answer.iter_raw():
            body += part
            if len(body) >= size:
                over = False
                break
    whole = body[:size].rpartition(b"\n\n")[0] + b"\n\n"
    return list(frames(whole.decode().split("\n"))), over


@pytest.mark.parametrize("seed", [1, 2])
def test_over_connections_cut_anywhere_the_frames_with_ids_are_the_log_each_once(server: Process, seed: int) -> None:
    dice = random.Random(seed)
    with client(server) as http:
        session_id = http.post("/v1/sessions", json={"agent": "desk"}).json()["id"]
        http.post(f"/v1/sessions/{session_id}/events", json={"events": [message(TALK), message(TALK)]})
    got: list[int] = []
    over, connections = False, 0

    while not over:
        told, over = cut_after(server, session_id, got[-1] if got else 0, dice.randint(20, 3000))
        got += ids_of(told)
        connections += 1
        assert connections < 500

    log = events(server, session_id)
    assert connections > 5
    assert [event["type"] for event in log].count("session.status_idle") == 2
    assert got == [event["seq"] for event in log]


def test_a_draft_that_was_cut_off_begins_anew_and_is_told_from_its_beginning(server: Process) -> None:
    with client(server) as http:
        session_id = http.post("/v1/sessions", json={"agent": "desk"}).json()["id"]
        http.post(f"/v1/sessions/{session_id}/events", json={"events": [message("[[text 40x8 delay=0.08]]")]})
        path = f"/v1/sessions/{session_id}/events/stream"
        with http.stream("GET", path, params={"from": "start"} | DRAFTS) as answer:
            told = frames(answer.iter_lines())
            first = next(frame for frame in told if frame.event == "event_delta")
            before = next(frame for frame in told if frame.event == "event_delta")
        seen = Seen()
        watch(server, session_id, seen, lambda: None, **{"after": 4, "until": "idle"} | DRAFTS)

    names = [frame.event for frame in seen.frames]
    pieces = [frame.data["delta"]["content"]["text"] for frame in seen.frames if frame.event == "event_delta"]
    cut_off = "".join(frame.data["delta"]["content"]["text"] for frame in (first, before))
    assert names[:2] == ["event_start", "event_delta"]
    assert pieces[0].startswith(cut_off)
    assert seen.frames[0].data["event"]["id"] == first.data["event_id"]
    assert "".join(pieces) == next(
        frame.data["content"][0]["text"] for frame in seen.frames if frame.event == "agent.message"
    )


def test_a_watcher_that_leaves_does_not_end_the_run(server: Process) -> None:
    with client(server) as http:
        session_id = http.post("/v1/sessions", json={"agent": "desk"}).json()["id"]
        http.post(f"/v1/sessions/{session_id}/events", json={"events": [message(SLOW)]})
    with (
        client(server) as http,
        http.stream("GET", f"/v1/sessions/{session_id}/events/stream", params=DRAFTS) as answer,
    ):
        next(answer.iter_raw())

    assert wait_for(server, session_id, "completed")["status"] == "idle"
