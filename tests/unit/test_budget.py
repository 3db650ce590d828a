"""Budgets: what is counted, when a run stops and asks, and what lets it go on."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parley.core import compose
from parley.core import control as c
from parley.core import event as e
from parley.core.agent import Agent
from parley.core.budget import CAPS, Budget, Level, Money, Spent, Which, dollars
from parley.core.fold import fold
from parley.core.price import Price
from parley.core.run import AskBudget, AskPerson, CallModel, CallTools, Cancel, Compact, Finish, Step, next_step
from parley.core.session import Session
from parley.core.spending import MOST_AT_ONCE
from parley.core.value import Usage

from tests import build
from tests.build import (
    Stage,
    answer,
    answered,
    asked,
    compaction,
    cut,
    entry,
    event,
    failed_call,
    idle,
    only,
    opened,
    result,
    said,
    scribe,
    tool_use,
    types,
)

pytestmark = pytest.mark.anyio

SAID = event(e.AgentMessage)
TOKENS = Usage(input_tokens=100, output_tokens=20)


def session(*events: e.Event, **budget: Any) -> Session:
    """Fold a session that has a budget."""
    return fold(Session(id="sesn_1"), [event(c.SessionUpdated, budget=Budget(**budget)), *events])


def costly(*blocks: e.Event, cost: int = 70, took: int = 1500) -> list[e.Event]:
    """An answer that costs something."""
    return answered(*blocks, cost=cost, model_usage=TOKENS, duration_ms=took)


def asked_twice(**end: Any) -> list[e.Event]:
    """A run that wants to ask the model for the second time, after a payment of half a second."""
    intended = event(e.ToolIntended)
    return [*opened(), *costly(tool_use(), **end), intended, result(duration_ms=500)]


def after(*events: e.Event, **budget: Any) -> Step:
    """Decide what follows."""
    return next_step(session(*events, **budget), build.agent())


def announced(folded: Session, agent: Agent | None = None) -> list[e.Event]:
    """Write what is stored before the next step."""
    agent = agent or build.agent()
    return compose.announcement(scribe(), next_step(folded, agent), folded, agent)


# What is counted.


def test_a_session_knows_what_it_has_spent() -> None:
    assert session(*asked_twice()).spent == Spent(cost=70, tokens=120, steps=1, calls=1, active_ms=2000)


def test_a_run_knows_its_own_part() -> None:
    folded = session(*asked_twice(), *costly(SAID), event(e.RunFinished), idle(), *opened("run_2"), *costly(cost=5))

    assert folded.run is not None
    assert (folded.run.cost, folded.spent.cost) == (5, 145)


def test_a_call_that_reads_counts_when_it_was_made() -> None:
    reads = [*opened(), *costly(tool_use("a", "look"), tool_use("b", "look"))]

    assert session(*reads).spent.calls == 0
    assert session(*reads, result("a", duration_ms=5), result("b", duration_ms=5)).spent.calls == 2


def test_a_call_that_nobody_made_does_not_count() -> None:
    assert session(*opened(), *costly(tool_use()), result(is_error=True)).spent.calls == 0


def test_every_attempt_of_a_call_counts() -> None:
    again = event(e.ToolOutcomeDecided, outcome="retry")
    attempts = entry(event(e.ToolIntended), event(e.ToolOutcomeUnknown), again, event(e.ToolIntended, attempt=2))

    assert session(*opened(), *costly(tool_use()), *attempts).spent.calls == 2


def test_a_failed_call_of_the_model_costs_what_is_known_of_it_and_is_no_step() -> None:
    start, _, error = failed_call()
    cut_short: dict[str, Any] = {"is_error": True, "stop_reason": None, "model_usage": Usage(input_tokens=3)}
    end = event(e.ModelRequestEnd, **cut_short, cost=9, duration_ms=40)

    assert session(*opened(), start, end, error).spent == Spent(cost=9, tokens=3, active_ms=40)


def test_a_summary_costs_money_and_is_no_step() -> None:
    folded = session(*asked_twice(), *compaction(cost=30, model_usage=TOKENS))

    assert (folded.spent.cost, folded.spent.steps) == (100, 1)


def test_a_log_of_before_budgets_has_spent_tokens_and_steps() -> None:
    assert session(*opened(), *answered(SAID, model_usage=TOKENS)).spent == Spent(tokens=120, steps=1)


# Where a run stops.


@pytest.mark.parametrize(
    ("which", "cap"),
    [("max_cost", 70), ("max_tokens", 120), ("max_steps", 1), ("max_active_seconds", 2)],
)
def test_a_cap_that_is_reached_stops_the_next_call_of_the_model(which: Which, cap: int) -> None:
    assert after(*asked_twice(), **{which: cap}) == AskBudget(Level(which, cap, cap))
    assert after(*asked_twice(), **{which: cap + 1}) == CallModel()


def test_a_summary_waits_as_an_answer_does() -> None:
    long, agent = asked_twice(), build.agent(compact_at_tokens=100)

    assert isinstance(next_step(session(*long), agent), Compact)
    assert isinstance(next_step(session(*long, max_steps=1), agent), AskBudget)


def test_no_more_calls_begin_than_are_left() -> None:
    three = [*opened(), *costly(tool_use("a"), tool_use("b"), tool_use("c"))]

    two = after(*three, max_calls=2)

    assert isinstance(two, CallTools)
    assert [call.id for call in two.calls] == ["a", "b"]


def test_the_rest_of_them_wait_for_the_budget() -> None:
    begun = [event(e.ToolIntended, tool_use_id=id) for id in ("a", "b")]
    three = [*opened(), *costly(tool_use("a"), tool_use("b"), tool_use("c")), *begun, result("a"), result("b")]

    assert after(*three, max_calls=2) == AskBudget(Level("max_calls", 2, 2))


def test_an_answer_that_ends_the_run_ends_it_although_nothing_is_left() -> None:
    assert isinstance(after(*opened(), *costly(SAID), max_cost=1, max_steps=1, max_tokens=1), Finish)


def test_a_call_that_waits_for_a_person_is_asked_about_although_nothing_is_left() -> None:
    asks = tool_use(evaluated_permission="ask")

    assert isinstance(after(*opened(), *costly(asks), max_calls=0), AskPerson)


def test_a_run_that_begins_at_the_cap_stops_at_once() -> None:
    spent = [*opened(), *costly(SAID), event(e.RunFinished), idle()]

    assert isinstance(after(*spent, *opened("run_2"), max_cost=70), AskBudget)


def test_the_budget_of_the_agent_counts_for_a_session_without_one() -> None:
    agent = build.agent().model_copy(update={"budget": Budget(max_steps=1)})
    folded = fold(Session(id="sesn_1"), asked_twice())

    assert isinstance(next_step(folded, agent), AskBudget)
    assert isinstance(next_step(session(*asked_twice(), max_steps=2), agent), CallModel)
    assert isinstance(next_step(session(*asked_twice()), agent), CallModel)  # it was taken away


def test_a_cap_on_money_cannot_be_kept_when_nobody_knows_the_price() -> None:
    agent = build.agent().model_copy(update={"model": "a-model-of-tomorrow"})

    step = next_step(session(*opened(), max_cost=500), agent)

    assert step == AskBudget(Level("max_cost", 500, 0), "not_priced")
    assert isinstance(next_step(session(*opened(), max_tokens=500), agent), CallModel)


# What is said of it.


def test_a_pause_says_which_cap_and_that_the_session_waits() -> None:
    [reached, waits] = announced(session(*asked_twice(), event(c.BudgetWarning), max_steps=1))

    assert isinstance(reached, c.BudgetReached)
    assert (reached.scope, reached.which, reached.cap, reached.spent) == ("session", "max_steps", 1, 1)
    assert isinstance(waits, e.StatusIdle)
    assert waits.stop_reason.type == "budget_reached"


def test_most_of_a_cap_is_a_warning_once() -> None:
    folded = session(*asked_twice(), max_cost=87)

    [warning] = announced(folded)

    assert isinstance(warning, c.BudgetWarning)
    assert (warning.which, warning.cap, warning.spent) == ("max_cost", 87, 70)
    assert announced(fold(folded, [warning])) == []
    assert announced(session(*asked_twice(), max_cost=88)) == []


def test_more_warnings_than_fit_come_with_the_next_write() -> None:
    folded = session(*asked_twice(), **dict.fromkeys(CAPS, 1))

    told: list[list[c.BudgetWarning]] = []
    for _ in CAPS:
        told.append(only(c.BudgetWarning, announced(folded)))
        folded = fold(folded, told[-1])

    assert [len(each) for each in told] == [MOST_AT_ONCE, MOST_AT_ONCE, 1, 0, 0]
    assert {each.which for warnings in told for each in warnings} == set(CAPS)


def test_a_budget_that_was_changed_warns_anew() -> None:
    folded = session(*asked_twice(), event(c.BudgetWarning, which="max_cost"), max_cost=87)

    changed = fold(folded, [event(c.SessionUpdated, budget=Budget(max_cost=86))])

    assert announced(folded) == []
    assert types(announced(changed)) == ["budget.warning"]


def test_a_warning_goes_before_what_it_leads_to() -> None:
    last = session(*opened(), *costly(SAID), max_steps=1)

    assert types(announced(last)) == ["budget.warning", "run.finished", "session.status_idle"]


# What lets it go on.

PAUSED = [*asked_twice(), event(c.BudgetReached, which="max_steps"), idle("budget_reached")]


def test_a_run_that_has_reached_its_budget_waits() -> None:
    folded = session(*PAUSED, max_steps=1)

    assert folded.run is not None
    assert (folded.run.parked, folded.phase) == (True, "waiting")


@pytest.mark.parametrize("raised", [Budget(max_steps=2), Budget()], ids=["raised", "taken away"])
def test_a_run_goes_on_when_its_budget_is_enough(raised: Budget) -> None:
    folded = fold(session(*PAUSED, max_steps=1), [event(c.SessionUpdated, budget=raised)])

    assert next_step(folded, build.agent()) == CallModel()
    assert folded.phase == "planning"


def test_a_run_whose_new_budget_is_no_better_asks_again() -> None:
    changed = event(c.SessionUpdated, budget=Budget(max_tokens=5))
    folded = fold(session(*PAUSED, max_steps=1), [changed, event(e.RunClaimed, epoch=2)])

    assert next_step(folded, build.agent()) == AskBudget(Level("max_tokens", 5, 120))


def test_an_interrupt_ends_it() -> None:
    stopped = session(*PAUSED, event(c.UserInterrupt), max_steps=1)

    assert next_step(stopped, build.agent()) == Cancel("interrupted")


def test_a_new_budget_is_no_answer_to_another_question() -> None:
    waits = [*opened(), *costly(tool_use()), event(e.ToolIntended), event(e.ToolOutcomeUnknown)]
    folded = session(*waits, idle("requires_action", "call"), max_steps=5)

    folded = fold(folded, [event(c.SessionUpdated, budget=Budget())])

    assert folded.run is not None
    assert folded.run.parked


def test_other_settings_wake_nobody() -> None:
    folded = fold(session(*PAUSED, max_steps=1), [event(c.SessionUpdated, autonomy="L1")])

    assert folded.run is not None
    assert folded.run.parked
    assert folded.budget == Budget(max_steps=1)


# The table.


def test_the_table_has_every_cap() -> None:
    assert set(CAPS) == set(Budget.model_fields) - {"type"}


def test_a_budget_is_stored_with_the_shape_that_the_sdk_reads() -> None:
    stored = event(c.SessionUpdated, budget=Budget(max_cost=5_000_001))

    read = e.EVENT.validate_json(e.to_json(stored))

    assert b'"max_list_cost":{"amount":"501","currency":"USD"}' in e.to_json(stored)
    assert read == stored


def test_a_cap_of_a_newer_version_is_dropped() -> None:
    newer = event(c.SessionUpdated).model_dump() | {"budget": {"type": "limit", "max_steps": 3, "max_joules": 9}}

    read = e.EVENT.validate_python(newer)

    assert read.budget == Budget(max_steps=3)  # type: ignore[union-attr]


def test_money_is_told_in_cents_and_never_less_than_it_is() -> None:
    assert [dollars(micro).amount for micro in (0, 1, 10_000, 10_001, 25_000_000)] == ["0", "1", "1", "2", "2500"]
    assert Money(amount="7").currency == "USD"


# Any run.

CALLS = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 3)), max_size=8)
"""What each answer costs, and for how many calls it asks."""


@given(CALLS, st.integers(0, 300), st.integers(0, 6), st.integers(0, 6))
def test_spend_never_exceeds_a_cap_by_more_than_one_call(
    answers: Sequence[tuple[int, int]], max_cost: int, max_calls: int, max_steps: int
) -> None:
    budget = {"max_cost": max_cost, "max_calls": max_calls, "max_steps": max_steps}
    folded = session(*opened(), **budget)
    largest = 0
    for n, (cost, calls) in enumerate(answers):
        if not isinstance(next_step(folded, build.agent()), CallModel):
            break
        assert folded.spent.cost < max_cost
        largest = max(largest, cost)
        folded = fold(folded, costly(SAID, *(tool_use(f"call_{n}_{i}", "file") for i in range(calls)), cost=cost))
        while isinstance(step := next_step(folded, build.agent()), CallTools):
            for call in step.calls:
                folded = fold(folded, [event(e.ToolIntended, tool_use_id=call.id, effect="idempotent")])
            folded = fold(folded, [result(call.id, duration_ms=1) for call in step.calls])

    assert folded.spent.cost < max_cost + largest or not folded.spent.cost
    assert folded.spent.calls <= max_calls
    assert folded.spent.steps <= max_steps
    if isinstance(step := next_step(folded, build.agent()), AskBudget):
        assert step.reached is not None
        assert step.reached.spent >= step.reached.cap


# Driven.


async def test_a_call_of_the_model_is_priced_when_it_is_written(stage: Stage) -> None:
    price = Price(input=10**6, output=10 * 10**6, cache_write=0, cache_read=0)
    stage.agent = stage.agent.model_copy(update={"price": price})
    stage.plays(cut(answer(tokens=(7, 1))), answer(said(), tokens=(10, 5)))

    await stage.drive()

    log = await stage.log()
    assert [each.cost for each in only(e.ModelRequestEnd, log)] == [7 + 10, 10 + 50]
    assert [each.cost for each in only(e.RunFinished, log)] == [77]


async def test_a_model_without_a_price_costs_nothing_that_anybody_knows(stage: Stage) -> None:
    stage.agent = stage.agent.model_copy(update={"model": "a-model-of-tomorrow"})
    stage.plays(answer(said()))

    await stage.drive()

    assert [each.cost for each in only(e.ModelRequestEnd, await stage.log())] == [None]


async def test_a_warning_is_stored_in_one_write_with_what_crossed_the_line(stage: Stage) -> None:
    stage.agent = stage.agent.model_copy(update={"budget": Budget(max_steps=2, max_cost=80)})
    stage.plays(answer(asked("look")), answer(said()))

    await stage.drive()

    entries = [types(found.events) for found in [found async for found in stage.store.log.read(stage.ref)]]
    assert [each for each in entries if "budget.warning" in each] == [
        ["span.model_request_start", "agent.tool_use", "span.model_request_end", "budget.warning"],
        [
            "span.model_request_start",
            "agent.message",
            "span.model_request_end",
            "budget.warning",
            "run.finished",
            "session.status_idle",
        ],
    ]
