"""`next_step`: from any session, one decision."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parley.core import event as e
from parley.core.fold import fold
from parley.core.run import AskPerson, CallModel, CallTools, Compact, Fail, Finish, HandOver, Step, Wait, next_step
from parley.core.session import Call, Session
from parley.core.value import Usage

from tests import build
from tests.build import answered, compaction, entry, event, failed_call, idle, message, opened, result, tool_use


def after(*events: e.Event, **limits: Any) -> Step:
    """Decide what follows these events."""
    return next_step(fold(Session(id="sesn_1"), events), build.agent(**limits))


def names(step: Step) -> list[str]:
    assert isinstance(step, CallTools | AskPerson)
    return [call.id for call in step.calls]


SAID = event(e.AgentMessage)


def intended(call_id: str = "call", effect: str = "non_idempotent") -> e.ToolIntended:
    return event(e.ToolIntended, tool_use_id=call_id, effect=effect)


# The model.


def test_a_new_run_asks_the_model() -> None:
    assert after(*opened()) == CallModel()


def test_results_go_back_to_the_model() -> None:
    assert after(*opened(), *answered(tool_use()), result()) == CallModel()


def test_a_failed_model_call_is_tried_again_after_the_pause_that_the_log_names() -> None:
    rescheduled = event(e.StatusRescheduled, reason="model_retry", after_seconds=4.0)

    assert after(*opened(), *failed_call(), rescheduled) == CallModel(after_seconds=4.0)


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("end_turn", "completed"),
        ("stop_sequence", "completed"),
        ("max_tokens", "completed_with_errors"),
        ("pause_turn", "completed"),  # no answer has it any more, but a log may
        ("a reason of tomorrow", "completed"),
    ],
)
def test_an_answer_ends_the_run(reason: str, status: str) -> None:
    assert after(*opened(), *answered(SAID, stop_reason=reason)) == Finish(status, reason)  # type: ignore[arg-type]


def test_an_answer_after_a_failed_tool_ends_it_with_errors() -> None:
    step = after(*opened(), *answered(tool_use()), result(is_error=True), *answered(SAID))

    assert step == Finish("completed_with_errors", "end_turn")


@pytest.mark.parametrize(
    ("reason", "code"),
    [("refusal", "model_refused"), ("model_context_window_exceeded", "context_full")],
)
def test_an_answer_that_is_none_fails_the_run(reason: str, code: str) -> None:
    step = after(*opened(), *answered(SAID, stop_reason=reason), compact_at_tokens=0)

    assert isinstance(step, Fail)
    assert (step.code, step.retryable) == (code, False)


# Long sessions.

LONG: dict[str, Any] = {"model_usage": Usage(input_tokens=900, output_tokens=101)}
FULL = failed_call(code="model_context_full")


def long(tokens: dict[str, Any] = LONG) -> list[e.Event]:
    """A run that has had an answer, and a result that the model has not seen."""
    return [*opened(), *answered(tool_use(), **tokens), result()]


def test_a_context_that_became_too_long_is_compacted_before_the_model_is_asked() -> None:
    assert after(*long(), compact_at_tokens=1000) == Compact(replaced=1)
    assert after(*long(), *compaction(1), compact_at_tokens=1000) == CallModel()


@pytest.mark.parametrize("limit", [1001, 0], ids=["as long as allowed", "never"])
def test_below_the_limit_or_without_one_nothing_is_compacted(limit: int) -> None:
    assert after(*long(), compact_at_tokens=limit) == CallModel()


def test_a_long_context_with_nothing_to_replace_is_sent_as_it_is() -> None:
    session = fold(Session(id="sesn_1"), long())
    alone = session.but(context=session.context[1:])

    assert next_step(alone, build.agent(compact_at_tokens=1000)) == CallModel()


def test_calls_without_a_result_come_before_a_compaction() -> None:
    begun = [*opened(), *answered(tool_use(), **LONG)]

    assert isinstance(after(*begun, compact_at_tokens=1000), CallTools)
    assert isinstance(after(*begun, intended(), compact_at_tokens=1000), AskPerson)


def test_a_run_that_ends_is_not_compacted() -> None:
    assert isinstance(after(*opened(), *answered(SAID, **LONG), compact_at_tokens=1000), Finish)


def test_the_next_run_of_a_long_session_begins_with_a_compaction() -> None:
    ended = [*opened(), *answered(SAID, **LONG), event(e.RunFinished)]

    assert after(*ended, *opened("run_2"), compact_at_tokens=1000) == Compact(replaced=2)


def test_a_run_at_its_step_limit_is_not_compacted() -> None:
    step = after(*long(), compact_at_tokens=1000, max_steps=1)

    assert isinstance(step, Fail)
    assert step.code == "step_limit"


def test_a_compaction_that_failed_is_tried_again_after_its_pause_and_not_for_ever() -> None:
    rescheduled = event(e.StatusRescheduled, reason="model_retry", after_seconds=4.0)

    step = after(*long(), *failed_call(), rescheduled, compact_at_tokens=1000)
    given_up = after(*long(), *failed_call(), *failed_call(), compact_at_tokens=1000, max_model_retries=1)

    assert step == Compact(replaced=1, after_seconds=4.0)
    assert isinstance(given_up, Fail)
    assert given_up.code == "model_overloaded"


def test_a_summary_that_did_not_fit_the_context_is_not_asked_for_again() -> None:
    assert after(*long(), *compaction(2), compact_at_tokens=1000) == CallModel()


@pytest.mark.parametrize("retries", [0, 4])
def test_when_the_model_says_that_the_context_is_full_it_is_compacted_whatever_was_counted(retries: int) -> None:
    once, twice = [*long({}), *FULL], [*long({}), *FULL, *FULL]

    assert after(*once, max_model_retries=retries) == Compact(replaced=1)
    assert after(*twice, max_model_retries=retries) == Compact(replaced=1, excerpts=True)


@pytest.mark.parametrize(
    ("events", "limits"),
    [
        ([*long({}), *FULL, *FULL, *FULL], {}),
        ([*opened(), *answered(SAID), *opened("run_2"), *FULL, *compaction(1), *FULL], {}),
        ([*long({}), *FULL], {"compact_at_tokens": 0}),
        ([*opened(), *FULL], {}),
        ([*long({}), *FULL, *failed_call(), *FULL, *FULL], {}),
    ],
    ids=["not even excerpts fit", "no room was made", "never", "nothing to replace", "with another failure between"],
)
def test_a_context_in_which_no_room_can_be_made_fails_the_run(events: list[e.Event], limits: dict[str, Any]) -> None:
    step = after(*events, **limits)

    assert isinstance(step, Fail)
    assert (step.code, step.retryable) == ("context_full", False)


def test_an_answer_that_ran_out_of_room_is_replaced_with_all_before_it() -> None:
    cut = answered(SAID, stop_reason="model_context_window_exceeded")

    assert after(*opened(), *cut) == Compact(replaced=2)
    assert after(*opened(), *cut, *compaction(2)) == CallModel()


def test_the_next_run_may_make_room_where_the_last_could_not() -> None:
    failed = [*long({}), *FULL, *compaction(1), *FULL, event(e.RunFailed)]

    assert isinstance(after(*failed, *opened("run_2"), *FULL), Compact)


def test_a_driver_whose_time_is_too_short_for_a_summary_hands_over() -> None:
    session = fold(Session(id="sesn_1"), long())

    assert next_step(session, build.agent(compact_at_tokens=1000), seconds_left=59.0) == HandOver()


# Tools.


def test_requested_calls_are_made_together() -> None:
    assert names(after(*opened(), *answered(tool_use("a"), tool_use("b")))) == ["a", "b"]


def test_only_calls_without_a_result_are_made() -> None:
    assert names(after(*opened(), *answered(tool_use("a"), tool_use("b")), result("a"))) == ["b"]


@pytest.mark.parametrize("effect", ["read", "idempotent"])
def test_an_interrupted_call_that_is_safe_to_repeat_is_made_again(effect: str) -> None:
    step = after(*opened(), *answered(tool_use()), intended(effect=effect), event(e.RunClaimed, epoch=2))

    assert isinstance(step, CallTools)
    assert names(step) == ["call"]


def test_an_interrupted_call_that_is_not_safe_to_repeat_asks_a_person() -> None:
    step = after(*opened(), *answered(tool_use()), intended(), event(e.RunClaimed, epoch=2))

    assert isinstance(step, AskPerson)
    assert [call.id for call in step.calls] == [call.id for call in step.interrupted] == ["call"]


def test_a_call_whose_outcome_is_known_to_be_unknown_is_not_announced_twice() -> None:
    step = after(*opened(), *answered(tool_use()), intended(), event(e.ToolOutcomeUnknown))

    assert isinstance(step, AskPerson)
    assert (names(step), step.interrupted) == (["call"], ())


def test_what_can_be_done_is_done_before_a_person_is_asked() -> None:
    step = after(*opened(), *answered(tool_use("a"), tool_use("b")), intended("a"))

    assert isinstance(step, CallTools)
    assert names(step) == ["b"]


def test_a_person_who_was_asked_is_waited_for() -> None:
    asked = entry(intended(), event(e.ToolOutcomeUnknown), idle("requires_action", "call"))

    assert after(*opened(), *answered(tool_use()), *asked) == Wait()


@pytest.mark.parametrize(
    ("word", "step"),
    [
        ([event(e.ToolOutcomeDecided, outcome="happened"), result()], CallModel),
        ([event(e.ToolOutcomeDecided, outcome="did_not_happen"), result(is_error=True)], CallModel),
        ([event(e.ToolOutcomeDecided, outcome="retry")], CallTools),
    ],
    ids=["it happened", "it did not happen", "try again"],
)
def test_a_persons_word_goes_on(word: list[e.Event], step: type[Step]) -> None:
    asked = entry(intended(), event(e.ToolOutcomeUnknown), idle("requires_action", "call"))

    assert isinstance(after(*opened(), *answered(tool_use()), *asked, *word), step)


def test_one_word_of_two_asks_for_the_other() -> None:
    asked = [event(e.ToolOutcomeUnknown, tool_use_id=each) for each in ("a", "b")]
    word = entry(event(e.ToolOutcomeDecided, tool_use_id="a"), result("a"))

    step = after(*opened(), *answered(tool_use("a"), tool_use("b")), *asked, idle("requires_action", "a", "b"), *word)

    assert isinstance(step, AskPerson)
    assert names(step) == ["b"]


# Giving up.


def test_a_run_may_use_all_of_its_steps_and_not_one_more() -> None:
    one_step = [*answered(tool_use("a")), result("a")]
    another = [*answered(tool_use("b")), result("b")]

    assert after(*opened(), *one_step, max_steps=2) == CallModel()
    over = after(*opened(), *one_step, *another, max_steps=2)
    assert isinstance(over, Fail)
    assert over.code == "step_limit"


def test_the_calls_of_the_last_step_are_still_made() -> None:
    assert isinstance(after(*opened(), *answered(tool_use()), max_steps=1), CallTools)


def test_model_calls_that_keep_failing_end_the_run_when_retries_are_used_up() -> None:
    retried = [*failed_call(), *failed_call()]

    assert isinstance(after(*opened(), *retried, max_model_retries=2), CallModel)
    over = after(*opened(), *retried, *failed_call("exhausted"), max_model_retries=2)
    assert over == Fail("model_overloaded", "Busy", retryable=True)


def test_a_terminal_failure_ends_the_run_at_once() -> None:
    over = after(*opened(), *failed_call("terminal", "model_refused_request"))

    assert over == Fail("model_refused_request", "Busy", retryable=False)


def test_a_run_that_kills_its_drivers_is_poisoned() -> None:
    claims = [event(e.RunClaimed, epoch=epoch) for epoch in range(2, 5)]

    assert isinstance(after(*opened(), *claims[:2], max_claims=3), CallModel)
    over = after(*opened(), *claims, max_claims=3)
    assert isinstance(over, Fail)
    assert over.code == "poisoned"


# Handing over.

SLOW = build.a_tool("slow", "read", timeout_seconds=90.0)
FROM_NOW_ON = event(e.RunClaimed, epoch=2)


def within(seconds_left: float, *events: e.Event, **limits: Any) -> Step:
    """Decide what follows these events when the driver has so much time."""
    an_agent = build.agent(build.PAY, build.LOOK, SLOW, tool_timeout_seconds=20.0, **limits)
    return next_step(fold(Session(id="sesn_1"), events), an_agent, seconds_left)


RESCHEDULED = event(e.StatusRescheduled, reason="model_retry", after_seconds=4.0)


@pytest.mark.parametrize(
    ("events", "needs"),
    [
        ([*answered(tool_use()), result()], 45),
        ([*failed_call(), RESCHEDULED], 45 + 4),
        (answered(tool_use(name="pay")), 20),
        (answered(tool_use("a", name="look"), tool_use("b", name="slow"), tool_use("c", name="pay")), 90),
    ],
    ids=["a model call", "a model call after a pause", "a tool", "the longest of several tools"],
)
def test_a_step_that_may_not_fit_is_left_to_another_driver(events: list[e.Event], needs: float) -> None:
    too_short = within(needs - 0.1, *opened(), *events, model_reserve_seconds=45)
    enough = within(needs, *opened(), *events, model_reserve_seconds=45)

    assert too_short == HandOver()
    assert enough == after(*opened(), *events, model_reserve_seconds=45)


def test_a_call_of_an_unknown_tool_takes_no_time() -> None:
    assert names(within(0, *opened(), *answered(tool_use(name="gone")))) == ["call"]


@pytest.mark.parametrize(
    "events",
    [
        answered(SAID),
        answered(SAID, stop_reason="refusal"),
        failed_call("terminal"),
        [*answered(tool_use()), intended()],
    ],
    ids=["finish", "refused", "give up", "ask a person"],
)
def test_what_ends_a_drive_needs_no_time(events: list[e.Event]) -> None:
    for seconds_left in (0, -1):
        assert isinstance(within(seconds_left, *opened(), *events), Finish | Fail | AskPerson)


@pytest.mark.parametrize(
    "events",
    [
        [],
        [*answered(tool_use()), FROM_NOW_ON],
        [*answered(tool_use()), result(), FROM_NOW_ON],
        [*failed_call(), FROM_NOW_ON],
    ],
    ids=["a new run", "calls", "results", "a failure"],
)
def test_a_driver_that_has_not_made_a_step_yet_tries_however_short_its_time(events: list[e.Event]) -> None:
    assert isinstance(within(0, *opened(), *events), CallModel | CallTools)


# Nothing to do.


@pytest.mark.parametrize(
    "events",
    [
        [],
        [message()],
        [*opened(), *answered(SAID), event(e.RunFinished)],
        [*opened(), event(e.RunFailed)],
        [*opened(), event(e.SessionDeleted)],
        [*opened(), *answered(tool_use()), event(e.SessionDeleted)],
    ],
    ids=["nothing sent", "only a message", "finished", "failed", "deleted", "deleted with calls"],
)
def test_without_an_open_run_there_is_nothing_to_do(events: list[e.Event]) -> None:
    assert after(*events) == Wait()


STATES = st.sampled_from(["requested", "intended", "unknown", "settled"])
EFFECTS = st.sampled_from(["read", "idempotent", "non_idempotent"])
CALLS = st.lists(
    st.builds(lambda state, effect: build.call(state=state, effect=effect), STATES, EFFECTS), min_size=1, max_size=4
).filter(lambda calls: any(call.state != "settled" for call in calls))


@settings(max_examples=200)
@given(CALLS)
def test_whatever_the_calls_are_nothing_unsafe_is_repeated(calls: list[Call]) -> None:
    session = fold(Session(id="sesn_1"), opened()).but_run(calls=tuple(calls))

    step = next_step(session, build.agent())

    assert isinstance(step, CallTools | AskPerson)
    if isinstance(step, CallTools):
        assert all(
            call.state == "requested" or (call.state == "intended" and call.effect in ("read", "idempotent"))
            for call in step.calls
        )
    else:
        assert {call.state for call in step.calls} <= {"intended", "unknown"}
        assert all(call in step.calls for call in step.interrupted)
