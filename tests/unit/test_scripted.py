"""The scripted model: what it makes of plain words, with the demo agent's tools and with others."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import agent as wallet
import pytest
from parley import Agent, tool
from parley.adapters.scripted import ScriptedModel
from parley.adapters.scripted.reply import example
from parley.adapters.scripted.words import offers, wishes
from parley.core import compaction
from parley.core.answer import Accumulator, Answer
from parley.core.compose import EDITED
from parley.core.message import dump
from parley.core.restore import SET_BACK
from parley.ports import ModelRequest

from tests.build import picture


@tool(effect="read")
def get_weather(city: str, days: int | None = None) -> str:
    """Return the weather forecast for a city."""
    return f"It is sunny in {city}."


@tool(effect="read")
def search_docs(query: str, limit: int = 10) -> list[str]:
    """Search the documentation."""
    return [query]


@tool
def book_flight(origin: str, passengers: int, cabin: Literal["economy", "business"], refundable: bool) -> None:
    """Book a journey by plane. Needs the airport."""


@tool
def tag(tags: list[str]) -> None:
    """Put labels onto something."""


@tool
def add_up(numbers: list[float]) -> float:
    """Sum."""
    return sum(numbers)


@tool
def filter_rows(where: dict[str, str]) -> None:
    """Choose rows."""


OFFICE = Agent(
    id="office",
    prompt="Help.",
    tools=(get_weather, search_docs, book_flight, tag, add_up, filter_rows),
)


@dataclass
class StillClock:
    """Notes every pause and makes none."""

    pauses: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return datetime(2026, 11, 20, tzinfo=UTC)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


@dataclass
class Talk:
    """A conversation whose tools answer as they are told."""

    agent: Agent
    messages: list[bytes] = field(default_factory=list)

    async def say(self, text: str, images: int = 0) -> Answer:
        words = [{"type": "text", "text": text}] if text else []
        self._add("user", [*[picture(100_000).model_dump()] * images, *words])
        return await self._answer()

    async def give(self, *results: object, is_error: bool = False, before: str = "") -> Answer:
        """Give results for the calls of the last answer, in order, each behind words of somebody else."""
        words = [{"type": "text", "text": before}] if before else []
        asked = [block for block in json.loads(self.messages[-1])["content"] if block["type"] == "tool_use"]
        assert len(asked) == len(results)
        blocks = [
            {
                "type": "tool_result",
                "tool_use_id": block["id"],
                "content": [
                    *words,
                    {"type": "text", "text": result if isinstance(result, str) else json.dumps(result)},
                ],
                "is_error": is_error,
            }
            for block, result in zip(asked, results, strict=True)
        ]
        self._add("user", blocks)
        return await self._answer()

    async def _answer(self) -> Answer:
        answer = await answer_to(request(self.agent, *self.messages))
        blocks: list[dict[str, Any]] = []
        for block in answer.blocks:
            if block.kind == "agent.message":
                blocks.append({"type": "text", "text": block.text})
            if block.kind == "agent.tool_use":
                use = {"type": "tool_use", "id": block.provider_id, "name": block.name, "input": block.input}
                blocks.append(use)
        self._add("assistant", blocks)
        return answer

    def _add(self, role: str, content: list[dict[str, Any]]) -> None:
        self.messages.append(dump({"role": role, "content": content}))


def request(agent: Agent, *messages: bytes, thinking_tokens: int = 2000) -> ModelRequest:
    return ModelRequest(agent.model, agent.prompt, agent.tools_json, messages, 16_000, thinking_tokens)


async def answer_to(asked: ModelRequest) -> Answer:
    accumulator = Accumulator()
    async for event in ScriptedModel(StillClock(), 0).stream(asked):
        accumulator.take(event)
    return accumulator.answer()


def calls(answer: Answer) -> list[tuple[str, dict[str, Any]]]:
    return [(block.name, block.input) for block in answer.blocks if block.kind == "agent.tool_use"]


def text(answer: Answer) -> str:
    return "".join(block.text for block in answer.blocks if block.kind == "agent.message")


# The demo agent


async def test_a_question_becomes_a_thought_and_a_call_and_then_a_sentence() -> None:
    talk = Talk(wallet.agent)

    asked = await talk.say("What is my balance?")
    told = await talk.give({"balance": "94.95"})

    assert [block.kind for block in asked.blocks] == ["agent.thinking", "agent.tool_use"]
    assert calls(asked) == [("balance", {})]
    assert asked.stop_reason == "tool_use"
    assert [block.kind for block in told.blocks] == ["agent.thinking", "agent.message"]
    assert text(told) == "Your balance is 94.95."
    assert told.stop_reason == "end_turn"


async def test_a_payment_is_quoted_before_it_is_made() -> None:
    talk = Talk(wallet.agent)

    first = await talk.say("Pay 5 to alice")
    second = await talk.give({"amount": "5.00", "fee": "0.05"})
    told = await talk.give({"payee": "alice", "balance": "94.95"})

    assert calls(first) == [("quote", {"amount": 5, "to": "alice"})]
    assert calls(second) == [("pay", {"amount": 5, "to": "alice"})]
    assert text(told) == (
        "- Quote: the amount is 5.00 and the fee is 0.05.\n- Pay: the payee is alice and the balance is 94.95."
    )


@pytest.mark.parametrize(
    ("said", "made"),
    [
        ("balance", [("balance", {})]),
        ("How much money do I have left?", [("balance", {})]),
        ("Quote 5 EUR to alice", [("quote", {"amount": 5, "to": "alice"})]),
        (
            'Quote 1,000.50 for "Mister and Missus Smith".',
            [("quote", {"amount": 1000.5, "to": "Mister and Missus Smith"})],
        ),
        ("what would it cost to pay 20 to dan?", [("quote", {"amount": 20, "to": "dan"})]),
        ("Send 3 to Carol Smith, please", [("quote", {"amount": 3, "to": "Carol Smith"})]),
        ("pay alice 5", [("quote", {"amount": 5, "to": "alice"})]),
        ("quote -5 for bob", [("quote", {"amount": -5, "to": "bob"})]),
        (
            "check my balance and quote 10 for bob",
            [("balance", {}), ("quote", {"amount": 10, "to": "bob"})],
        ),
        (
            "quote 5 to alice and 7.50 to bob",
            [("quote", {"amount": 5, "to": "alice"}), ("quote", {"amount": 7.5, "to": "bob"})],
        ),
        ("Donate 5 to alice", [("donate", {"amount": 5, "to": "alice"})]),
        (
            "Donate 5 to alice, 6 to bob and 7 to carol",
            [("donate", {"amount": n, "to": to}) for n, to in ((5, "alice"), (6, "bob"), (7, "carol"))],
        ),
        ('quote {"amount": "1.00", "to": "x"}', [("quote", {"amount": "1.00", "to": "x"})]),
    ],
)
async def test_sentences_become_calls_of_the_wallet(said: str, made: list[tuple[str, dict[str, Any]]]) -> None:
    answer = await Talk(wallet.agent).say(said)

    assert calls(answer) == made


async def test_then_makes_one_thing_follow_another() -> None:
    talk = Talk(wallet.agent)

    rounds = [await talk.say("quote 5 to alice, then show my balance"), await talk.give({"fee": "0.05"})]
    told = await talk.give({"balance": "100.00"})

    assert [calls(made)[0][0] for made in rounds] == ["quote", "balance"]
    assert text(told) == "- Your fee is 0.05.\n- Your balance is 100.00."


async def test_what_is_missing_is_asked_for_and_the_answer_is_understood() -> None:
    talk = Talk(wallet.agent)

    asked = await talk.say("quote something")
    asked_again = await talk.say("12.50")
    made = await talk.say("alice")

    assert text(asked) == "For quote I still need “amount” and “to”. You could say: “Quote 5 to alice”."
    assert text(asked_again) == "For quote I still need “to”. You could say: “Quote 5 to alice”."
    assert calls(made) == [("quote", {"amount": 12.5, "to": "alice"})]


async def test_another_request_instead_of_the_missing_word_is_a_new_request() -> None:
    talk = Talk(wallet.agent)

    await talk.say("quote 5")
    made = await talk.say("What is my balance?")

    assert calls(made) == [("balance", {})]


async def test_a_tool_that_failed_is_told_and_ends_the_plan() -> None:
    talk = Talk(wallet.agent)

    await talk.say("pay 1000 to eve")
    told = await talk.give("ValueError: 1010.00 is more than the 100.00 that are left.", is_error=True)

    assert calls(told) == []
    assert text(told) == "“quote” did not work: 1010.00 is more than the 100.00 that are left."


async def test_a_call_with_no_known_outcome_is_not_called_a_failure_or_a_success() -> None:
    talk = Talk(wallet.agent)

    await talk.say("balance")
    told = await talk.give("The run ended before this call had a result.", is_error=True)

    assert text(told).startswith("I do not know whether “balance” happened: The run ended before")


async def test_of_a_call_that_a_person_edited_it_tells_the_result() -> None:
    talk = Talk(wallet.agent)

    await talk.say("Donate 5 to alice")
    told = await talk.give({"donated": "3.00"}, before=f'{EDITED} {{"amount": 3, "to": "alice"}}')

    assert text(told) == "Your donated is 3.00."


async def test_that_a_conversation_was_set_back_is_nothing_that_a_person_said() -> None:
    talk = Talk(wallet.agent)

    await talk.say("Hello!")
    await talk.say(SET_BACK)
    last = await talk.say("What did I ask before?")

    assert text(last) == "Before this you said “Hello!”."


async def test_it_remembers_what_was_said() -> None:
    talk = Talk(wallet.agent)

    first = await talk.say("What did I ask before?")
    await talk.say("Hello!")
    last = await talk.say("What did I ask before?")

    assert text(first) == "This is the first thing you said to me here."
    assert text(last) == "Before this you said “What did I ask before?” and “Hello!”."


@pytest.mark.parametrize(
    ("said", "opening"),
    [
        ("Hello!", "Hello! I am a scripted stand-in"),
        ("tell me a joke", "I found no tool for that."),
        ("What can you do?", "Gladly."),
    ],
)
async def test_it_says_what_it_is_and_what_it_can_do(said: str, opening: str) -> None:
    answer = await Talk(wallet.agent).say(said)

    assert text(answer).startswith(opening)
    assert "“Show balance”: Look up the test money" in text(answer)
    assert "“Pay 5 to alice”" in text(answer)


@pytest.mark.parametrize(("images", "seen"), [(1, "I see 1 image."), (20, "I see 20 images.")])
@pytest.mark.parametrize("words", ["", "What are these?"])
async def test_it_sees_how_many_images_there_are(images: int, seen: str, words: str) -> None:
    talk = Talk(wallet.agent)

    first = await talk.say(words, images)
    then = await talk.say("Hello!")

    assert text(first).startswith(seen)
    assert text(then).startswith("Hello!")


async def test_it_does_what_is_asked_for_beside_an_image() -> None:
    answer = await Talk(wallet.agent).say("Show balance", images=1)

    assert calls(answer) == [("balance", {})]


async def test_of_messages_without_words_it_says_nothing_later() -> None:
    talk = Talk(wallet.agent)
    await talk.say("", images=2)
    await talk.say("Hello!")

    assert text(await talk.say("What did I ask before?")) == "Before this you said “Hello!”."


async def test_an_image_costs_what_images_cost_and_not_its_bytes() -> None:
    message = dump({"role": "user", "content": [picture(1_000_000).model_dump(), {"type": "text", "text": "Hi"}]})

    answer = await answer_to(request(wallet.agent, message))

    assert 1600 < answer.usage.input_tokens < 3600


async def test_an_agent_without_tools_is_told_from_one_with_tools() -> None:
    answer = await Talk(Agent(id="bare", prompt="Help.")).say("Hello!")

    assert text(answer).endswith("this agent has no tools.")


# Other agents' tools


@pytest.mark.parametrize(
    ("said", "made"),
    [
        ("What's the weather in New York tomorrow?", [("get_weather", {"city": "New York"})]),
        (
            "weather in paris and in london",
            [("get_weather", {"city": "paris"}), ("get_weather", {"city": "london"})],
        ),
        ("forecast for Rome", [("get_weather", {"city": "Rome"})]),
        ("get_weather city=Oslo", [("get_weather", {"city": "Oslo"})]),
        ("search the docs for cats and dogs", [("search_docs", {"query": "cats and dogs"})]),
        ('search docs about "now and then, streams"', [("search_docs", {"query": "now and then, streams"})]),
        (
            "Book a flight, origin Berlin, for 2 passengers in business, not refundable",
            [
                (
                    "book_flight",
                    {"origin": "Berlin", "passengers": 2, "cabin": "business", "refundable": False},
                )
            ],
        ),
        ('tag "red" and "blue"', [("tag", {"tags": ["red", "blue"]})]),
        ("add up 1, 2.5 and 3", [("add_up", {"numbers": [1, 2.5, 3]})]),
        ('filter_rows {"where": {"a": "b"}}', [("filter_rows", {"where": {"a": "b"}})]),
    ],
)
async def test_arguments_are_found_by_their_schema(said: str, made: list[tuple[str, dict[str, Any]]]) -> None:
    answer = await Talk(OFFICE).say(said)

    assert calls(answer) == made


async def test_a_missing_choice_is_asked_for_with_what_there_is_to_choose_from() -> None:
    answer = await Talk(OFFICE).say("book a flight, origin Berlin, 2 passengers, refundable")

    assert "I still need “cabin” (economy, business)." in text(answer)


def test_every_sentence_that_it_suggests_works() -> None:
    for agent in (wallet.agent, OFFICE):
        offered = offers(agent.tools_json)
        for offer in offered:
            made = [wish for found in wishes(example(offer), offered) for wish in found]

            assert [(wish.name, wish.missing) for wish in made] == [(offer.name, ())]


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ("It is sunny in Rome.", "It is sunny in Rome."),
        ("sunny", "Get weather: sunny."),
        ("", "Get weather: done."),
        ("[]", "Get weather: nothing."),
        ('["a", "b", "c"]', "Get weather: a, b and c."),
        ('{"warm": true}', "Your warm is yes."),
        (
            '{"low_degrees": 3, "clouds": null}',
            "Get weather: the low degrees is 3 and the clouds is nothing.",
        ),
        ('[{"a": 1}]', 'Get weather: [{"a": 1}].'),
        ("x" * 1000, f"Get weather: {'x' * 500}…."),
        ("[" * 100_000, f"Get weather: {'[' * 500}…."),
    ],
)
async def test_results_are_put_into_words(result: str, told: str) -> None:
    talk = Talk(OFFICE)

    await talk.say("weather in Rome")
    answer = await talk.give(result)

    assert text(answer) == told


# Like the API


# Long sessions


async def summarised(talk: Talk, replaced: int) -> None:
    """Compact a conversation as the engine does."""
    asked = request(talk.agent, *compaction.request(talk.messages, replaced), thinking_tokens=0)
    summary = compaction.summary_of(await answer_to(asked))
    talk.messages = list(compaction.compacted(tuple(talk.messages), replaced, summary) or ())


async def test_a_request_for_a_summary_is_answered_in_words() -> None:
    talk = Talk(wallet.agent)
    await talk.say("Pay 5 to alice")
    await talk.give({"amount": "5.00", "fee": "0.05"})

    summary = await answer_to(request(talk.agent, *compaction.request(talk.messages, 3), thinking_tokens=0))

    assert summary.stop_reason == "end_turn"
    assert [block.kind for block in summary.blocks] == ["agent.message"]
    assert "Pay 5 to alice" in text(summary)
    assert "0.05" in text(summary)


async def test_a_compaction_between_two_calls_changes_nothing_of_what_follows() -> None:
    plain, compacted = Talk(wallet.agent), Talk(wallet.agent)
    for talk in (plain, compacted):
        await talk.say("Hello")
        await talk.say("Pay 5 to alice, then show my balance")
        await talk.give({"amount": "5.00", "fee": "0.05"})

    await summarised(compacted, 3)
    later = [
        [await talk.give({"payee": "alice"}), await talk.give({"balance": "94.95"})] for talk in (plain, compacted)
    ]

    assert len(compacted.messages) < len(plain.messages)
    assert [calls(each[0]) for each in later] == [[("balance", {})]] * 2
    assert [text(each[1]) for each in later] == [text(later[0][1])] * 2
    assert "94.95" in text(later[0][1])


async def test_a_question_that_was_asked_is_still_answered_behind_a_summary() -> None:
    talk = Talk(wallet.agent)
    asked = await talk.say("Pay alice")
    await summarised(talk, 2)

    answer = await talk.say("5")

    assert "I still need" in text(asked)
    assert calls(answer) == [("quote", {"amount": 5, "to": "alice"})]


async def test_what_was_said_is_remembered_through_two_summaries() -> None:
    talk = Talk(wallet.agent)
    for said in ("Hello", "Thank you", 'Say "one\u2028two"'):
        await talk.say(said)
        await summarised(talk, len(talk.messages))

    answer = await talk.say("What did I say before?")

    assert all(said in text(answer) for said in ("Hello", "Thank you", "one\u2028two"))


async def test_a_summary_of_another_model_makes_it_call_nothing() -> None:
    talk = Talk(wallet.agent, list(compaction.compacted((b"{}",), 1, "You have said:\n- pay 5 to alice") or ()))

    answer = await talk.say("Hm")

    assert calls(answer) == []


async def test_the_same_request_gives_the_same_answer() -> None:
    asked = request(wallet.agent, dump({"role": "user", "content": [{"type": "text", "text": "balance"}]}))
    model = ScriptedModel(StillClock(), 0)

    first = [event async for event in model.stream(asked)]
    second = [event async for event in model.stream(asked)]

    assert first == second


async def test_ids_of_calls_are_new_in_every_round() -> None:
    talk = Talk(wallet.agent)

    answers = [await talk.say("balance"), await talk.give({"balance": "1"}), await talk.say("balance")]

    ids = [block.provider_id for answer in answers for block in answer.blocks if block.provider_id]
    assert len(set(ids)) == 2


async def test_it_thinks_only_where_it_is_asked_to() -> None:
    message = dump({"role": "user", "content": [{"type": "text", "text": "hello"}]})

    thinking = await answer_to(request(wallet.agent, message))
    not_thinking = await answer_to(request(wallet.agent, message, thinking_tokens=0))

    assert thinking.blocks[0].signature
    assert [block.kind for block in not_thinking.blocks] == ["agent.message"]


async def test_it_pauses_before_each_delta_and_nowhere_else() -> None:
    clock = StillClock()
    asked = request(wallet.agent, dump({"role": "user", "content": "hello"}))

    events = [event async for event in ScriptedModel(clock, 0.02).stream(asked)]

    deltas = [event for event in events if event["type"] == "content_block_delta"]
    assert clock.pauses == [0.02] * len(deltas)


@pytest.mark.parametrize(
    "said",
    [
        "a, " * 300_000,
        "(" * 100_000,
        '"' * 100_000,
        "pay {" + "[" * 100_000,
        "1" * 5000,
        "\0",
        " ",
        "\ue001 balance",
    ],
)
async def test_no_text_is_too_much_for_it(said: str) -> None:
    answer = await Talk(wallet.agent).say(said)

    assert answer.stop_reason in ("end_turn", "tool_use")
