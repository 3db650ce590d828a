"""A session of many turns over HTTP, with the production Claude adapter and a strict API with a small window."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from anthropic.types.beta.sessions import BetaManagedAgentsStreamSessionEvents
from parley import dev
from parley.adapters.claude.api import ClaudeModel
from parley.adapters.inline import InlineQueue
from parley.core import compaction
from parley.core import event as e
from parley.core.tool import ToolOutcome
from parley.runner import Runner
from parley.settings import load
from parley.state import Principal, State
from parley.store import Ref
from pydantic import TypeAdapter

from tests import build
from tests.build import Stage, only
from tests.fakes.anthropic_server import FakeApi, serving

pytestmark = pytest.mark.anyio

SDK_STREAM: TypeAdapter[Any] = TypeAdapter(BetaManagedAgentsStreamSessionEvents)
COMPACT_AT, WINDOW, TURNS = 2500, 4000, 24


@dataclass
class Talk:
    """One session, and the requests that the API has had for it."""

    stage: Stage
    http: httpx.AsyncClient
    api: httpx.AsyncClient
    session_id: str | None = None

    async def turn(self, number: int, **query: Any) -> httpx.Response:
        """Have the model think, call a tool, think again and answer, with words that only this turn has."""
        script = f"[[think Hm]] [[tool look]] [[then think Well]] [[say answer {number} {'y' * 300}]]"
        body = {"input": f"Message {number}. {script} {'x' * 300}", "stream": False} | query.pop("body", {})
        body |= {"session_id": self.session_id} if self.session_id else {}
        response = await self.http.post("/v1/agents/bank/execute", json=body, params=query)
        assert response.status_code == 200, response.text
        self.session_id = self.session_id or response.json()["session_id"]
        return response

    async def requests(self) -> list[dict[str, Any]]:
        return list((await self.api.get("/_requests?bodies=1")).json())

    async def listed(self, what: str) -> list[dict[str, Any]]:
        """Page through everything of the session."""
        found, page = [], None
        while True:
            query = {"limit": 100} | ({"page": page} if page else {})
            answer = (await self.http.get(f"/v1/sessions/{self.session_id}/{what}", params=query)).json()
            assert "data" in answer, answer
            found += answer["data"]
            page = answer.get("next_page")
            if not page:
                return found


@pytest.fixture
async def talk(stage: Stage) -> AsyncIterator[Talk]:
    async with talking(stage, COMPACT_AT) as opened:
        yield opened


@asynccontextmanager
async def talking(stage: Stage, compact_at_tokens: int) -> AsyncIterator[Talk]:
    """Serve an agent whose provider has a small window."""
    fake = FakeApi(keep_bodies=True, bind_thinking=True, window=WINDOW)
    with serving(fake) as url:
        claude = ClaudeModel(api_key="test", base_url=url)
        stage.agent = build.agent(compact_at_tokens=compact_at_tokens)
        stage.engine = replace(stage.engine, model=claude)
        stage.runner = Runner(stage.engine, {stage.agent.id: stage.agent}, stage.queue)
        queue = InlineQueue(lambda tenant, session_id: stage.runner.nudge(Ref(tenant, session_id)))
        state = State(stage.store, {"bank": stage.agent}, Principal("acme", "ann"), stage.runner, queue)
        transport = httpx.ASGITransport(dev.app(load({}), state), raise_app_exceptions=False)
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://parley.test") as http,
            httpx.AsyncClient(base_url=url) as api,
        ):
            yield Talk(stage, http, api)
        await claude.close()


async def test_a_session_of_many_turns_stays_within_the_window_and_keeps_every_message(talk: Talk) -> None:
    talk.stage.plays(look=ToolOutcome("ok", "seen " + "z" * 300))

    told = [(await talk.turn(number)).json() for number in range(TURNS)]

    assert [each["status"] for each in told] == ["completed"] * TURNS
    assert [each["output"].split(" y")[0] for each in told] == [f"answer {number}" for number in range(TURNS)]
    requests = await talk.requests()
    assert {each["status"] for each in requests} == {200}
    asked = [each["body"] for each in requests if each["body"].get("tool_choice")]
    assert len(asked) >= 4
    assert len(requests) == 2 * TURNS + len(asked)
    assert all(
        each["body"]["messages"][-1]["content"][0]["text"] == compaction.REQUEST
        for each in requests
        if each["body"].get("tool_choice")
    )

    messages = await talk.listed("messages")
    people = [each["content"][0]["text"].split(".")[0] for each in messages if each["role"] == "user"]
    assert people == [f"Message {number}" for number in range(TURNS)]
    assert [each["role"] for each in messages] == ["user", "assistant", "tool", "assistant"] * TURNS
    events = await talk.listed("events")
    assert [each["seq"] for each in events] == list(range(1, len(events) + 1))
    compacted = [each for each in events if each["type"] == "agent.thread_context_compacted"]
    assert len(compacted) == len(asked)
    for each in compacted:
        assert SDK_STREAM.validate_python(each).type == "agent.thread_context_compacted"


async def test_each_request_is_bounded_whatever_the_length_of_the_session(talk: Talk) -> None:
    talk.stage.plays(look=ToolOutcome("ok", "seen " + "z" * 300))

    for number in range(TURNS):
        await talk.turn(number)

    sizes = [len(each["body"]["messages"]) for each in await talk.requests()]
    half = len(sizes) // 2
    assert max(sizes[half:]) <= max(sizes[:half])
    log = await talk.stage.log(Ref("acme", talk.session_id or ""))
    assert max(end.model_usage.total for end in only(e.ModelRequestEnd, log)) < WINDOW


async def test_a_listener_hears_of_a_compaction_in_native_words_and_of_no_draft_of_it(talk: Talk) -> None:
    frames: list[str] = []
    while "agent.thread_context_compacted" not in frames:
        await talk.turn(len(frames)) if not talk.session_id else None
        response = await talk.turn(1, vocab="native", body={"stream": True})
        frames = [line.removeprefix("event: ") for line in response.text.split("\n") if line.startswith("event: ")]

    place = frames.index("agent.thread_context_compacted")
    assert frames[place - 1 : place + 2] == [
        "span.model_request_start",
        "agent.thread_context_compacted",
        "span.model_request_end",
    ]
    assert "event_delta" not in frames[:place]


async def test_what_the_provider_calls_too_long_is_compacted_and_the_run_goes_on(stage: Stage) -> None:
    async with talking(stage, compact_at_tokens=1_000_000) as talk:
        told = [(await talk.turn(number)).json() for number in range(TURNS)]
        requests, events = await talk.requests(), await talk.listed("events")

    assert [each["status"] for each in told] == ["completed"] * TURNS
    refused = [each["error"] for each in requests if each["status"] == 400]
    assert len(refused) >= 2
    assert all("prompt is too long" in each for each in refused)
    assert len([each for each in events if each["type"] == "agent.thread_context_compacted"]) == len(refused)
