"""A person's decision on a call, on a plan, in the SDK's words; and what comes of none."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from parley.core import approval
from parley.core import control as c
from parley.core import event as e
from parley.core.agent import Agent
from parley.core.approval import DENIED, DENIED_BECAUSE, EXPIRED, Decision, decide, expire
from parley.core.arguments import arguments
from parley.core.binding import approval_id, asked_of, binding
from parley.core.control import DecisionWord
from parley.core.decisions import MAX_CONFIRMATIONS, Confirmation, PlanDecision, confirm, decide_plan
from parley.core.errors import Conflict, Gone, Invalid, NotFound, ParleyError, TooLarge
from parley.core.fold import fold
from parley.core.limits import MAX_BLOCKS_PER_ANSWER, MAX_INPUT_DEPTH, MAX_TOOL_OUTPUT_BYTES
from parley.core.policy import OnExpire, PlanVerdict
from parley.core.run import AskPerson, CallTools, Cancel, next_step
from parley.core.scribe import Scribe
from parley.core.session import Call, Session
from parley.core.tool import tool
from parley.store.entry import MAX_EVENTS

from tests.build import agent, answered, event, idle, only, opened, scribe, tool_use, types
from tests.fakes.clock import NOON
from tests.fakes.ids import CountingIds

LATER = NOON + timedelta(days=14)
FIVE = {"amount": 5}


def requested(call_id: str, on_expire: OnExpire = "deny", **fields: Any) -> c.ApprovalRequested:
    hashed = binding("pay", FIVE)
    asked = {"approval_id": f"appr_1_{call_id}", "tool_use_id": call_id, "input": FIVE, "binding": hashed}
    return event(c.ApprovalRequested, **{**asked, "expires_at": LATER, "on_expire": on_expire, **fields})


def waiting(*call_ids: str, plan: PlanVerdict | None = None, on_expire: OnExpire = "deny") -> Session:
    """Fold a run that waits for decisions on these calls."""
    uses = [tool_use(each, input=FIVE, evaluated_permission="ask") for each in call_ids or ("call",)]
    proposed = [event(c.PlanProposed, verdict=plan)] if plan else []
    asked = [requested(each.id, on_expire) for each in uses]
    waits = idle("requires_action", *(each.id for each in uses))
    return fold(Session(id="sesn_1"), [*opened(), *answered(*uses), *proposed, *asked, waits])


def said(
    session: Session, word: DecisionWord, call_id: str = "call", deployed: Agent | None = None, **more: Any
) -> list[e.Event]:
    return decide(scribe(), session, call_id, Decision(word, **more), "ann", deployed or agent())


def late(days: int = 15) -> Scribe:
    return Scribe(CountingIds().new, lambda: NOON + timedelta(days=days), "run")


def call_of(session: Session, call_id: str = "call") -> Call:
    assert session.run is not None
    return next(each for each in session.run.calls if each.id == call_id)


def read(events: Sequence[e.Event]) -> list[tuple[str, bool]]:
    """What the model reads of each call."""
    return [(each.content[0].text, each.is_error) for each in only(e.AgentToolResult, events)]


# One decision.


def test_what_is_approved_may_run_and_nothing_else() -> None:
    session = waiting()

    [decided] = said(session, "approve")
    after = fold(session, [decided])

    assert isinstance(decided, c.ApprovalDecided)
    assert (decided.decision, decided.binding, decided.decided_by) == ("approve", binding("pay", FIVE), "ann")
    assert call_of(after).may_run
    assert isinstance(next_step(after, agent()), CallTools)
    assert not call_of(after).model_copy(update={"input": {"amount": 6}}).may_run


@pytest.mark.parametrize("message", [None, "", "Not this month."])
def test_what_is_denied_is_told_with_the_reason(message: str | None) -> None:
    decided, result = said(waiting(), "deny", message=message)

    assert types([decided, result]) == ["approval.decided", "agent.tool_result"]
    assert read([result]) == [(DENIED_BECAUSE + message if message else DENIED, True)]


def test_an_answer_is_the_calls_result() -> None:
    events = said(waiting(), "answer", message="Paid in cash.")

    assert read(events) == [("Paid in cash.", False)]


@pytest.mark.parametrize("edited", [{"amount": 4}, {}])
def test_what_is_edited_runs_with_the_edited_arguments_only(edited: dict[str, Any]) -> None:
    session = waiting()

    [decided] = said(session, "edit", input=edited)
    after = call_of(fold(session, [decided]))

    assert isinstance(decided, c.ApprovalDecided)
    assert (decided.input, decided.binding) == (edited, binding("pay", edited))
    assert (after.input, after.edited, after.may_run) == (edited, True, True)


@pytest.mark.parametrize(
    ("edited", "where"),
    [
        ({"amount": "five"}, "amount"),
        ({"sum": 5}, "sum"),
        ({"amount": float("inf")}, "JSON"),
        ({"amount": "\ud800"}, "surrogates"),
    ],
)
def test_edited_arguments_that_do_not_fit_the_tool_are_refused_with_their_place(
    edited: dict[str, Any], where: str
) -> None:
    with pytest.raises(Invalid, match=where) as refused:
        said(waiting(), "edit", input=edited)

    assert refused.value.code == "input_invalid"


def test_edited_arguments_are_no_longer_than_what_the_model_may_read_of_a_result() -> None:
    @tool
    def pay(note: str) -> str:
        """Pay."""
        return note

    room = MAX_TOOL_OUTPUT_BYTES - len('{"note": ""}')

    with pytest.raises(TooLarge, match="262,144"):
        said(waiting(), "edit", deployed=agent(pay), input={"note": "x" * (room + 1)})

    assert said(waiting(), "edit", deployed=agent(pay), input={"note": "x" * room})


def test_a_call_of_a_tool_that_is_not_deployed_any_more_cannot_be_edited() -> None:
    with pytest.raises(Invalid, match="pay") as refused:
        said(waiting(), "edit", deployed=agent(*agent().tools[1:]), input={})

    assert refused.value.code == "tool_not_found"


@pytest.mark.parametrize("word", ["approve", "deny", "answer"])
def test_an_event_holds_the_decision_that_made_it_and_no_other(word: DecisionWord) -> None:
    [decided, *_] = said(waiting(), word)
    assert isinstance(decided, c.ApprovalDecided)

    assert Decision(word).stands_in(decided)
    assert Decision(word, message="").stands_in(decided)
    assert not Decision(word, message="Why").stands_in(decided)
    assert not Decision("edit", input={}).stands_in(decided)


# Too late, or about something else.


def refusal(session: Session, word: DecisionWord = "approve", by: Scribe | None = None, **more: Any) -> ParleyError:
    with pytest.raises(ParleyError) as refused:
        decide(by or scribe(), session, "call", Decision(word, **more), "bob", agent())
    return refused.value


def test_a_decision_on_an_unknown_call_is_refused() -> None:
    assert refusal(waiting("other")).code == "tool_call_not_found"
    assert refusal(Session(id="sesn_1")).code == "tool_call_not_found"


@pytest.mark.parametrize(
    ("word", "more"),
    [("approve", {}), ("edit", {"input": {}}), ("deny", {}), ("answer", {"message": "Done"})],
)
def test_a_second_decision_is_refused(word: DecisionWord, more: dict[str, Any]) -> None:
    session = waiting("call", "other")
    after = fold(session, said(session, word, **more))

    refused = refusal(after)

    assert isinstance(refused, Conflict)
    assert refused.code == "approval_decided"


def test_a_decision_that_has_seen_other_arguments_is_refused() -> None:
    seen = refusal(waiting(), binding=binding("pay", {"amount": 500}))

    assert (seen.code, seen.status) == ("approval_changed", 409)
    assert said(waiting(), "approve", binding=binding("pay", FIVE))


def test_a_decision_after_the_time_is_over_is_refused_to_the_millisecond() -> None:
    late_by_nothing = Scribe(CountingIds().new, lambda: LATER, "run")
    just_in_time = Scribe(CountingIds().new, lambda: LATER - timedelta(milliseconds=1), "run")

    refused = refusal(waiting(), by=late_by_nothing)

    assert isinstance(refused, Gone)
    assert refused.code == "approval_expired"
    assert decide(just_in_time, waiting(), "call", Decision("approve"), "ann")


def test_an_approval_that_is_kept_can_be_decided_after_its_time() -> None:
    assert decide(late(), waiting(on_expire="keep"), "call", Decision("approve"), "ann")


def test_a_run_that_is_being_stopped_takes_no_decision() -> None:
    refused = refusal(fold(waiting(), [event(c.UserInterrupt)]))

    assert isinstance(refused, Gone)
    assert refused.code == "approval_cancelled"


def test_a_call_that_nobody_was_asked_about_yet_takes_no_decision() -> None:
    use = tool_use("call", evaluated_permission="ask")

    refused = refusal(fold(Session(id="sesn_1"), [*opened(), *answered(use)]))

    assert refused.code == "approval_not_requested"


# Nobody decides.


def test_before_its_time_nothing_expires() -> None:
    assert expire(scribe(), waiting()) == []
    assert expire(late(), waiting(on_expire="keep")) == []
    assert expire(late(), Session(id="sesn_1")) == []


def test_what_expires_is_not_called_a_denial() -> None:
    session = waiting("a", "b")
    session = fold(session, said(session, "approve", "a"))

    events = expire(late(), session)

    assert types(events) == ["approval.expired", "agent.tool_result"]
    assert read(events) == [(EXPIRED, True)]
    assert "denied" not in EXPIRED


def test_an_expiry_may_cancel_the_run() -> None:
    session = waiting("a", "b", on_expire="cancel")

    events = expire(late(), session)
    after = fold(session, events)

    assert types(events) == ["approval.expired"] * 2
    assert next_step(after, agent()) == Cancel("approval_expired")
    assert expire(late(), after) == []


# In part.


def test_after_a_decision_in_part_the_others_are_still_asked_for() -> None:
    session = waiting("a", "b", "c")

    after = fold(session, said(session, "deny", "b"))
    step = next_step(after, agent())

    assert isinstance(step, AskPerson)
    assert ([call.id for call in step.calls], step.unasked) == (["a", "c"], ())


def test_of_a_plan_that_is_asked_as_a_whole_nothing_runs_while_any_call_waits() -> None:
    session = waiting("a", "b", plan="ask_whole")

    in_part = fold(session, said(session, "approve", "a"))
    whole = fold(in_part, said(in_part, "deny", "b"))

    assert isinstance(next_step(in_part, agent()), AskPerson)
    step = next_step(whole, agent())
    assert isinstance(step, CallTools)
    assert [call.id for call in step.calls] == ["a"]


# Plans.


@pytest.mark.parametrize(
    ("word", "but", "runs"),
    [
        ("approve", [], ("a", "b", "c")),
        ("approve", ["b"], ("a", "c")),
        ("deny", ["b"], ("b",)),
        ("deny", [], ()),
        ("approve", ["a", "b", "c"], ()),
    ],
)
def test_a_plan_is_decided_at_once_whole_or_in_part(word: Any, but: list[str], runs: tuple[str, ...]) -> None:
    session = waiting("a", "b", "c", plan="ask_part")

    events = decide_plan(scribe(), session, "plan_1", PlanDecision(word, but, "No."), "ann")

    decisions = {each.tool_use_id: each.decision for each in only(c.ApprovalDecided, events)}
    assert decisions == {each: "approve" if each in runs else "deny" for each in "abc"}
    assert {text for text, _ in read(events)} <= {DENIED_BECAUSE + "No."}
    last = events[-1]
    if runs:
        assert isinstance(last, c.PlanApproved)
        assert last.tool_use_ids == runs
    else:
        assert isinstance(last, c.PlanRejected)


def test_a_plan_is_told_to_be_decided_once_by_its_last_decision() -> None:
    session = waiting("a", "b", plan="ask_part")

    first = said(session, "approve", "a")
    after = fold(session, first)
    second = decide_plan(scribe(), after, "plan_1", PlanDecision("deny"), "bob")

    assert types(first) == ["approval.decided"]
    assert types(second) == ["approval.decided", "agent.tool_result", "plan.approved"]
    assert only(c.PlanApproved, second)[0].tool_use_ids == ("a",)


def test_a_plan_of_which_a_call_has_run_is_not_rejected_when_the_rest_is_denied() -> None:
    uses = [tool_use("a"), tool_use("b", input=FIVE, evaluated_permission="ask")]
    ran = event(e.AgentToolResult, tool_use_id="a")
    events = [*opened(), *answered(*uses), event(c.PlanProposed, verdict="ask_part"), ran, requested("b")]
    session = fold(Session(id="sesn_1"), events)

    decided = said(session, "deny", "b")

    assert types(decided) == ["approval.decided", "agent.tool_result", "plan.approved"]
    assert only(c.PlanApproved, decided)[0].tool_use_ids == ("a",)


def test_a_plan_that_expires_is_decided_by_nobody() -> None:
    events = expire(late(), waiting("a", "b", plan="ask_whole"))

    [rejected] = only(c.PlanRejected, events)
    assert rejected.decided_by == approval.BY_EXPIRY


@pytest.mark.parametrize("plan_id", ["plan_2", ""])
def test_an_unknown_plan_is_not_found(plan_id: str) -> None:
    with pytest.raises(NotFound) as refused:
        decide_plan(scribe(), waiting("a", "b", plan="ask_part"), plan_id, PlanDecision("approve"), "ann")

    assert refused.value.code == "plan_not_found"


def test_exceptions_must_be_calls_of_the_plan_that_wait() -> None:
    session = waiting("a", "b", plan="ask_part")
    session = fold(session, said(session, "approve", "a"))

    with pytest.raises(Invalid, match="a, x") as refused:
        decide_plan(scribe(), session, "plan_1", PlanDecision("approve", ["x", "a", "b"]), "ann")

    assert refused.value.code == "not_in_plan"


def test_the_largest_plan_is_decided_in_one_entry() -> None:
    session = waiting(*(f"c{n}" for n in range(MAX_BLOCKS_PER_ANSWER)), plan="ask_whole")

    assert len(decide_plan(scribe(), session, "plan_1", PlanDecision("deny"), "ann")) <= MAX_EVENTS


# The SDK's words.


def test_a_confirmation_stands_before_the_decision_that_it_is() -> None:
    confirmations = [Confirmation("a", "allow"), Confirmation("b", "deny", "No.")]

    events = confirm(scribe(), waiting("a", "b", "c"), confirmations, "ann")

    assert types(events) == [
        "user.tool_confirmation",
        "approval.decided",
        "user.tool_confirmation",
        "approval.decided",
        "agent.tool_result",
    ]
    assert [each.decision for each in only(c.ApprovalDecided, events)] == ["approve", "deny"]
    assert read(events) == [(DENIED_BECAUSE + "No.", True)]


def test_of_confirmations_that_contradict_each_other_none_is_written() -> None:
    with pytest.raises(Conflict):
        confirm(scribe(), waiting("a"), [Confirmation("a", "allow"), Confirmation("a", "deny")], "ann")


def test_the_most_confirmations_of_one_request_fit_one_entry() -> None:
    calls = [f"c{n}" for n in range(MAX_CONFIRMATIONS)]
    session = waiting(*calls, plan="ask_whole")

    assert len(confirm(scribe(), session, [Confirmation(each, "deny") for each in calls], "ann")) <= MAX_EVENTS


# What a decision is bound to.


def test_a_binding_depends_on_tool_and_arguments_and_not_on_the_order_of_keys() -> None:
    one = binding("pay", {"amount": 5, "to": {"name": "alice", "iban": "1"}})

    assert binding("pay", {"to": {"iban": "1", "name": "alice"}, "amount": 5}) == one
    assert len({one, binding("pay", {}), binding("give", {}), binding("pay", {"amount": "5"})}) == 4


def test_the_name_of_an_approval_says_which_session_and_call_it_is() -> None:
    assert asked_of(approval_id("sesn_01KA", "sevt_01KB")) == ("sesn_01KA", "sevt_01KB")


@pytest.mark.parametrize("name", ["", "appr_", "appr_1", "appr_1_", "appr_1_2_3", "appr_1_2\n", "appr_ä_1", "sesn_1_2"])
def test_what_names_no_approval_is_none(name: str) -> None:
    assert asked_of(name) is None


def test_arguments_are_an_object_of_bounded_depth() -> None:
    deep: Any = {}
    for _ in range(MAX_INPUT_DEPTH):
        deep = {"a": deep}

    for wrong in list[Any]((deep, [], "text", None)):
        with pytest.raises(ValueError, match=r"levels|object"):
            arguments(wrong)
    assert arguments({"a": [1, {"b": None}]}) == {"a": [1, {"b": None}]}
