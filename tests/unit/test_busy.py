"""What people say to a run that is open: stop, or one thing more."""

import pytest
from parley.core import busy
from parley.core import control as c
from parley.core import event as e
from parley.core.compose import announcement
from parley.core.fold import fold
from parley.core.run import CallModel, Cancel, Finish, Wait, next_step
from parley.core.scribe import Scribe
from parley.core.session import Session
from parley.core.value import Usage, text_of

from tests.build import (
    agent,
    answered,
    entry,
    event,
    failed_call,
    idle,
    message,
    opened,
    result,
    scribe,
    tool_use,
)
from tests.fakes.clock import NOON
from tests.fakes.ids import CountingIds


def folded(*events: e.Event) -> Session:
    return fold(Session(id="sesn_1"), events)


def closed() -> list[e.Event]:
    return [*opened(), *answered(event(e.AgentMessage)), event(e.RunFinished), idle()]


def steered(*texts: str, session: Session) -> list[e.Event]:
    """Steer messages that have waited for nothing."""
    outside = Scribe(CountingIds().new, lambda: NOON, None)
    said = [message(text, id=outside.new_id("sevt")) for text in texts]
    return list(busy.steer(scribe(task_id="ticket"), session, said))


STOP = event(c.UserInterrupt, run_id="run")


# Stopping.


def test_an_open_run_is_stopped_by_name_or_without() -> None:
    session = folded(*opened())

    stops = [busy.stop(scribe(), session, "ann", run_id) for run_id in (None, "run")]

    assert [(event.type, event.run_id) for [event] in stops] == [("user.interrupt", "run")] * 2
    assert all(isinstance(event, c.UserInterrupt) and event.requested_by == "ann" for [event] in stops)


@pytest.mark.parametrize(
    ("session", "run_id"),
    [
        (folded(), None),
        (folded(*closed()), None),
        (folded(*closed()), "run"),
        (folded(*opened()), "another"),
        (folded(*opened(), STOP), None),
    ],
    ids=["no run", "over", "over, by name", "another run", "stopped before"],
)
def test_what_is_over_or_to_stop_already_needs_no_stop(session: Session, run_id: str | None) -> None:
    assert busy.stop(scribe(), session, "ann", run_id) == ()


@pytest.mark.parametrize(
    "before",
    [
        [],
        [*answered(tool_use())],
        [*answered(tool_use()), event(e.ToolIntended)],
        [*answered(tool_use()), event(e.ToolIntended), event(e.ToolOutcomeUnknown), idle("requires_action", "call")],
        [*failed_call()],
        [*answered(tool_use(evaluated_permission="ask")), idle("requires_action", "call")],
    ],
    ids=["asked", "called", "at work", "unknown", "failed", "waits"],
)
def test_wherever_a_run_is_a_stop_closes_it_with_a_result_for_every_call(before: list[e.Event]) -> None:
    session = folded(*opened(), *before, STOP)

    step = next_step(session, agent())
    after = fold(session, announcement(scribe(), step, session, agent()))

    assert step == Cancel("interrupted")
    assert after.run is not None
    assert (after.run.open, after.phase) == (False, "interrupted")
    assert all(call.state == "settled" for call in after.run.calls)
    assert isinstance(next_step(after, agent()), Wait)


def test_a_stop_without_a_run_changes_nothing_and_does_not_meet_the_next_one() -> None:
    before = folded(*closed())

    after = fold(before, [event(c.UserInterrupt)])
    later = fold(after, opened("later"))

    assert after == before
    assert isinstance(next_step(later, agent()), CallModel)


def test_a_stop_of_a_run_that_is_over_does_not_meet_the_next_one() -> None:
    session = folded(*closed(), *opened("later"), event(c.UserInterrupt, run_id="run"))

    assert isinstance(next_step(session, agent()), CallModel)


def test_an_answer_that_was_cut_off_ends_its_run_as_stopped_whatever_the_log_says() -> None:
    session = folded(*opened(), *answered(event(e.AgentMessage), stop_reason="interrupted"))

    assert next_step(session, agent()) == Cancel("interrupted")


def test_an_answer_that_was_cut_off_has_not_counted_the_context() -> None:
    counted = folded(*opened(), *answered(tool_use(), model_usage=Usage(input_tokens=900)), result())

    session = fold(counted, answered(stop_reason="interrupted", model_usage=Usage(input_tokens=1)))

    assert session.context_tokens == counted.context_tokens == 900
    assert session.usage.input_tokens == 901


# Steering.


def test_a_message_joins_the_open_run_and_is_read_once_with_its_next_request() -> None:
    session = folded(*opened())

    said = steered("And in euros", session=session)
    waits = fold(session, said)
    read = fold(waits, answered(event(e.AgentMessage)))

    [joined] = said
    assert isinstance(joined, e.UserMessage)
    assert (joined.run_id, joined.task_id, text_of(joined.content)) == ("run", "ticket", "And in euros")
    assert joined.processed_at is not None
    assert len(waits.context) == len(session.context)
    assert b"And in euros" in read.context[-1]
    assert b"".join(read.context).count(b"And in euros") == 1
    assert read.steered == ()


@pytest.mark.parametrize(
    "next_request",
    [
        entry(*answered(event(e.AgentMessage))),
        entry(*answered(tool_use()), result()),
        entry(*failed_call()),
        entry(event(e.RunClaimed, epoch=2)),
    ],
    ids=["behind an answer", "behind results", "behind a failure", "by another driver"],
)
def test_a_run_that_was_told_one_thing_more_asks_the_model_again(next_request: list[e.Event]) -> None:
    session = folded(*opened())

    session = fold(session, [*steered("More", "and more", session=session), *next_request])

    assert isinstance(next_step(session, agent()), CallModel)
    assert [b"More" in session.context[-2], b"and more" in session.context[-1]] == [True, True]


def test_a_message_that_comes_between_a_call_and_its_result_waits_for_the_result() -> None:
    session = folded(*opened(), *answered(tool_use()), event(e.ToolIntended))

    asked = fold(session, steered("More", session=session))
    done = fold(asked, [result()])

    assert asked.context == session.context
    assert [b"tool_result" in done.context[-2], b"More" in done.context[-1]] == [True, True]


@pytest.mark.parametrize("end", [[event(e.RunFailed), idle()], [STOP, event(c.RunCancelled), idle()]])
def test_a_message_whose_run_ends_first_is_there_for_the_next_one(end: list[e.Event]) -> None:
    session = folded(*opened())

    session = fold(session, [*steered("More", session=session), *end])

    assert b"More" in session.context[-1]
    assert session.steered == ()


@pytest.mark.parametrize("session", [folded(), folded(*closed()), folded(*opened(), STOP)])
def test_no_message_joins_a_run_that_is_over_or_to_stop(session: Session) -> None:
    assert steered("More", session=session) == []


def test_a_message_that_came_with_the_last_answer_keeps_the_run_from_finishing() -> None:
    session = folded(*opened())
    last = answered(event(e.AgentMessage))

    finishes = next_step(fold(session, last), agent())
    goes_on = next_step(fold(session, [*steered("More", session=session), *last]), agent())

    assert isinstance(finishes, Finish)
    assert isinstance(goes_on, CallModel)
