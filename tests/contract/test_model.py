"""The contract of the `Model` port, run by Claude against the strict fake and by the scripted model."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
from parley.adapters.claude import over_api
from parley.adapters.claude.deferred import DeferredModel
from parley.adapters.scripted import ScriptedModel
from parley.adapters.system import SystemClock
from parley.core.message import dump
from parley.ports import Model

from tests.contract.provider import answer_of, events_of, fake_anthropic, request, user

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Subject:
    """A model, and what to say to it: to be answered, and to have `quote` called with 5 and alice."""

    model: Model
    answer: str
    call: str


@pytest.fixture(scope="module")
def fake() -> Iterator[str]:
    with fake_anthropic() as url:
        yield url


@pytest.fixture
async def claude(fake: str) -> AsyncIterator[DeferredModel]:
    model = over_api(api_key="test-key", base_url=fake)
    yield model
    await model.close()


@pytest.fixture(params=["claude", "scripted"])
def subject(request: pytest.FixtureRequest) -> Subject:
    if request.param == "scripted":
        return Subject(ScriptedModel(SystemClock(), 0), "Hello!", "Quote 5 to alice")
    call = '[[think Five, then.]] [[tool quote {"amount": 5, "to": "alice"}]]'
    return Subject(request.getfixturevalue("claude"), "[[think Well.]] [[text 20x8]]", call)


async def test_an_answer_is_whole(subject: Subject) -> None:
    answer, _ = await answer_of(subject.model, request(subject.answer))

    assert [block.kind for block in answer.blocks] == ["agent.thinking", "agent.message"]
    assert all(block.text for block in answer.blocks)
    assert answer.stop_reason == "end_turn"


async def test_the_pieces_join_to_the_blocks(subject: Subject) -> None:
    answer, pieces = await answer_of(subject.model, request(subject.answer))

    for block in answer.blocks:
        own = [piece for piece in pieces if piece.key == block.key]
        assert own[0].text == ""
        assert "".join(piece.text for piece in own) == block.text
        assert {piece.kind for piece in own} == {block.kind}


async def test_events_come_in_the_order_of_the_api(subject: Subject) -> None:
    events = await events_of(subject.model, request(subject.call))

    marks = {
        "message_start": "<",
        "content_block_start": "(",
        "content_block_delta": ".",
        "content_block_stop": ")",
    }
    marks |= {"message_delta": "=", "message_stop": ">", "ping": ""}
    assert re.fullmatch(r"<(\(\.+\)){2}=>", "".join(marks[event["type"]] for event in events))
    assert [event["index"] for event in events if event["type"] == "content_block_start"] == [0, 1]


async def test_the_input_of_a_call_is_whole_and_comes_in_pieces(subject: Subject) -> None:
    events = await events_of(subject.model, request(subject.call))
    answer, _ = await answer_of(subject.model, request(subject.call))

    pieces = [event["delta"]["partial_json"] for event in events if "partial_json" in event.get("delta", {})]
    call = answer.blocks[-1]
    assert len(pieces) > 2
    assert answer.stop_reason == "tool_use"
    assert (call.kind, call.name, call.input) == ("agent.tool_use", "quote", {"amount": 5, "to": "alice"})
    assert call.provider_id


async def test_usage_is_counted(subject: Subject) -> None:
    answer, _ = await answer_of(subject.model, request(subject.answer))

    usage = answer.usage
    assert usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens > 20
    assert usage.output_tokens > 5


async def test_thinking_is_signed_and_can_be_turned_off(subject: Subject) -> None:
    thoughtful, _ = await answer_of(subject.model, request(subject.answer))
    short, _ = await answer_of(subject.model, request(subject.answer, thinking_tokens=0))

    assert thoughtful.blocks[0].signature
    assert [block.kind for block in short.blocks] == ["agent.message"]


async def test_closing_early_is_clean_and_leaves_the_model_usable(subject: Subject) -> None:
    stream = subject.model.stream(request(subject.answer))
    first = await anext(stream)

    await stream.aclose()
    answer, _ = await answer_of(subject.model, request(subject.answer))

    assert first["type"] == "message_start"
    assert answer.stop_reason == "end_turn"


async def test_answers_at_the_same_time_do_not_mix(subject: Subject) -> None:
    alone = [await answer_of(subject.model, request(text)) for text in (subject.answer, subject.call)]

    together = await asyncio.gather(
        *(answer_of(subject.model, request(text)) for text in (subject.answer, subject.call) * 5)
    )

    texts = [[block.text for block in answer.blocks] for answer, _ in together]
    assert texts == [[block.text for block in answer.blocks] for answer, _ in alone] * 5


async def test_a_conversation_with_a_call_goes_on_with_what_was_answered(subject: Subject) -> None:
    asked, _ = await answer_of(subject.model, request(subject.call))
    first, call = asked.blocks
    messages = [
        user(subject.call),
        dump({"role": "assistant", "content": [
            {"type": "thinking", "thinking": first.text, "signature": first.signature},
            {"type": "tool_use", "id": call.provider_id, "name": call.name, "input": call.input},
        ]}),
        dump({"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": call.provider_id, "is_error": False,
             "content": [{"type": "text", "text": "The fee is 0.05."}]},
        ]}),
    ]  # fmt: skip

    answer, _ = await answer_of(subject.model, request(*messages))

    assert "The fee is 0.05." in answer.blocks[-1].text
    assert answer.stop_reason == "end_turn"
