"""Where a context may be cut, what a summary is asked for, and what the model reads afterwards."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parley.core import compaction
from parley.core.answer import Accumulator, Answer
from parley.core.compaction import compacted, replaceable
from parley.core.errors import ModelError
from parley.core.message import dump

from tests.build import answer, said, thought
from tests.fakes.anthropic_rules import sign
from tests.fakes.model import problem_of


def user(text: str = "Hi") -> bytes:
    return dump({"role": "user", "content": [{"type": "text", "text": text}]})


def spoke(text: str = "Hello") -> bytes:
    return dump({"role": "assistant", "content": [{"type": "text", "text": text}]})


def asked(number: int, *, thinks: bool = False) -> bytes:
    thinking = {"type": "thinking", "thinking": "Hm", "signature": sign("Hm", b"")}
    call = {"type": "tool_use", "id": f"toolu_{number}", "name": "any", "input": {}}
    return dump({"role": "assistant", "content": [thinking, call] if thinks else [call]})


def gave(number: int, text: str = "done") -> bytes:
    block = {"type": "tool_result", "tool_use_id": f"toolu_{number}", "content": [{"type": "text", "text": text}]}
    return dump({"role": "user", "content": [block]})


def texts(context: tuple[bytes, ...]) -> list[str]:
    return [block["text"] for each in context for block in json.loads(each)["content"] if block["type"] == "text"]


SUMMARISED = compacted((user(), spoke()), 2, "Earlier.")
assert SUMMARISED
SUMMARY = SUMMARISED[0]
LONG = "x" * 2000


# How much is replaced.


@pytest.mark.parametrize(
    ("context", "replaced"),
    [
        ((), 0),
        ((user(),), 0),
        ((SUMMARY, user()), 0),
        ((SUMMARY, asked(1), gave(1)), 0),
        ((asked(1), gave(1)), 0),
        ((user(LONG), spoke(LONG), user("What now?")), 2),
        ((user(LONG), spoke(LONG), user(LONG)), 2),
        ((SUMMARY, user(LONG), user("What now?")), 2),
        ((user(LONG), spoke(), user(), spoke(), user()), 1),
        ((user(LONG), asked(1), gave(1, LONG)), 1),
        ((user(LONG), asked(1), gave(1, LONG), asked(2), gave(2)), 3),
        ((user(), spoke()), 2),
        ((SUMMARY, spoke()), 2),
    ],
    ids=[
        "an empty context",
        "one message that waits for its answer",
        "nothing but a summary before it",
        "nothing but a summary before the results",
        "nothing before the calls",
        "the newest is kept",
        "the newest is kept however long it is",
        "a summary with what followed it",
        "as much is kept as a quarter holds",
        "results are kept with their calls",
        "a result that does not fit is not parted from its call",
        "an answer that stopped for want of room",
        "an answer that stopped for want of room, behind a summary",
    ],
)
def test_the_newest_messages_are_kept(context: tuple[bytes, ...], replaced: int) -> None:
    assert replaceable(context) == replaced


def test_a_large_summary_is_not_replaced_alone() -> None:
    [large] = compacted((user(),), 1, LONG * 5) or ()

    assert replaceable((large, user(), spoke(), user())) == 2


# What the model reads afterwards.


def test_a_summary_stands_where_the_first_messages_were() -> None:
    context = compacted((user("One"), spoke("Two"), user("Three")), 2, "They counted.")

    assert context is not None
    summary, three = texts(context)
    assert summary == f"{compaction.OPENING}\n\nThey counted."
    assert three == "Three"
    assert compaction.summary_in(context[0])
    assert not compaction.summary_in(context[1])


@pytest.mark.parametrize(
    ("context", "replaced"),
    [
        ((), 0),
        ((), 1),
        ((user(),), 0),
        ((user(),), 2),
        ((user(),), -1),
        ((user(), asked(1), gave(1)), 2),
        ((user(), asked(1)), 2),
    ],
)
def test_a_boundary_that_would_part_a_pair_or_lies_outside_is_none(context: tuple[bytes, ...], replaced: int) -> None:
    assert compacted(context, replaced, "Earlier.") is None


def test_an_empty_summary_is_none() -> None:
    assert compacted((user(), user()), 1, " \n") is None


def test_what_is_kept_loses_its_thinking_because_what_was_before_it_has_changed() -> None:
    context = compacted((user(), asked(1, thinks=True), gave(1), asked(2, thinks=True), gave(2)), 1, "Earlier.")

    assert context is not None
    assert not any(b'"thinking"' in message for message in context)
    assert problem_of(context) is None


@st.composite
def contexts(draw: st.DrawFn) -> tuple[bytes, ...]:
    """Whole exchanges as a log may leave them; the model has still to answer the last."""
    messages: list[bytes] = []
    for number in range(draw(st.integers(0, 8))):
        size = draw(st.sampled_from([1, 300, 5000]))
        match draw(st.sampled_from(["said", "talk", "call"])):
            case "said":
                messages.append(user("x" * size))
            case "talk":
                messages += [user("x" * size), spoke("y" * size)]
            case _:
                first = [] if messages else [user()]
                messages += [*first, asked(number, thinks=draw(st.booleans())), gave(number, "z" * size)]
    return (*messages, user("And now?"))


@settings(max_examples=300, deadline=None)
@given(contexts(), st.data())
def test_at_any_legal_boundary_the_model_accepts_the_request_for_a_summary_and_what_comes_of_it(
    context: tuple[bytes, ...], data: st.DataObject
) -> None:
    replaced = data.draw(st.integers(1, len(context)))
    after = compacted(context, replaced, "Earlier.")

    if after is not None:
        assert problem_of(compaction.request(context, replaced)) is None
        assert problem_of(compaction.request(context, replaced, excerpt_bytes=1000)) is None
        assert problem_of(after) is None
        assert len(after) == 1 + len(context) - replaced


@settings(max_examples=300, deadline=None)
@given(contexts())
def test_what_is_chosen_is_legal_keeps_little_and_always_the_last_message(context: tuple[bytes, ...]) -> None:
    replaced = replaceable(context)

    after = compacted(context, replaced, "Earlier.")
    if replaced:
        assert after is not None
        assert after[-1] == context[-1]
        assert sum(map(len, after[1:-1])) <= sum(map(len, context)) / compaction.KEPT_SHARE
        assert replaceable(after) in range(len(context))


def test_a_compaction_of_a_compaction_ends() -> None:
    context: tuple[bytes, ...] = (user(), spoke(), user(), spoke(), user())

    rounds = 0
    while replaced := replaceable(context):
        context = compacted(context, replaced, "Earlier.") or ()
        rounds += 1

    assert rounds <= 3
    assert len(context) == 2


# What is asked for.


def test_a_summary_is_asked_for_behind_the_very_bytes_that_the_model_has_read_before() -> None:
    context = (user("One"), spoke("Two"), user("Three"))

    asked_for = compaction.request(context, 2)

    assert asked_for[:2] == context[:2]
    assert texts(asked_for)[-1] == compaction.REQUEST
    assert compaction.asks_for_summary(asked_for[-1])
    assert not compaction.asks_for_summary(context[-1])


def test_excerpts_hold_the_beginning_of_every_message_and_fit() -> None:
    context = tuple(user(f"Number {number} {'€' * 5000}") for number in range(20))

    [asked_for] = compaction.request(context, 18, excerpt_bytes=6000)

    text = texts((asked_for,))[0]
    assert text.startswith(compaction.REQUEST)
    assert [f"Number {number} " in text for number in range(20)] == [True] * 18 + [False] * 2
    assert len(text.encode()) < 6000 + len(compaction.REQUEST) + 200
    assert compaction.asks_for_summary(asked_for)


def test_when_even_excerpts_do_not_fit_the_oldest_are_left_out() -> None:
    context = tuple(user(f"Number {number}.{'x' * 5000}") for number in range(100))

    [asked_for] = compaction.request(context, 99, excerpt_bytes=1000)

    text = texts((asked_for,))[0]
    assert "Number 98." in text
    assert "Number 90." not in text


def whole(*blocks: Any, **options: Any) -> Answer:
    accumulator = Accumulator()
    for raw in answer(*blocks, **options):
        accumulator.take(raw)
    return accumulator.answer()


def test_a_summary_is_the_text_of_an_answer() -> None:
    assert compaction.summary_of(whole(thought(), said("They ", "counted."), said(" Then: more. "))) == (
        "They counted.\n\n Then: more."
    )


def test_when_the_model_refuses_to_summarise_the_beginnings_of_the_newest_messages_stand_in() -> None:
    head = tuple(user(f"Number {n}. {'x' * 5000}") for n in range(100))

    summary = compaction.summary_of(whole(said("I will not."), stop_reason="refusal"), head)

    assert summary.startswith(compaction.UNTOLD)
    assert "I will not." not in summary
    assert ("Number 99." in summary, "Number 0." in summary) == (True, False)
    assert len(summary) < 10_000


@pytest.mark.parametrize(
    ("stop_reason", "failure"),
    [
        ("end_turn", "cut_short"),
        ("model_context_window_exceeded", "context_full"),
    ],
)
def test_an_answer_without_a_summary_is_a_failure(stop_reason: str, failure: str) -> None:
    with pytest.raises(ModelError) as caught:
        compaction.summary_of(whole(said(" \n"), stop_reason=stop_reason))

    assert caught.value.failure == failure
