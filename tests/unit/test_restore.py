"""Setting a conversation back: legal for every place of a log, and told to the model when something was left out."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parley.core import control as c
from parley.core import event as e
from parley.core.errors import Conflict, NotFound
from parley.core.fold import fold
from parley.core.restore import MAX_CHECKPOINTS, SET_BACK, may_name, place_of, restored
from parley.core.session import Session

from tests.build import answered, event, message, numbered, opened, result, scribe, tool_use
from tests.fakes.anthropic_rules import sign
from tests.fakes.model import problem_of
from tests.unit.test_session import Entry, logs

SAID = event(e.AgentMessage)
CLOSED = [event(e.RunFinished)]
PAID = numbered([*opened(), *answered(tool_use()), result(), *answered(SAID), *CLOSED])
"""A run with one call: its message is event 1, the answer with the call ends at 6, the result is 7."""


def folded(events: list[e.Event], id: str = "sesn_1") -> Session:
    return fold(Session(id=id), events)


def back(events: list[e.Event], seq: int) -> Session:
    """Set a session back, and fold what that stores."""
    present = folded(events)
    said = restored(scribe(), present, folded(events[:seq]), checkpoint=None, by="ann")
    return fold(present, [said.model_copy(update={"seq": present.seq + 1})])


def texts(session: Session) -> list[Any]:
    return [json.loads(each)["content"] for each in session.context]


def told(session: Session) -> bool:
    return SET_BACK in session.context[-1].decode()


@settings(max_examples=150)
@given(logs())
def test_a_session_can_be_set_back_to_any_place_of_any_log_and_forked_there(log: list[Entry]) -> None:
    events = numbered([*(each for appended in log for each in appended), event(e.RunFailed)])
    present = folded(events)

    for seq in range(1, len(events) + 1):
        past = folded(events[:seq])
        here = restored(scribe(), present, past, checkpoint=None, by="ann")
        there = restored(scribe(None), Session(id="fork"), past, fork_of=present, checkpoint=None, by="ann")
        for begun in (fold(present, [here]), fold(Session(id="fork"), [there])):
            assert problem_of(fold(begun, [message("And now?")]).context) is None
        assert fold(present, [here]).context == (
            *present.context[: here.keep],
            *(each.encode() for each in here.messages),
        )


@given(logs(), st.data())
def test_a_session_that_was_set_back_can_be_set_back_again_to_where_it_was(
    log: list[Entry], data: st.DataObject
) -> None:
    events = numbered([*(each for appended in log for each in appended), event(e.RunFailed)])
    seq = data.draw(st.integers(1, len(events)))

    again = restored(scribe(), back(events, seq), folded(events), checkpoint=None, by="ann")

    assert problem_of(fold(back(events, seq), [again, message("And now?")]).context) is None


def test_what_stays_is_not_carried_and_what_is_carried_is_exact() -> None:
    two = numbered([*PAID, *opened("run_2"), *answered(SAID), *CLOSED])

    said = restored(scribe(), folded(two), folded(two[: len(PAID)]), checkpoint="paid", by="ann")

    assert (said.keep, said.to_seq, said.checkpoint, said.by) == (4, len(PAID), "paid", "ann")
    assert [json.loads(each)["content"][0]["text"] for each in said.messages] == [SET_BACK]


def test_a_call_that_was_open_there_has_a_result_that_says_so() -> None:
    session = back(PAID, 6)

    assert texts(session)[-2][0]["type"] == "tool_result"
    assert "ended before this call had a result" in json.dumps(texts(session)[-2])
    assert told(session)


def test_half_an_answer_is_none() -> None:
    session = back(PAID, 5)  # amid the answer, before its end

    assert [each[0].get("text") for each in texts(session)] == ["Hi", SET_BACK]


def test_a_message_that_had_come_in_the_middle_of_the_run_is_kept() -> None:
    steered = numbered([*opened(), *answered(tool_use()), message("And look", run_id="run"), result(), *CLOSED])

    session = back(steered, 7)

    assert "And look" in json.dumps(texts(session))


def test_nothing_is_told_when_nothing_was_left_out() -> None:
    same = back(PAID, len(PAID))

    assert same.context == folded(PAID).context


def test_thinking_does_not_outlive_its_prompt() -> None:
    thought = event(e.AgentThinking, thinking="Hm", signature=sign("Hm", b""))
    older = [*opened("run_1"), *answered(thought, SAID), *CLOSED]
    newer = numbered([*older, *opened("run_2", agent_version=2), *answered(SAID), *CLOSED])
    same = numbered([*older, *opened("run_2"), *answered(SAID), *CLOSED])

    changed, kept = back(newer, len(older)), back(same, len(older))

    assert "Hm" not in json.dumps(texts(changed))
    assert "Hm" in json.dumps(texts(kept))


def test_amid_a_run_it_changes_nothing() -> None:
    running = folded(numbered(opened()))

    session = fold(running, [event(c.SessionRestored, messages=('{"role":"user","content":[]}',))])

    assert session.context == running.context


def test_a_fork_says_what_it_is_of() -> None:
    source = folded(PAID, "sesn_7")

    said = restored(scribe(None), Session(id="fork"), source, fork_of=source, checkpoint=None, by="ann")

    assert (said.source_session_id, said.keep, len(said.messages)) == ("sesn_7", 0, len(source.context))
    assert SET_BACK not in json.dumps(said.messages)


# Checkpoints.


def test_a_checkpoint_is_where_it_was_named() -> None:
    session = folded(numbered([*opened(), event(c.CheckpointCreated, name="before"), *CLOSED]))

    assert place_of(session, "before") == 4
    with pytest.raises(NotFound) as unknown:
        place_of(session, "after")
    assert unknown.value.code == "checkpoint_not_found"


def test_a_name_belongs_to_one_place() -> None:
    session = folded(numbered([*opened(), event(c.CheckpointCreated, name="before")]))

    assert may_name(session, "other")
    assert not may_name(session, "before")
    with pytest.raises(Conflict) as taken:
        may_name(fold(session, [message(seq=5)]), "before")
    assert taken.value.code == "name_taken"


def test_a_second_checkpoint_of_a_name_changes_nothing() -> None:
    session = folded(numbered([event(c.CheckpointCreated, name="a"), event(c.CheckpointCreated, name="a")]))

    assert [(each.name, each.seq) for each in session.checkpoints] == [("a", 1)]


def test_there_is_an_end_to_checkpoints() -> None:
    session = folded(numbered(event(c.CheckpointCreated, name=f"n{n}") for n in range(MAX_CHECKPOINTS)))

    with pytest.raises(Conflict) as refused:
        may_name(session, "more")
    assert refused.value.code == "too_many_checkpoints"
