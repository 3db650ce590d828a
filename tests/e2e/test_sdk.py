"""The unmodified `anthropic` SDK as our client, and as our way to the model."""

from collections.abc import Iterator
from pathlib import Path

import anthropic
import pytest
from anthropic.types.beta import BetaManagedAgentsSession
from anthropic.types.beta.sessions import (
    BetaManagedAgentsAgentMessageEvent,
    BetaManagedAgentsAgentThinkingEvent,
    BetaManagedAgentsAgentToolResultEvent,
    BetaManagedAgentsAgentToolUseEvent,
    BetaManagedAgentsSessionStatusIdleEvent,
    BetaManagedAgentsSpanModelRequestEndEvent,
    BetaManagedAgentsUserMessageEvent,
)

from tests.e2e.processes import Process, client, fake_anthropic, parley, running, with_claude
from tests.e2e.streams import execute, text_of

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with (
        running(fake_anthropic) as fake,
        running(lambda: parley(tmp_path_factory.mktemp("sdk"), **with_claude(fake))) as process,
    ):
        yield process


@pytest.fixture
def sdk(server: Process) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="anything", max_retries=0) as made:
        yield made


def test_a_whole_conversation_with_tools_runs_through_the_sdk_to_the_strict_api(server: Process) -> None:
    with client(server) as http:
        first = execute(
            http,
            "desk",
            '[[think about it]] [[tool look {"seconds": 0}]] [[tool book {"seconds": 0}]]'
            ' [[then tool send {"seconds": 0}]]',
        )
        session_id = first[-1].data["session_id"]
        second = execute(http, "desk", '[[tool look {"seconds": "no number"}]]', session_id=session_id)
        third = execute(http, "desk", "[[count]]", session_id=session_id)

    calls = [frame.data["name"] for frame in first if frame.event == "tool_call"]
    results = {frame.data["name"]: frame.data["output"] for frame in first if frame.event == "tool_result"}
    assert calls == ["look", "book", "send"]
    assert results == {"look": "seen", "book": "booked", "send": "sent"}
    assert first[-1].data["status"] == "completed"
    assert first[-1].data["usage"]["cache_read_input_tokens"] > 0
    assert next(frame for frame in second if frame.event == "tool_result").data["is_error"] is True
    assert second[-1].data["status"] == "completed_with_errors"
    assert "user_texts=3" in text_of(third)


def test_the_sdk_creates_retrieves_lists_and_deletes_sessions(sdk: anthropic.Anthropic) -> None:
    made = sdk.beta.sessions.create(agent="desk", environment_id="any", title="From the SDK", metadata={"team": "blue"})
    found = sdk.beta.sessions.retrieve(made.id)
    listed = [session.id for session in sdk.beta.sessions.list(limit=1)]
    deleted = sdk.beta.sessions.delete(made.id)

    assert isinstance(made, BetaManagedAgentsSession)
    assert (found.title, found.metadata, found.status) == ("From the SDK", {"team": "blue"}, "idle")
    assert found.agent.tools[0].type == "custom"
    assert found.agent.version > 0
    assert made.id in listed
    assert deleted.type == "session_deleted"
    with pytest.raises(anthropic.NotFoundError) as refused:
        sdk.beta.sessions.retrieve(made.id)
    assert refused.value.type == "not_found_error"


def test_the_sdk_lists_events_with_their_types(server: Process, sdk: anthropic.Anthropic) -> None:
    with client(server) as http:
        said = execute(http, "desk", '[[think first]] [[tool look {"seconds": 0}]]')
    session_id = said[-1].data["session_id"]

    events = list(sdk.beta.sessions.events.list(session_id, limit=3))
    ends = list(sdk.beta.sessions.events.list(session_id, types=["session.status_idle"], order="desc"))

    by_type = {event.type: event for event in events}
    assert isinstance(by_type["user.message"], BetaManagedAgentsUserMessageEvent)
    assert isinstance(by_type["agent.tool_use"], BetaManagedAgentsAgentToolUseEvent)
    assert by_type["agent.tool_use"].input == {"seconds": 0}
    assert isinstance(by_type["agent.tool_result"], BetaManagedAgentsAgentToolResultEvent)
    assert by_type["agent.tool_result"].tool_use_id == by_type["agent.tool_use"].id
    assert isinstance(by_type["agent.message"], BetaManagedAgentsAgentMessageEvent)
    assert isinstance(by_type["agent.thinking"], BetaManagedAgentsAgentThinkingEvent)
    assert isinstance(by_type["span.model_request_end"], BetaManagedAgentsSpanModelRequestEndEvent)
    assert by_type["span.model_request_end"].model_usage.output_tokens > 0
    assert [type(event) for event in ends] == [BetaManagedAgentsSessionStatusIdleEvent]


def test_the_sdk_gets_typed_errors(sdk: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.UnprocessableEntityError) as refused:
        sdk.beta.sessions.create(agent="desk", environment_id="any", resources=[{"type": "file", "file_id": "f"}])

    assert refused.value.request_id


def test_another_data_folder_is_another_world(tmp_path: Path, server: Process, sdk: anthropic.Anthropic) -> None:
    made = sdk.beta.sessions.create(agent="desk", environment_id="any")

    with running(lambda: parley(tmp_path)) as other, client(other) as http:
        answer = http.get(f"/v1/sessions/{made.id}")

    assert answer.status_code == 404
