"""Events out of decisions: what is stored before a step, and what an answer, a result or a failure becomes."""

from datetime import timedelta
from typing import Any

import pytest
from inline_snapshot import snapshot
from parley.core import answered, compose
from parley.core import event as e
from parley.core.answer import Accumulator, Answer
from parley.core.budget import Budget, Level, Spent
from parley.core.errors import ModelError
from parley.core.fold import fold
from parley.core.limits import MAX_BLOCKS_PER_ANSWER, MAX_TOOL_OUTPUT_BYTES
from parley.core.message import user_message
from parley.core.policy import PRESETS, Autonomy
from parley.core.run import (
    AskBudget,
    AskPerson,
    CallModel,
    CallTools,
    Cancel,
    Fail,
    Finish,
    HandOver,
    Step,
    Wait,
    next_step,
)
from parley.core.scribe import Scribe
from parley.core.session import Run, Session
from parley.core.spending import MOST_AT_ONCE
from parley.core.tool import ToolOutcome
from parley.core.value import Usage
from parley.store.entry import MAX_EVENTS

from tests import build
from tests.build import a_tool, agent, answer, asked, call, message, only, said, scribe, thought, types
from tests.fakes.clock import NOON
from tests.fakes.ids import CountingIds


def a_run(**fields: Any) -> Run:
    return Run(id="run", started_at=NOON, **fields)


def announced(step: Any, **options: Any) -> list[e.Event]:
    session = Session(id="sesn_1", run=a_run())
    return compose.announcement(scribe(), step, session, options.get("agent", agent()))


def whole(*blocks: build.Block) -> Answer:
    accumulator = Accumulator()
    for event in answer(*blocks):
        accumulator.take(event)
    return accumulator.answer()


# The scribe.


def test_every_event_gets_an_id_a_time_its_run_and_its_task() -> None:
    written = Scribe(CountingIds().new, lambda: NOON, "run_7", "ticket").write(e.StatusRunning)

    assert (written.id, written.run_id, written.task_id) == ("sevt_0001", "run_7", "ticket")
    assert written.created_at == written.processed_at == NOON


def test_what_was_fixed_earlier_is_kept() -> None:
    earlier = NOON - timedelta(seconds=3)

    written = scribe().write(e.StatusRunning, id="sevt_known", at=earlier)

    assert (written.id, written.created_at) == ("sevt_known", earlier)


# Before a step.


def test_a_run_opens_with_the_message_and_ends_its_opening_with_the_claim() -> None:
    opening = compose.opening(scribe(), agent(), message(), 3)

    assert types(opening) == snapshot(["user.message", "run.started", "session.status_running", "run.claimed"])
    assert only(e.RunClaimed, opening)[0].epoch == 3
    assert only(e.RunStarted, opening)[0].agent_version == agent().version


def test_a_message_that_has_waited_keeps_its_id_and_the_moment_it_came_and_is_processed_now() -> None:
    came = NOON - timedelta(minutes=5)
    waited = message("Hi", id="sevt_waited", created_at=came, processed_at=came)

    opened, *_ = compose.opening(scribe("run_7", "ticket"), agent(), waited, 3)

    assert (opened.id, opened.created_at, opened.processed_at) == ("sevt_waited", came, NOON)
    assert (opened.run_id, opened.task_id) == ("run_7", "ticket")


def test_a_take_over_claims_first() -> None:
    assert types(compose.taking_over(scribe(), 4)) == snapshot(["run.claimed", "session.status_rescheduled"])


@pytest.mark.parametrize("step", [CallModel(), Wait()])
def test_asking_the_model_and_waiting_store_nothing_before(step: CallModel | Wait) -> None:
    assert announced(step) == []


def test_a_hand_over_says_so() -> None:
    [said_so] = announced(HandOver())

    assert isinstance(said_so, e.StatusRescheduled)
    assert said_so.reason == "handed_over"


def test_calls_that_change_something_are_announced_and_reads_are_not() -> None:
    calls = (call("a", name="pay"), call("b", name="look"), call("c", name="file", attempt=2))

    intents = only(e.ToolIntended, announced(CallTools(calls)))

    assert [(each.tool_use_id, each.effect, each.attempt) for each in intents] == [
        ("a", "non_idempotent", 1),
        ("c", "idempotent", 2),
    ]


def test_a_call_is_named_alike_for_each_of_its_attempts() -> None:
    [first] = only(e.ToolIntended, announced(CallTools((call("a"),))))
    [second] = only(e.ToolIntended, announced(CallTools((call("a", attempt=2),))))
    [other] = only(e.ToolIntended, announced(CallTools((call("b"),))))

    assert first.idempotency_key == second.idempotency_key != other.idempotency_key


def test_the_effect_that_was_stored_counts_more_than_the_deployed_one() -> None:
    now_safe = agent(a_tool("pay", "read"))

    [intent] = only(e.ToolIntended, announced(CallTools((call(effect="non_idempotent"),)), agent=now_safe))

    assert intent.effect == "non_idempotent"


def test_a_tool_that_is_not_there_is_not_announced_because_it_is_never_run() -> None:
    assert announced(CallTools((call(name="stranger"),))) == []


def test_asking_a_person_names_all_calls_and_tells_the_interrupted_ones() -> None:
    asking = announced(AskPerson((call("a"), call("b")), (call("b"),)))

    assert types(asking) == ["tool.outcome_unknown", "session.status_idle"]
    assert only(e.ToolOutcomeUnknown, asking)[0].tool_use_id == "b"
    assert only(e.StatusIdle, asking)[0].stop_reason.event_ids == ("a", "b")


# The end.


def test_a_finished_run_tells_its_status_usage_and_duration() -> None:
    later = Scribe(CountingIds().new, lambda: NOON + timedelta(seconds=2), "run")

    closed, idle = compose.closing_events(later, Finish("completed", "end_turn"), a_run(usage=Usage(input_tokens=7)))

    assert isinstance(closed, e.RunFinished)
    assert (closed.status, closed.usage.input_tokens, closed.duration_ms) == ("completed", 7, 2000)
    assert isinstance(idle, e.StatusIdle)
    assert idle.stop_reason.type == "end_turn"


@pytest.mark.parametrize(
    ("code", "reason"),
    [("model_refused", "refusal"), ("step_limit", "retries_exhausted"), ("poisoned", "retries_exhausted")],
)
def test_a_failed_run_tells_why(code: str, reason: str) -> None:
    closed, idle = compose.closing_events(scribe(), Fail(code, "Because.", retryable=True), a_run())

    assert isinstance(closed, e.RunFailed)
    assert (closed.code, closed.message, closed.retryable) == (code, "Because.", True)
    assert isinstance(idle, e.StatusIdle)
    assert idle.stop_reason.type == reason


def test_a_clock_that_went_backwards_makes_no_negative_duration() -> None:
    earlier = Scribe(CountingIds().new, lambda: NOON - timedelta(hours=1), "run")

    closed, _ = compose.closing_events(earlier, Finish("completed", "end_turn"), a_run())

    assert isinstance(closed, e.RunFinished)
    assert closed.duration_ms == 0


# Answers.


def test_an_answer_stands_between_its_start_and_its_end() -> None:
    events = answered.answer_events(
        scribe(),
        agent(),
        whole(thought(), said("Hello"), asked("pay", {"a": 1}, id="toolu_x")),
        NOON,
        {1: "sevt_draft"},
    )

    assert types(events) == snapshot(
        ["span.model_request_start", "agent.thinking", "agent.message", "agent.tool_use", "span.model_request_end"]
    )
    [message], [use], [end] = (
        only(e.AgentMessage, events),
        only(e.AgentToolUse, events),
        only(e.ModelRequestEnd, events),
    )
    assert message.id == "sevt_draft"
    assert message.author is not None
    assert (message.author.agent_id, message.author.model) == ("bank", agent().model)
    assert (use.input, use.provider_id) == ({"a": 1}, "toolu_x")
    assert (end.model_request_start_id, end.stop_reason, end.is_error) == (events[0].id, "tool_use", False)


def test_a_message_names_the_model_that_says_it_answered() -> None:
    accumulator = Accumulator()
    for raw in answer(said()):
        accumulator.take({**raw, "message": {**raw["message"], "model": "scripted"}} if "message" in raw else raw)

    events = answered.answer_events(scribe(), agent(), accumulator.answer(), NOON, {})

    [message] = only(e.AgentMessage, events)
    assert message.author is not None
    assert message.author.model == "scripted"


ONE_OF_EACH = Budget(max_cost=1, max_tokens=1, max_steps=1, max_calls=1, max_active_seconds=1)
SPENT = Spent(cost=1, tokens=1, steps=1, calls=1, active_ms=1000)
FULL = Level("max_cost", 1, 1)


@pytest.mark.parametrize("level", PRESETS)
@pytest.mark.parametrize("step", [None, Cancel("interrupted"), Fail("step_limit", ""), AskBudget(FULL)])
def test_the_largest_answer_fits_one_entry_with_all_that_may_be_said_behind_it(
    level: Autonomy, step: Step | None
) -> None:
    """They are stored together: what is stored before a call is stored with the answer that asked for it."""
    stingy = agent().model_copy(update={"budget": ONE_OF_EACH, "daily_budget": 1})
    most = whole(*(asked("pay") for _ in range(MAX_BLOCKS_PER_ANSWER)))
    said = answered.answer_events(scribe(), stingy, most, NOON, {}, level)
    session = fold(Session(id="sesn_1"), [*build.opened(), *said]).but(spent=SPENT)

    behind = compose.announcement(scribe(), step or next_step(session, agent()), session, stingy)

    assert types(behind).count("budget.warning") == MOST_AT_ONCE
    assert len(said) + len(behind) <= MAX_EVENTS


# Failures.


def failure(error: ModelError, failures: int = 0) -> list[e.Event]:
    return answered.failure_events(scribe(), error, NOON, asking(failures=failures), agent(max_model_retries=4))


def asking(*texts: str, **run: Any) -> Session:
    """A session whose run asks the model."""
    return Session(id="sesn_1", run=a_run(**run), context=tuple(map(user_message, map(message, texts))))


@pytest.mark.parametrize(
    ("name", "type_"),
    [
        ("overloaded", "model_overloaded_error"),
        ("rate_limited", "model_rate_limited_error"),
        ("request_failed", "model_request_failed_error"),
        ("refused_request", "model_request_failed_error"),
        ("no_access", "model_request_failed_error"),
        ("context_full", "model_request_failed_error"),
        ("cut_short", "model_request_failed_error"),
    ],
)
def test_a_failure_has_a_type_of_the_managed_agents_api_and_a_code_of_ours(name: Any, type_: str) -> None:
    [error] = only(e.SessionError, failure(ModelError(name, "Busy")))

    assert (error.error.type, error.error.code) == (type_, f"model_{name}")


@pytest.mark.parametrize(("failures", "status"), [(0, "retrying"), (3, "retrying"), (4, "exhausted"), (9, "exhausted")])
def test_a_failure_says_whether_another_try_follows(failures: int, status: str) -> None:
    events = failure(ModelError("overloaded", "Busy"), failures)

    assert only(e.SessionError, events)[0].error.retry_status.type == status
    assert bool(only(e.StatusRescheduled, events)) == (status == "retrying")


@pytest.mark.parametrize("name", ["refused_request", "no_access"])
def test_a_failure_that_would_repeat_is_terminal(name: Any) -> None:
    events = failure(ModelError(name, "No"))

    assert only(e.SessionError, events)[0].error.retry_status.type == "terminal"


@pytest.mark.parametrize(
    ("texts", "run", "limits", "status"),
    [
        (("One", "Two"), {}, {}, "retrying"),
        (("One", "Two"), {"too_long": 1, "failures": 1}, {"max_model_retries": 0}, "retrying"),
        (("One", "Two"), {"too_long": 2}, {}, "terminal"),
        (("One", "Two"), {"compacted": True}, {}, "terminal"),
        (("One", "Two"), {}, {"compact_at_tokens": 0}, "terminal"),
        (("One",), {}, {}, "terminal"),
    ],
    ids=["once", "again from excerpts", "no more", "no room was made", "never", "nothing to replace"],
)
def test_a_context_that_is_full_is_tried_again_only_when_a_compaction_may_make_room(
    texts: tuple[str, ...], run: dict[str, Any], limits: dict[str, Any], status: str
) -> None:
    full = ModelError("context_full", "prompt is too long")

    events = answered.failure_events(scribe(), full, NOON, asking(*texts, **run), agent(**limits))

    assert only(e.SessionError, events)[0].error.retry_status.type == status
    assert not only(e.StatusRescheduled, events)


@pytest.mark.parametrize(
    ("failures", "asked_for", "waits"), [(0, None, 0.5), (1, None, 1.0), (3, None, 4.0), (0, 20, 20.0), (3, 1, 4.0)]
)
def test_pauses_grow_and_the_provider_may_ask_for_more(failures: int, asked_for: int | None, waits: float) -> None:
    events = failure(ModelError("rate_limited", "Busy", retry_after_seconds=asked_for), failures)

    assert only(e.StatusRescheduled, events)[0].after_seconds == waits


def test_pauses_stop_growing() -> None:
    error = ModelError("overloaded", "Busy")

    events = answered.failure_events(scribe(), error, NOON, asking(failures=15), agent(max_model_retries=20))

    assert only(e.StatusRescheduled, events)[0].after_seconds == 8.0


# Results.


def result_of(outcome: ToolOutcome) -> e.Event:
    return compose.result_event(scribe(), call(), outcome, 12)


@pytest.mark.parametrize(("status", "is_error"), [("ok", False), ("error", True)])
def test_what_a_tool_said_is_a_result(status: Any, is_error: bool) -> None:
    result = result_of(ToolOutcome(status, "text"))

    assert isinstance(result, e.AgentToolResult)
    assert (result.content[0].text, result.is_error, result.duration_ms) == ("text", is_error, 12)


def test_an_unknown_outcome_is_no_result() -> None:
    assert isinstance(result_of(ToolOutcome("unknown", "timed out")), e.ToolOutcomeUnknown)


@pytest.mark.parametrize("character", ["x", "ä", "€", "\U0001f600"])
def test_a_huge_output_is_cut_between_characters_and_says_so(character: str) -> None:
    result = result_of(ToolOutcome("ok", character * (MAX_TOOL_OUTPUT_BYTES + 1)))

    assert isinstance(result, e.AgentToolResult)
    text, note = result.content[0].text.rsplit("\n", 1)
    assert set(text) == {character}
    assert len(text.encode()) > MAX_TOOL_OUTPUT_BYTES - 4
    assert note.startswith("[cut: ")


def test_an_output_at_the_limit_is_whole() -> None:
    result = result_of(ToolOutcome("ok", "x" * MAX_TOOL_OUTPUT_BYTES))

    assert isinstance(result, e.AgentToolResult)
    assert result.content[0].text == "x" * MAX_TOOL_OUTPUT_BYTES


def test_an_output_that_is_no_unicode_can_be_stored() -> None:
    assert e.to_json(result_of(ToolOutcome("ok", "a\ud800\0b")))
