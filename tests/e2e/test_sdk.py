"""The unmodified `anthropic` SDK as our client, and as our way to the model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.types.beta import BetaManagedAgentsSession, BetaManagedAgentsSessionUpdatedEvent
from anthropic.types.beta.sessions import (
    BetaManagedAgentsAgentMessageEvent,
    BetaManagedAgentsAgentThinkingEvent,
    BetaManagedAgentsAgentToolResultEvent,
    BetaManagedAgentsAgentToolUseEvent,
    BetaManagedAgentsSessionStatusIdleEvent,
    BetaManagedAgentsSessionStatusTerminatedEvent,
    BetaManagedAgentsSpanModelRequestEndEvent,
    BetaManagedAgentsUserInterruptEvent,
    BetaManagedAgentsUserMessageEvent,
)

from tests.build import picture
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


def test_the_sdk_updates_and_archives_sessions(sdk: anthropic.Anthropic) -> None:
    made = sdk.beta.sessions.create(agent="desk", environment_id="any", title="Rent", metadata={"of": "May"})

    updated = sdk.beta.sessions.update(made.id, title="Rent of May", metadata={"of": None, "paid": "no"})
    archived = sdk.beta.sessions.archive(made.id)
    events = list(sdk.beta.sessions.events.list(made.id))
    listed = [session.id for session in sdk.beta.sessions.list(limit=10)]
    found = [session.id for session in sdk.beta.sessions.list(limit=10, include_archived=True)]

    assert (updated.title, updated.metadata, updated.archived_at) == ("Rent of May", {"paid": "no"}, None)
    assert (archived.status, archived.archived_at is None) == ("terminated", False)
    assert [type(event) for event in events] == [
        BetaManagedAgentsSessionUpdatedEvent,
        BetaManagedAgentsSessionStatusTerminatedEvent,
    ]
    assert made.id not in listed
    assert made.id in found
    assert sdk.beta.sessions.archive(made.id) == archived == sdk.beta.sessions.retrieve(made.id)
    with pytest.raises(anthropic.ConflictError, match="archived"):
        sdk.beta.sessions.update(made.id, title="More")


def test_the_sdk_gives_a_session_a_budget_and_raises_it(sdk: anthropic.Anthropic) -> None:
    made = sdk.beta.sessions.create(
        agent="desk",
        environment_id="any",
        budget={"type": "limit", "max_list_cost": {"amount": "500", "currency": "USD"}},
    )
    raised = sdk.beta.sessions.update(
        made.id, budget={"type": "limit", "max_list_cost": {"amount": "700", "currency": "USD"}}
    )
    removed = sdk.beta.sessions.update(made.id, budget=None)
    events = list(sdk.beta.sessions.events.list(made.id))

    assert made.budget is not None
    assert raised.budget is not None
    assert (made.budget.max_list_cost.amount, raised.budget.max_list_cost.amount) == ("500", "700")
    assert removed.budget is None
    assert raised.usage.list_cost is not None
    assert raised.usage.list_cost.amount == "0"
    assert [event.type for event in events] == ["session.updated"] * 3


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


def test_the_sdk_sends_twenty_images_that_the_strict_api_takes(sdk: anthropic.Anthropic) -> None:
    made = sdk.beta.sessions.create(agent="desk", environment_id="any")
    pictures = [picture(200_000, seed).model_dump() for seed in range(20)]
    content: Any = [*pictures, {"type": "text", "text": "[[count]]"}]

    with sdk.beta.sessions.events.stream(made.id, extra_query={"until": "idle"}) as stream:
        sent = sdk.beta.sessions.events.send(made.id, events=[{"type": "user.message", "content": content}])
        told = [event.model_dump()["content"][0]["text"] for event in stream if event.type == "agent.message"]
    [listed] = sdk.beta.sessions.events.list(made.id, types=["user.message"])

    assert told == ["messages=1 user_texts=1 tool_results=0 images=20"]
    assert sent.data is not None
    assert isinstance(sent.data[0], BetaManagedAgentsUserMessageEvent)
    assert [block.model_dump() for block in sent.data[0].content] == content
    assert isinstance(listed, BetaManagedAgentsUserMessageEvent)
    assert [block.model_dump() for block in listed.content] == content


def test_images_alone_are_a_message_for_the_sdk(sdk: anthropic.Anthropic) -> None:
    made = sdk.beta.sessions.create(agent="desk", environment_id="any")
    content: Any = [picture().model_dump(), {"type": "image", "source": {"type": "url", "url": "https://e.com/a.png"}}]

    with sdk.beta.sessions.events.stream(made.id, extra_query={"until": "idle"}) as stream:
        sdk.beta.sessions.events.send(made.id, events=[{"type": "user.message", "content": content}])
        ends = [event.stop_reason.type for event in stream if event.type == "session.status_idle"]

    assert ends == ["end_turn"]


def test_the_sdk_interrupts_a_run_and_sends_what_is_to_be_done_instead(sdk: anthropic.Anthropic) -> None:
    made = sdk.beta.sessions.create(agent="desk", environment_id="any")
    slow: Any = [{"type": "text", "text": '[[tool look {"seconds": 1}]] [[then tool send {"seconds": 0}]]'}]
    instead: Any = [{"type": "text", "text": "[[count]]"}]

    with sdk.beta.sessions.events.stream(made.id, extra_query={"until": "idle"}) as stream:
        sdk.beta.sessions.events.send(made.id, events=[{"type": "user.message", "content": slow}])
        told = []
        for event in stream:
            told.append(event)
            if event.type == "agent.tool_use":
                sent = sdk.beta.sessions.events.send(
                    made.id,
                    events=[{"type": "user.interrupt"}, {"type": "user.message", "content": instead}],
                )

    assert sent.data is not None
    assert isinstance(sent.data[0], BetaManagedAgentsUserInterruptEvent)
    assert isinstance(sent.data[1], BetaManagedAgentsUserMessageEvent)
    assert [event.type for event in told if event.type == "agent.tool_use"] == ["agent.tool_use"]
    [listed] = sdk.beta.sessions.events.list(made.id, types=["user.interrupt"])
    assert isinstance(listed, BetaManagedAgentsUserInterruptEvent)
    said = [event.model_dump()["content"][0]["text"] for event in told if event.type == "agent.message"]
    assert said[-1].startswith("messages=")


def test_the_sdk_gets_typed_errors(sdk: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.UnprocessableEntityError) as refused:
        sdk.beta.sessions.create(agent="desk", environment_id="any", resources=[{"type": "file", "file_id": "f"}])

    assert refused.value.request_id


def test_the_sdk_is_told_which_image_cannot_be_taken(sdk: anthropic.Anthropic) -> None:
    made = sdk.beta.sessions.create(agent="desk", environment_id="any")
    file: Any = {"type": "image", "source": {"type": "file", "file_id": "file_1"}}
    content: Any = [{"type": "text", "text": "Hi"}, file]
    large: Any = [picture(4_000_000).model_dump()] * 3

    with pytest.raises(anthropic.UnprocessableEntityError, match=r"content\.1\.image\.source"):
        sdk.beta.sessions.events.send(made.id, events=[{"type": "user.message", "content": content}])
    with pytest.raises(anthropic.RequestTooLargeError):
        sdk.beta.sessions.events.send(made.id, events=[{"type": "user.message", "content": large}])


def test_another_data_folder_is_another_world(tmp_path: Path, server: Process, sdk: anthropic.Anthropic) -> None:
    made = sdk.beta.sessions.create(agent="desk", environment_id="any")

    with running(lambda: parley(tmp_path)) as other, client(other) as http:
        answer = http.get(f"/v1/sessions/{made.id}")

    assert answer.status_code == 404
