"""The fold: total, and its context always satisfies the rules of the Messages API."""

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parley.core import control as c
from parley.core import event as e
from parley.core.fold import CHANGES, apply, fold
from parley.core.run import (
    AskBudget,
    AskPerson,
    CallModel,
    CallTools,
    Cancel,
    Compact,
    Fail,
    Finish,
    HandOver,
    Pause,
    Step,
    Wait,
    next_step,
)
from parley.core.session import Session
from parley.core.status import STATUS
from parley.core.value import Usage
from parley.store import snapshot

from tests import build
from tests.build import (
    answered,
    compaction,
    entry,
    event,
    failed_call,
    idle,
    linked,
    message,
    numbered,
    opened,
    picture,
    result,
    shown,
    tool_use,
)
from tests.fakes.anthropic_rules import sign
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.model import problem_of
from tests.strategies import CONVERSATIONS, EVENTS, UNION

pytestmark = pytest.mark.anyio


def folded(*events: e.Event) -> Session:
    return fold(Session(id="sesn_1"), numbered(events))


def context(session: Session) -> list[Any]:
    return [json.loads(each) for each in session.context]


def roles(session: Session) -> list[str]:
    return [each["role"] for each in context(session)]


def text_of(block: dict[str, Any]) -> str:
    return str(block["content"][0]["text"])


SAID = event(e.AgentMessage)


def test_every_event_type_has_a_row_in_the_table() -> None:
    assert set(CHANGES) == set(UNION)


@pytest.mark.parametrize("kind", UNION)
def test_every_event_can_be_the_first(kind: type[e.EventBase]) -> None:
    first = event(kind, seq=1)

    session = fold(Session(id="sesn_1"), [first])  # type: ignore[list-item]

    assert session.seq == 1


def test_an_event_without_a_place_leaves_the_session_where_it_is() -> None:
    session = folded(message())

    assert apply(session, message("More")).seq == session.seq == 1


# What the model reads.


def test_a_conversation_alternates_between_person_and_model() -> None:
    session = folded(*opened(), *answered(SAID), *opened("run_2"), *answered(SAID))

    assert roles(session) == ["user", "assistant", "user", "assistant"]


def test_the_blocks_of_one_answer_are_one_message_in_their_order() -> None:
    thinking = event(e.AgentThinking, thinking="Hm", signature=sign("Hm", b""))
    session = folded(*opened(), *answered(thinking, SAID, tool_use()))

    assert context(session)[-1] == {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "Hm", "signature": sign("Hm", b"")},
            {"type": "text", "text": "Hello"},
            {"type": "tool_use", "id": "toolu_call", "name": "pay", "input": {}},
        ],
    }


def test_redacted_thinking_is_sent_back_as_it_came() -> None:
    session = folded(*opened(), *answered(event(e.AgentThinking, redacted="opaque"), SAID))

    assert context(session)[-1]["content"][0] == {"type": "redacted_thinking", "data": "opaque"}


def test_results_wait_for_each_other_and_stand_in_the_order_of_the_calls() -> None:
    begun = [*opened(), *answered(tool_use("a"), tool_use("b"))]
    half = folded(*begun, result("b", "second"))
    whole = folded(*begun, result("b", "second"), result("a", "first"))

    assert roles(half) == ["user", "assistant"]
    assert roles(whole) == ["user", "assistant", "user"]
    assert [text_of(block) for block in context(whole)[-1]["content"]] == ["first", "second"]


def test_a_blank_result_is_an_empty_one() -> None:
    session = folded(*opened(), *answered(tool_use()), result(text=" \n"))

    assert context(session)[-1]["content"][0]["content"] == []


def test_a_failed_blank_result_still_says_something() -> None:
    session = folded(*opened(), *answered(tool_use()), result(text="", is_error=True))

    assert problem_of(session.context) is None


def test_a_second_result_of_a_call_changes_nothing() -> None:
    before = folded(*opened(), *answered(tool_use()), result(text="first"))

    after = apply(before, result(text="second"))

    assert after.context == before.context


def test_a_second_result_does_not_replace_the_first_while_others_are_open() -> None:
    begun = [*opened(), *answered(tool_use("a"), tool_use("b"))]

    session = folded(*begun, result("a", "first"), result("a", "second", is_error=True), result("b"))

    assert [text_of(block) for block in context(session)[-1]["content"]] == ["first", "done"]
    assert session.run is not None
    assert session.run.tool_errors == 0


def test_a_result_of_an_unknown_call_changes_nothing() -> None:
    before = folded(*opened(), *answered(tool_use()))

    assert apply(before, result("stranger")) == before


@pytest.mark.parametrize(
    "end",
    [
        event(e.RunFailed),
        event(e.RunFinished),
        message("Something else"),
    ],
)
def test_calls_of_a_run_that_ended_first_get_a_result_that_says_so(end: e.Event) -> None:
    session = folded(*opened(), *answered(tool_use("a"), tool_use("b")), result("a", "kept"), end, message())

    results = context(session)[2]["content"]
    assert [text_of(block) for block in results] == ["kept", "The run ended before this call had a result."]
    assert [block["is_error"] for block in results] == [False, True]
    assert problem_of(session.context) is None


@pytest.mark.parametrize("kind", [e.RunFinished, e.RunFailed])
def test_a_run_that_ended_has_no_open_calls_left(kind: type[e.Event]) -> None:
    unknown = entry(event(e.ToolIntended), event(e.ToolOutcomeUnknown))

    session = folded(*opened(), *answered(tool_use()), *unknown, event(kind))

    assert session.run is not None
    assert session.run.calls == ()
    assert roles(session) == ["user", "assistant", "user"]


def test_an_answer_without_its_end_was_never_given() -> None:
    begun = [*opened(), event(e.ModelRequestStart), SAID]

    session = folded(*begun, *answered(event(e.AgentMessage, content=SAID.content)))

    assert roles(session) == ["user", "assistant"]
    assert len(context(session)[-1]["content"]) == 1


def test_a_model_call_that_failed_leaves_no_trace_in_the_context() -> None:
    session = folded(*opened(), *failed_call(), *answered(SAID))

    assert roles(session) == ["user", "assistant"]


def test_an_empty_answer_leaves_no_message() -> None:
    session = folded(*opened(), *answered(), message("More"))

    assert roles(session) == ["user", "user"]
    assert problem_of(session.context) is None


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "end_turn"])
def test_an_answer_of_thinking_alone_is_not_sent_back(reason: str) -> None:
    thinking = event(e.AgentThinking, thinking="Hm", signature=sign("Hm", b""))

    session = folded(*opened(), *answered(thinking, stop_reason=reason), message("Go on"))

    assert problem_of(session.context) is None


@pytest.mark.parametrize("reason", ["max_tokens", "refusal", "end_turn"])
def test_thinking_at_the_end_of_an_answer_is_not_sent_back(reason: str) -> None:
    thinking = event(e.AgentThinking, thinking="Hm", signature=sign("Hm", b""))

    session = folded(*opened(), *answered(SAID, thinking, thinking, stop_reason=reason), message("Go on"))

    assert problem_of(session.context) is None
    assert [block["type"] for block in context(session)[1]["content"]] == ["text"]


def test_thinking_without_a_signature_is_not_sent_back() -> None:
    thinking = event(e.AgentThinking, thinking="Hm", signature=None)

    session = folded(*opened(), *answered(thinking, SAID, stop_reason="max_tokens"), message("Go on"))

    assert problem_of(session.context) is None


@pytest.mark.parametrize("fields", [{"thinking": "Hm", "signature": "s"}, {"redacted": "opaque"}])
def test_thinking_does_not_outlive_the_agent_it_was_thought_under(fields: dict[str, str]) -> None:
    begun = [*opened(), *answered(event(e.AgentThinking, **fields), SAID), event(e.RunFinished)]

    same = folded(*begun, *opened("run_2", agent_version=1))
    newer = folded(*begun, *opened("run_2", agent_version=2))

    assert [len(each["content"]) for each in context(same)] == [1, 2, 1]
    assert [len(each["content"]) for each in context(newer)] == [1, 1, 1]


def test_text_that_speaks_of_thinking_survives_a_new_agent() -> None:
    speech = event(e.AgentMessage, content=({"type": "text", "text": 'I was "thinking" of {"type":"thinking"}'},))

    session = folded(*opened(), *answered(speech), event(e.RunFinished), *opened("run_2", agent_version=2))

    assert context(session)[1]["content"][0]["text"] == speech.content[0].text


# A summary in the place of the first messages.


def test_a_summary_replaces_the_first_messages_and_is_no_answer() -> None:
    first = [*opened(), *answered(SAID), event(e.RunFinished)]
    before = folded(*first, *opened("run_2"))

    after = fold(before, compaction(2, "They greeted.", model_usage=Usage(input_tokens=7, output_tokens=3)))

    assert roles(after) == ["user", "user"]
    assert "They greeted." in text_of(context(after)[0])
    assert context(after)[1] == context(before)[2]
    assert before.run is not None
    assert after.run is not None
    assert (after.run.steps, after.run.stop_reason) == (0, None)
    assert (after.run.usage.total, after.usage.total) == (10, 10)


@pytest.mark.parametrize(
    "replaced", [-1, 0, 2, 4], ids=["negative", "none", "between a call and its result", "too many"]
)
def test_a_summary_that_does_not_fit_replaces_nothing_and_is_no_answer_either(replaced: int) -> None:
    before = folded(*opened(), *answered(tool_use()), result())

    after = fold(before, compaction(replaced))

    assert after.context == before.context
    assert after.run is not None
    assert (after.run.steps, after.run.stop_reason, after.run.compacted) == (1, None, True)


def test_a_summary_never_parts_open_calls_from_their_results() -> None:
    session = folded(*opened(), *answered(tool_use()), event(e.ContextCompacted, replaced=1), result(), message())

    assert roles(session) == ["user", "assistant", "user", "user"]
    assert problem_of(session.context) is None


def test_blocks_of_a_compaction_are_nobodys_answer() -> None:
    compacted = event(e.ContextCompacted, replaced=1)

    session = folded(*opened(), message("More"), *answered(compacted, SAID, tool_use()))

    assert roles(session) == ["user", "user"]
    assert session.run is not None
    assert session.run.calls == ()


def test_a_summary_amid_an_answer_is_passed_over() -> None:
    compacted = event(e.ContextCompacted, replaced=1)

    session = folded(*opened(), *answered(SAID, compacted))

    assert roles(session) == ["user", "assistant"]
    assert session.run is not None
    assert (session.run.steps, session.run.compacted) == (1, False)


def test_an_answer_after_a_compaction_counts_again() -> None:
    session = folded(*opened(), message("More"), *compaction(), *answered(SAID))

    assert roles(session) == ["user", "user", "assistant"]
    assert session.run is not None
    assert (session.run.steps, session.run.stop_reason, session.run.compacted) == (1, "end_turn", False)


def test_the_length_of_a_context_is_that_of_the_last_request_and_its_answer() -> None:
    used = Usage(input_tokens=1, output_tokens=20, cache_creation_input_tokens=300, cache_read_input_tokens=4000)
    begun = [*opened(), *answered(SAID, model_usage=used), message("More")]

    lengths = [folded(*begun, *more).context_tokens for more in ([], failed_call(), compaction(1, model_usage=used))]

    assert lengths == [4321, 4321, 0]


def test_after_a_compaction_a_run_that_stopped_for_want_of_room_goes_on() -> None:
    full = [*opened(), *answered(SAID, stop_reason="model_context_window_exceeded")]

    session = folded(*full, *compaction(2))

    assert roles(session) == ["user"]
    assert session.run is not None
    assert (session.run.stop_reason, session.phase) == (None, "planning")


def test_a_compaction_is_planning_and_forgives_failed_calls() -> None:
    rescheduled = event(e.StatusRescheduled, reason="model_retry", after_seconds=4.0)
    failed = [*failed_call(), rescheduled, *failed_call(code="model_context_full"), event(e.RunClaimed, epoch=2)]

    before = folded(*opened(), message("More"), *failed)
    after = fold(before, compaction())

    assert before.run is not None
    assert (before.run.failures, before.run.too_long, before.run.retry_after_seconds) == (2, 1, 0.0)
    assert after.run is not None
    assert (after.run.failures, after.run.too_long, after.run.failure, after.run.claims) == (0, 0, None, 0)
    assert after.phase == "planning"


@pytest.mark.parametrize("end", [event(e.RunFinished), event(e.SessionDeleted)])
def test_a_summary_does_not_open_what_is_closed(end: e.Event) -> None:
    closed = folded(*opened(), *answered(SAID), end)

    assert fold(closed, compaction(2)).phase == closed.phase


# What the next decision needs.


def test_a_call_goes_from_requested_to_intended_to_unknown_and_back() -> None:
    begun = [*opened(), *answered(tool_use())]
    intended = [*begun, event(e.ToolIntended, effect="idempotent", attempt=1)]
    unknown = [*intended, event(e.ToolOutcomeUnknown)]
    again = [*unknown, event(e.ToolOutcomeDecided, outcome="retry")]

    states = [folded(*events).run.calls[0] for events in (begun, intended, unknown, again)]  # type: ignore[union-attr]

    assert [call.state for call in states] == ["requested", "intended", "unknown", "requested"]
    assert [call.attempt for call in states] == [1, 1, 1, 2]
    assert states[1].effect == "idempotent"


def test_a_persons_word_wakes_a_parked_run() -> None:
    parked = [
        *opened(),
        *answered(tool_use()),
        event(e.ToolIntended),
        event(e.ToolOutcomeUnknown),
        idle("requires_action", "call"),
    ]
    before, after = folded(*parked), folded(*parked, event(e.ToolOutcomeDecided, outcome="happened"))

    assert before.run is not None
    assert after.run is not None
    assert (before.run.parked, before.phase) == (True, "waiting")
    assert after.run.parked is False


def test_claims_are_counted_until_there_is_progress() -> None:
    claimed = [*opened(), event(e.RunClaimed, epoch=2), event(e.RunClaimed, epoch=3)]

    lost, won = folded(*claimed), folded(*claimed, *answered(SAID))

    assert lost.run is not None
    assert won.run is not None
    assert (lost.run.claims, lost.epoch) == (3, 3)
    assert (won.run.claims, won.epoch) == (0, 3)


@pytest.mark.parametrize(
    "progress",
    [[result()], failed_call(), [event(e.ToolOutcomeDecided, outcome="retry")]],
    ids=["a result", "a model call that failed", "a person's word"],
)
def test_these_are_progress_too(progress: list[e.Event]) -> None:
    unknown = entry(event(e.ToolIntended), event(e.ToolOutcomeUnknown))

    session = folded(*opened(), *answered(tool_use()), *unknown, event(e.RunClaimed, epoch=2), *progress)

    assert session.run is not None
    assert session.run.claims == 0


def test_failed_model_calls_are_counted_in_a_row() -> None:
    thrice = folded(*opened(), *failed_call(), *failed_call(), *failed_call())
    recovered = folded(*opened(), *failed_call(), *answered(SAID))

    assert thrice.run is not None
    assert recovered.run is not None
    assert thrice.run.failures == 3
    assert (recovered.run.failures, recovered.run.failure, recovered.run.retry_after_seconds) == (0, None, 0.0)


def test_steps_are_whole_answers() -> None:
    session = folded(*opened(), *failed_call(), *answered(tool_use()), result(), *answered(SAID))

    assert session.run is not None
    assert session.run.steps == 2


def test_usage_is_added_up_for_the_run_and_for_the_session() -> None:
    spent: dict[str, Any] = {"model_usage": Usage(input_tokens=10, output_tokens=1)}
    session = folded(*opened(), *answered(SAID, **spent), *opened("run_2"), *answered(SAID, **spent))

    assert session.run is not None
    assert session.usage.input_tokens == 20
    assert session.run.usage.input_tokens == 10


def test_an_answer_that_stopped_for_tools_without_naming_any_is_an_end() -> None:
    session = folded(*opened(), *answered(SAID, stop_reason="tool_use"))

    assert session.run is not None
    assert session.run.stop_reason == "end_turn"


@pytest.mark.parametrize(
    ("events", "phase"),
    [
        ([], "created"),
        (opened(), "planning"),
        ([*opened(), *answered(tool_use())], "executing"),
        ([*opened(), *answered(tool_use()), result()], "planning"),
        ([*opened(), *failed_call(), event(e.StatusRescheduled)], "rescheduling"),
        ([*opened(), *answered(tool_use()), idle("requires_action", "call")], "waiting"),
        ([*opened(), *answered(SAID), event(e.RunFinished)], "completed"),
        ([*opened(), *answered(SAID), event(e.RunFinished), idle()], "completed"),
        ([*opened(), event(e.RunFinished, status="completed_with_errors")], "completed_with_errors"),
        ([*opened(), event(e.RunFailed), idle("retries_exhausted")], "error"),
        ([*opened(), event(e.SessionDeleted)], "deleted"),
    ],
)
def test_what_happened_last_is_the_phase(events: list[e.Event], phase: str) -> None:
    assert folded(*events).phase == phase


# Whatever the log holds.

TEXT = event(e.AgentMessage, content=({"type": "text", "text": 'ä\0\n "thinking" \U0001f600'},))
SIGNED = event(e.AgentThinking, thinking="Hm", signature=sign("Hm", b""))
UNSIGNED = event(e.AgentThinking, thinking="cut", signature=None)
KINDS: tuple[e.Event, ...] = (TEXT, SIGNED, UNSIGNED)
BLOCKS = [blocks for size in range(4) for blocks in itertools.product(KINDS, repeat=size)]
ENDS = ["end_turn", "max_tokens", "pause_turn", "refusal"]


@st.composite
def answers(draw: st.DrawFn, first_call: int) -> list[e.Event]:
    """A whole answer as the accumulator lets one through; its calls have numbers from `first_call` on."""
    calls = range(first_call, first_call + draw(st.sampled_from([0, 0, 1, 2, 3])))
    reason = "tool_use" if calls else draw(st.sampled_from(ENDS))
    return answered(*draw(st.sampled_from(BLOCKS)), *(tool_use(f"call_{n}") for n in calls), stop_reason=reason)


Entry = list[e.Event]


def entries_about(call_id: str) -> list[Entry]:
    """What may be appended at any time; `call_id` is a call of the log, or of none."""
    return [
        opened("run_1"),
        opened("run_2", agent_version=2),
        [result(call_id, "done")],
        [result(call_id, " ", is_error=True)],
        [event(e.ToolIntended, tool_use_id=call_id)],
        [event(e.ToolOutcomeUnknown, tool_use_id=call_id), idle("requires_action", call_id)],
        [event(e.ToolOutcomeDecided, tool_use_id=call_id), result(call_id, "It happened.")],
        [event(e.ToolOutcomeDecided, tool_use_id=call_id, outcome="retry")],
        [event(e.RunFinished), idle()],
        [event(e.RunFailed), idle("retries_exhausted")],
        [event(e.UserMessage, content=shown(picture(), linked())), *opened("run_3")[1:]],
        [event(e.RunFailed, code="model_refused_request"), idle("retries_exhausted")],
        [event(e.RunClaimed), event(e.StatusRescheduled)],
        [event(e.ContextCompacted, replaced=2)],
        [event(c.SessionSuspended)],
        [event(c.SessionResumed)],
        [event(c.SessionTerminated)],
        [event(c.CheckpointCreated)],
        *[
            entry(event(c.SessionRestored, keep=keep, messages=said))
            for keep in range(4)
            for said in CONVERSATIONS
            if keep == 0 or "tool_use" not in "".join(said)  # ids of calls are never there twice
        ],
        [event(e.SessionDeleted)],
    ]


@st.composite
def logs(draw: st.DrawFn) -> list[Entry]:
    """What drivers that die anywhere, people and other drivers may have left behind: whole entries, in any order.

    Only a driver that may ask the model stores what came of it: there is an open run, and each call has its result.
    """
    log: list[Entry] = [opened("run_1")]
    session = fold(Session(id="sesn_1"), log[0])
    calls = ["stranger"]
    for _ in range(draw(st.integers(0, 10))):
        may_answer = session.run is not None and session.run.open and not session.run.calls
        steps = ["answer", "answer", "answer", "compaction", "failure", "other"]
        step = draw(st.sampled_from(steps)) if may_answer else "other"
        if step == "failure":
            appended = failed_call()
        elif step == "compaction":
            appended = compaction(draw(st.integers(-1, len(session.context) + 1)))
        elif step == "answer":
            appended = draw(answers(len(calls)))
            calls += [each.id for each in appended if isinstance(each, e.AgentToolUse)]
        else:
            appended = draw(st.sampled_from(entries_about(draw(st.sampled_from(calls)))))
        log.append(appended)
        session = fold(session, appended)
    return log


@settings(max_examples=200)
@given(logs())
def test_any_log_folds_and_the_model_accepts_what_comes_of_it(log: list[Entry]) -> None:
    session = Session(id="sesn_1")
    for appended in log:
        session = fold(session, appended)

        told = fold(session, [message("And now?")])
        assert problem_of(told.context) is None
        assert session.phase in STATUS
        assert session.answer == ()


@given(st.lists(EVENTS, max_size=12), st.integers(0, 12))
def test_the_fold_is_total_even_over_nonsense(events: list[e.Event], cut: int) -> None:
    placed = numbered(events)

    whole = fold(Session(id="sesn_1"), placed)
    parts = fold(fold(Session(id="sesn_1"), placed[:cut]), placed[cut:])

    assert whole == parts
    assert whole.phase in STATUS
    assert whole.seq == len(events)
    assert all(json.loads(each)["role"] in ("user", "assistant") for each in whole.context)


@given(st.lists(EVENTS, max_size=12))
async def test_any_fold_survives_its_snapshot_and_has_a_next_step(events: list[e.Event]) -> None:
    session, blobs = folded(*events), MemoryBlobs()

    kept = await snapshot.read(blobs, build.REF, await snapshot.write(blobs, build.REF, session))

    assert kept == session
    for seconds_left in (math.inf, 0.0):
        assert isinstance(next_step(session, build.agent(), seconds_left), Step)


@given(logs())
def test_the_next_step_fits_any_log(log: list[Entry]) -> None:
    session = folded(*(event for appended in log for event in appended))

    match next_step(session, build.agent()):
        case CallModel() | Compact():
            assert session.run is not None
            assert session.run.calls == ()
            assert problem_of(session.context) is None
        case CallTools(calls) | AskPerson(calls):
            assert {call.id for call in calls} <= {call.id for call in (session.run.calls if session.run else ())}
            assert calls
        case Wait():
            assert session.run is None or session.run.parked or not session.run.open
        case Pause(suspension):
            assert suspension == session.suspension != ""
        case Finish() | Fail() | Cancel():
            assert session.run is not None
            assert session.run.open
        case AskBudget():
            assert session.run is not None
            assert session.run.full
        case HandOver():
            raise AssertionError("there is all the time in the world")


@settings(max_examples=100)
@given(logs(), st.integers(0, 10))
async def test_going_on_from_a_snapshot_equals_folding_from_the_start(log: list[Entry], cut: int) -> None:
    events = numbered(each for appended in log for each in appended)
    until = sum(map(len, log[:cut]))
    before, blobs = fold(Session(id="sesn_1"), events[:until]), MemoryBlobs()

    sealed = await snapshot.write(blobs, build.REF, before)
    kept = await snapshot.read(blobs, build.REF, sealed)

    assert kept == before
    assert fold(kept or before, events[until:]) == fold(Session(id="sesn_1"), events)
