"""A person's word on a call whose outcome is unknown."""

from typing import Any

import pytest
from parley.core import event as e
from parley.core.errors import Conflict, NotFound
from parley.core.fold import fold
from parley.core.outcome import DID_NOT_HAPPEN, Word, decide
from parley.core.session import Session

from tests.build import answered, event, opened, result, scribe, tool_use, types

UNKNOWN = [*opened(), *answered(tool_use()), event(e.ToolIntended), event(e.ToolOutcomeUnknown)]


def said(session: Session, outcome: e.OutcomeWord, result: str | None = None, call_id: str = "call") -> list[e.Event]:
    return decide(scribe(), session, call_id, Word(outcome, result=result), "ann")


def folded(*events: e.Event) -> Session:
    return fold(Session(id="sesn_1"), events)


@pytest.mark.parametrize(
    ("outcome", "given", "text", "is_error"),
    [
        ("happened", "Receipt 7", "Receipt 7", False),
        ("happened", None, "It happened.", False),
        ("did_not_happen", None, DID_NOT_HAPPEN, True),
    ],
)
def test_a_word_that_settles_the_call_comes_with_its_result(
    outcome: Any, given: str | None, text: str, is_error: bool
) -> None:
    decided, answer = said(folded(*UNKNOWN), outcome, given)

    assert isinstance(decided, e.ToolOutcomeDecided)
    assert (decided.outcome, decided.decided_by) == (outcome, "ann")
    assert isinstance(answer, e.AgentToolResult)
    assert (answer.name, answer.content[0].text, answer.is_error) == ("pay", text, is_error)


def test_trying_again_has_no_result_yet() -> None:
    assert types(said(folded(*UNKNOWN), "retry")) == ["tool.outcome_decided"]


@pytest.mark.parametrize("outcome", ["happened", "did_not_happen", "retry"])
def test_after_any_word_the_call_is_not_unknown_any_more(outcome: Any) -> None:
    session = folded(*UNKNOWN, *said(folded(*UNKNOWN), outcome))

    assert session.run is not None
    assert [call.state for call in session.run.calls] == (["requested"] if outcome == "retry" else [])


@pytest.mark.parametrize(
    "events",
    [
        [*opened(), *answered(tool_use())],
        [*opened(), *answered(tool_use()), event(e.ToolIntended)],
        [*UNKNOWN, event(e.ToolOutcomeDecided, outcome="retry")],
    ],
    ids=["not yet made", "being made", "decided before"],
)
def test_only_an_unknown_outcome_can_be_decided(events: list[e.Event]) -> None:
    with pytest.raises(Conflict) as caught:
        said(folded(*events), "happened")

    assert caught.value.code == "outcome_not_unknown"


@pytest.mark.parametrize(
    "events", [[], opened(), [*UNKNOWN, result()]], ids=["no run", "no calls", "settled, and the run went on"]
)
def test_a_call_that_is_not_there_is_not_found(events: list[e.Event]) -> None:
    with pytest.raises(NotFound) as caught:
        said(folded(*events), "happened")

    assert caught.value.code == "tool_call_not_found"


def test_a_blank_result_is_as_good_as_none() -> None:
    _, answer = said(folded(*UNKNOWN), "happened", "")

    assert isinstance(answer, e.AgentToolResult)
    assert answer.content[0].text == "It happened."


def test_a_word_about_one_attempt_does_not_count_for_the_next() -> None:
    again: list[e.Event] = [event(e.ToolOutcomeDecided, outcome="retry"), event(e.ToolIntended, attempt=2)]
    session = folded(*UNKNOWN, *again, event(e.ToolOutcomeUnknown, attempt=2))

    with pytest.raises(Conflict, match="attempt: 2") as refused:
        said(session, "retry")

    assert refused.value.code == "other_attempt"
