"""What a run says, in the words that the client asked for."""

import json
import typing
from collections.abc import Sequence
from typing import Any

import pytest
from anthropic.types.beta import BetaManagedAgentsDeltaEvent, BetaManagedAgentsStartEvent
from anthropic.types.beta.sessions import BetaManagedAgentsSessionEvent
from inline_snapshot import snapshot
from parley.api.summary import Summary
from parley.api.vocabulary import Native, Simple, Speaker, Vocabulary, speaker
from parley.core import control as c
from parley.core import event as e
from parley.core.delta import DraftDiscarded, DraftGrew, DraftStarted, Kind, Output, Rotated
from parley.core.value import TextBlock, Usage
from pydantic import TypeAdapter

from tests.build import answered, event, failed_call, idle, numbered, opened, result, tool_use
from tests.fakes.clock import NOON

SDK_EVENT: TypeAdapter[Any] = TypeAdapter(BetaManagedAgentsSessionEvent)
OURS = (
    "run.",
    "tool.",
    "approval.",
    "plan.",
    "budget.",
    "checkpoint.",
    "session.suspended",
    "session.resumed",
    "session.restored",
)
UNION: tuple[type[e.EventBase], ...] = typing.get_args(typing.get_args(e.Event)[0])

WHOLE_RUN = numbered(
    [
        *opened("run_1"),
        *answered(event(e.AgentMessage, content=(TextBlock(text="I pay."),)), tool_use("call", input={"amount": 5})),
        event(e.ToolIntended),
        result("call", "paid", name="pay"),
        *answered(
            event(e.AgentThinking, thinking="Hm"),
            event(e.AgentMessage, content=(TextBlock(text="Paid."),)),
            model_usage=Usage(input_tokens=7, output_tokens=3),
        ),
        event(e.RunFinished),
        idle(),
    ]
)


Told = list[tuple[str | None, str, dict[str, Any]]]


def frames(outputs: Sequence[Output], vocabulary: Vocabulary = "simple") -> Told:
    """Say outputs over one connection and read back what a client gets: id, name, data."""
    return said_by(speaker(vocabulary, "sesn_1", "run_1"), outputs)


def said_by(speaks: Speaker, outputs: Sequence[Output]) -> Told:
    told: Told = []
    for frame in filter(None, map(speaks.say, outputs)):
        fields = dict(line.split(": ", 1) for line in frame.decode().strip().split("\n"))
        told.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
    return told


def one(output: Output, vocabulary: Vocabulary = "simple") -> tuple[str, dict[str, Any]]:
    [(_, name, data)] = frames([output], vocabulary)
    return name, data


# Simple words.


def test_a_whole_run_in_simple_words() -> None:
    told = [(id, name) for id, name, _ in frames(WHOLE_RUN)]

    assert told == snapshot(
        [
            ("5", "text"),
            ("6", "tool_call"),
            ("9", "tool_result"),
            ("11", "thinking"),
            ("12", "text"),
            ("14", "complete"),
        ]
    )


def test_of_a_compaction_simple_words_say_nothing() -> None:
    assert frames([event(e.ContextCompacted, seq=7)]) == []


def test_every_simple_frame_says_whose_it_is() -> None:
    outputs = [*WHOLE_RUN, DraftGrew("sevt_1", "agent.message", "x"), DraftDiscarded("sevt_1"), *failed_call()]

    for _, _, data in frames(outputs):
        assert (data["session_id"], data["run_id"]) == ("sesn_1", "run_1")


def test_a_piece_of_text_is_a_frame_without_id() -> None:
    [(id, name, data)] = frames([DraftGrew("sevt_1", "agent.message", 'Hel"\n')])

    assert (id, name) == (None, "text")
    assert data == {"text": 'Hel"\n', "message_id": "sevt_1", "session_id": "sesn_1", "run_id": "run_1"}


def test_a_piece_of_thinking_is_said_as_thinking() -> None:
    assert one(DraftGrew("sevt_1", "agent.thinking", "Hm"))[0] == "thinking"


def test_the_text_of_a_message_goes_over_a_connection_once() -> None:
    message = event(e.AgentMessage, id="sevt_1", seq=5, content=(TextBlock(text="Hello"),))
    pieces: list[Output] = [DraftStarted("sevt_1", "agent.message"), DraftGrew("sevt_1", "agent.message", "Hello")]

    live = frames([*pieces, message])
    replayed = frames([message])

    assert [data["text"] for _, _, data in live] == ["Hello", ""]
    assert [(data["text"], data["final"]) for _, _, data in replayed] == [("Hello", True)]


def test_the_text_of_a_draft_that_was_discarded_does_not_count() -> None:
    name, data = one(DraftDiscarded("sevt_1"))

    assert (name, data["message_id"]) == ("draft_discarded", "sevt_1")


def test_a_call_and_its_result_carry_the_same_id() -> None:
    told = frames([tool_use("call", input={"amount": 5}), result("call", "paid", name="pay", is_error=True)])

    (_, _, asked), (_, _, answer) = told
    assert (asked["id"], asked["name"], asked["input"]) == ("call", "pay", {"amount": 5})
    assert (answer["id"], answer["name"], answer["output"], answer["is_error"]) == ("call", "pay", "paid", True)


def test_a_failed_model_call_says_that_the_run_goes_on() -> None:
    [(_, name, data)] = frames([*failed_call()])

    assert (name, data["code"], data["retryable"], data["retrying"]) == ("error", "model_overloaded", True, True)


def test_a_run_that_was_stopped_is_complete_as_interrupted() -> None:
    name, data = one(event(c.RunCancelled))

    assert (name, data["status"], data["stop_reason"]) == ("complete", "interrupted", "interrupted")


@pytest.mark.parametrize(("status", "retryable"), [("exhausted", True), ("terminal", False)])
def test_a_model_call_that_is_given_up_says_so(status: str, retryable: bool) -> None:
    [(_, _, data)] = frames([*failed_call(status)])

    assert (data["retryable"], data["retrying"]) == (retryable, False)


def test_a_failed_run_is_an_error() -> None:
    name, data = one(event(e.RunFailed, code="step_limit", message="Enough.", retryable=False))

    assert (name, data["code"], data["message"], data["retryable"]) == ("error", "step_limit", "Enough.", False)


def test_an_unknown_outcome_names_the_call() -> None:
    name, data = one(event(e.ToolOutcomeUnknown, tool_use_id="call"))

    assert (name, data["id"]) == ("outcome_unknown", "call")


def test_a_run_that_waits_for_a_person_is_complete_for_now() -> None:
    name, data = one(idle("requires_action", "call"))

    assert name == "complete"
    assert (data["status"], data["stop_reason"]) == ("waiting_approval", "requires_action")
    assert data["pending_tool_call_ids"] == ["call"]


def test_a_run_that_ended_tells_what_came_of_it() -> None:
    [*_, (_, name, data)] = frames(WHOLE_RUN)

    assert name == "complete"
    assert {key: data[key] for key in ("status", "output", "stop_reason")} == {
        "status": "completed",
        "output": "Paid.",
        "stop_reason": "end_turn",
    }
    assert data["usage"]["input_tokens"] == 7


@pytest.mark.parametrize("kind", UNION)
@pytest.mark.parametrize("vocabulary", ["simple", "native"])
def test_every_event_is_at_most_one_frame_with_its_place_as_id(kind: type[e.EventBase], vocabulary: Vocabulary) -> None:
    told = frames([event(kind, seq=7)], vocabulary)  # type: ignore[list-item]

    assert [id for id, _, _ in told] in ([], ["7"])


# Simple words of several runs.


def run(run_id: str, text: str, first_seq: int) -> list[e.Event]:
    """Make a whole run of which every event says whose it is."""
    words = event(e.AgentMessage, content=(TextBlock(text=text),))
    spent = Usage(input_tokens=len(text))
    finished = event(e.RunFinished)
    events = [*opened(run_id), *answered(words, model_usage=spent), finished, idle()]
    return [each.model_copy(update={"run_id": run_id, "seq": first_seq + n}) for n, each in enumerate(events)]


def test_every_run_of_a_stream_is_complete_for_itself() -> None:
    told = said_by(Simple("sesn_1", ""), [*run("run_1", "One", 1), *run("run_2", "Twice", 9)])

    ends = [data for _, name, data in told if name == "complete"]
    assert [(end["run_id"], end["output"], end["usage"]["input_tokens"]) for end in ends] == [
        ("run_1", "One", 3),
        ("run_2", "Twice", 5),
    ]


def test_frames_of_a_run_that_began_on_the_stream_say_that_they_are_its() -> None:
    begun = run("run_2", "Twice", 9)[:3]
    speaks = Simple("sesn_1", "run_1")

    told = said_by(speaks, [*begun, DraftGrew("m", "agent.message", "Tw"), DraftDiscarded("m"), *failed_call()])

    assert [data["run_id"] for _, _, data in told] == ["run_2"] * 3


def test_what_lies_behind_the_cursor_counts_for_the_end_without_a_word() -> None:
    events = run("run_1", "One", 1)
    speaks = Simple("sesn_1", "")
    for each in events[:5]:
        speaks.take(each)

    told = said_by(speaks, events[5:])

    assert [name for _, name, _ in told] == ["complete"]
    assert told[0][2]["output"] == "One"
    assert told[0][2]["run_id"] == "run_1"


# Summaries.


def test_a_summary_keeps_the_last_answer_and_all_usage() -> None:
    summary = Summary("sesn_1", "run_1")
    for each in WHOLE_RUN:
        summary.take(each)

    told = summary.complete()
    assert (told["status"], told["output"], told["stop_reason"]) == ("completed", "Paid.", "end_turn")
    assert told["usage"]["output_tokens"] == 3
    assert "error" not in told


def test_a_summary_of_a_failed_run_says_why() -> None:
    summary = Summary("sesn_1", "run_1")
    summary.take(event(e.RunFailed, code="step_limit", message="Enough."))

    assert summary.complete()["status"] == "error"
    assert summary.complete()["error"] == {"code": "step_limit", "message": "Enough.", "retryable": False}


def test_after_a_persons_word_a_summary_waits_no_more() -> None:
    summary = Summary("sesn_1", "run_1")
    for each in (idle("requires_action", "call"), event(e.RunFinished)):
        summary.take(each)

    told = summary.complete()
    assert told["status"] == "completed"
    assert "pending_tool_call_ids" not in told


def test_a_message_whose_draft_was_discarded_comes_whole() -> None:
    message = event(e.AgentMessage, id="sevt_1", content=(TextBlock(text="Hello"),))

    told = frames([DraftGrew("sevt_1", "agent.message", "Hel"), DraftDiscarded("sevt_1"), message])

    assert told[-1][2]["text"] == "Hello"


# Native words.


@pytest.mark.parametrize("kind", UNION)
def test_native_frames_are_the_stored_events(kind: type[e.EventBase]) -> None:
    stored = event(kind, seq=7)

    name, data = one(stored, "native")  # type: ignore[arg-type]

    assert name == data["type"]
    assert data["seq"] == 7
    assert e.EVENT.validate_python(data) == stored


@pytest.mark.parametrize("kind", [kind for kind in UNION if not kind.model_fields["type"].default.startswith(OURS)])
def test_what_the_managed_agents_api_has_a_type_for_has_its_shape(kind: type[e.EventBase]) -> None:
    _, data = one(event(kind, seq=7, processed_at=NOON), "native")  # type: ignore[arg-type]

    SDK_EVENT.validate_json(json.dumps(data), strict=True)


def test_drafts_of_a_message_have_the_shape_of_the_managed_agents_api() -> None:
    begun = one(DraftStarted("sevt_1", "agent.message"), "native")
    grown = one(DraftGrew("sevt_1", "agent.message", "Hel"), "native")

    assert (begun[0], grown[0]) == ("event_start", "event_delta")
    BetaManagedAgentsStartEvent.model_validate_json(json.dumps(begun[1]), strict=True)
    BetaManagedAgentsDeltaEvent.model_validate_json(json.dumps(grown[1]), strict=True)


def test_drafts_of_thinking_have_the_shape_of_the_managed_agents_api() -> None:
    begun = one(DraftStarted("sevt_1", "agent.thinking"), "native")

    BetaManagedAgentsStartEvent.model_validate_json(json.dumps(begun[1]), strict=True)


# Native words of a stream: only the drafts that were asked for.

DRAFTS: list[Output] = [
    DraftStarted("t", "agent.thinking"),
    DraftGrew("t", "agent.thinking", "Hm"),
    DraftStarted("m", "agent.message"),
    DraftGrew("m", "agent.message", "Hel"),
    DraftDiscarded("m"),
]


@pytest.mark.parametrize(
    ("previews", "told"),
    [
        (None, ["t start", "t delta", "m start", "m delta", "m discarded"]),
        ([], []),
        (["agent.message"], ["m start", "m delta"]),
        (["agent.thinking"], ["t start"]),
        (["agent.message", "agent.thinking"], ["t start", "m start", "m delta"]),
    ],
)
def test_only_the_drafts_that_were_asked_for_are_told(previews: list[Kind] | None, told: list[str]) -> None:
    speaks = Native(None if previews is None else frozenset(previews))

    frames = said_by(speaks, DRAFTS)

    assert [f"{_whose(data)} {name.replace('.', '_').rpartition('_')[2]}" for _, name, data in frames] == told


def _whose(data: dict[str, Any]) -> str:
    return str(data["event"]["id"] if "event" in data else data["event_id"])


def test_stored_events_are_told_whatever_drafts_were_asked_for() -> None:
    assert [id for id, _, _ in said_by(Native(frozenset()), WHOLE_RUN)] == [str(event.seq) for event in WHOLE_RUN]


@pytest.mark.parametrize("speaks", [Native(), Native(frozenset()), Simple("sesn_1", "run_1")])
def test_the_end_by_plan_says_where_to_go_on_and_is_no_error(speaks: Speaker) -> None:
    told = said_by(speaks, [Rotated(7, "idle")])

    assert told == [(None, "stream.rotate", {"type": "stream.rotate", "after": 7, "reason": "idle"})]
