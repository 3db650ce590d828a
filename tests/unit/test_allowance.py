"""An agent's day: money is set aside on one counter before a model call, and settled once."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from parley.core import control as c
from parley.core import event as e
from parley.core.budget import Budget
from parley.core.changes import Changes
from parley.core.fold import fold
from parley.core.session import Hold, Session
from parley.core.tool import ToolOutcome
from parley.store.audit import Actor, By
from parley.store.keys import allowance

from tests.build import Stage, answer, answered, asked, event, fails, idle, only, opened, said, types
from tests.fakes.clock import NOON
from tests.fakes.flaky_table import Crash

pytestmark = pytest.mark.anyio

TODAY = NOON.date().isoformat()
TOMORROW = (NOON + timedelta(days=1)).date().isoformat()
COST = 10 * 2 + 5 * 10
"""Micro-dollars of one answer here."""

RESERVED = 100 * 10
"""Of a call that has read nothing yet, and may write 100 tokens."""


@pytest.fixture
def stage(stage: Stage) -> Stage:
    limited(stage, 5000)
    return stage


def limited(stage: Stage, daily_budget: int) -> None:
    """Give the agent so much a day."""
    limits = stage.agent.limits.model_copy(update={"max_tokens": 100})
    stage.agent = stage.agent.model_copy(update={"daily_budget": daily_budget, "limits": limits})
    stage.runner.agents = {stage.agent.id: stage.agent}


async def spent(stage: Stage, day: str = TODAY) -> int:
    """Read the counter."""
    item = await stage.sqlite.get(allowance("acme", "bank", day))
    return item["spent"] if item else 0


async def on_the_way(stage: Stage) -> list[int]:
    """Drive a run with one tool; return what the counter said while it was at work."""
    seen = []

    async def look(*_: Any) -> ToolOutcome:
        seen.append(await spent(stage))
        return ToolOutcome("ok", "Seen.")

    stage.plays(answer(asked("look")), answer(said()), look=look)
    await stage.drive()
    return seen


# One run.


async def test_a_run_that_has_ended_has_counted_what_it_cost(stage: Stage) -> None:
    stage.plays(answer(asked("look")), answer(said()))

    await stage.drive()

    assert await spent(stage) == 2 * COST
    reserved = only(c.BudgetReserved, await stage.log())
    assert [(each.amount, each.day, each.cap) for each in reserved] == [
        (RESERVED, TODAY, 5000),
        (RESERVED + 38, TODAY, 5000),  # 15 tokens of context, at the price of writing them into the cache
    ]


async def test_what_is_set_aside_counts_until_it_is_settled(stage: Stage) -> None:
    assert await on_the_way(stage) == [RESERVED]


async def test_a_reservation_is_stored_with_the_facts_before_it(stage: Stage) -> None:
    await on_the_way(stage)

    entries = [types(found.events) for found in [found async for found in stage.store.log.read(stage.ref)]]
    assert [each for each in entries if "budget.reserved" in each] == [
        ["budget.reserved"],
        ["agent.tool_result", "budget.reserved"],
    ]


async def test_an_agent_without_a_daily_budget_counts_nothing(stage: Stage) -> None:
    stage.agent = stage.agent.model_copy(update={"daily_budget": None})
    stage.plays(answer(said()))

    await stage.drive()

    assert await spent(stage) == 0
    assert "budget.reserved" not in types(await stage.log())


async def test_a_call_that_is_tried_again_is_set_aside_once(stage: Stage) -> None:
    stage.plays(fails("overloaded"), fails("overloaded"), answer(said()))

    await stage.drive()

    assert len(only(c.BudgetReserved, await stage.log())) == 1
    assert await spent(stage) == COST


async def test_a_run_that_waits_for_a_person_holds_nothing(stage: Stage) -> None:
    await stage.park()

    assert await spent(stage) == COST


async def test_a_run_that_fails_gives_back_what_it_held(stage: Stage) -> None:
    stage.plays(fails("refused_request"))

    await stage.drive()

    assert await spent(stage) == 0


async def test_a_write_of_unknown_outcome_counts_once(stage: Stage) -> None:
    claim = await stage.begin()
    stage.plays(answer(said()))
    stage.table.fail_next("unconfirmed", "lost", "unconfirmed")

    await stage.drive(claim)

    assert await spent(stage) == COST


async def test_a_driver_that_dies_leaves_its_reservation_to_the_next(stage: Stage) -> None:
    claim = await stage.begin()
    stage.table.fail_next("crash_after")
    with suppress(Crash):
        await stage.drive(claim)
    left = await spent(stage)

    stage.plays(answer(said()))
    await stage.drive(await stage.take_over())

    assert left == RESERVED
    assert len(only(c.BudgetReserved, await stage.log())) == 1
    assert await spent(stage) == COST


async def test_what_was_set_aside_yesterday_is_settled_there(stage: Stage) -> None:
    async def sleep(*_: Any) -> ToolOutcome:
        stage.clock.advance(86_400)
        return ToolOutcome("ok", "Seen.")

    stage.plays(answer(asked("look")), answer(said()), look=sleep)

    await stage.drive()

    assert await spent(stage) == COST
    assert await spent(stage, TOMORROW) == COST


# The cap.


async def full(stage: Stage) -> None:
    """Leave a run that found the agent's day used up."""
    limited(stage, COST)
    stage.plays(answer(said()))
    await stage.drive(await stage.begin("First"))
    await stage.drive(await stage.begin("Second"))


async def test_a_run_stops_when_the_day_is_used_up(stage: Stage) -> None:
    await full(stage)

    log = await stage.log()
    assert types(log)[-2:] == ["budget.reached", "session.status_idle"]
    [reached] = only(c.BudgetReached, log)
    assert (reached.scope, reached.which, reached.cap, reached.spent) == ("agent", "daily_budget", COST, COST)
    assert reached.resets_at == NOON.replace(hour=0) + timedelta(days=1)
    assert await spent(stage) == COST
    assert stage.model.plays == []


async def test_the_facts_of_a_step_are_kept_when_there_is_no_money_for_the_next(stage: Stage) -> None:
    limited(stage, RESERVED)
    stage.plays(answer(asked("look"), tokens=(1000, 500)))

    await stage.drive()

    log = await stage.log()
    assert len(only(e.AgentToolResult, log)) == 1
    assert types(log)[-1] == "session.status_idle"
    assert await spent(stage) == 1000 * 2 + 500 * 10


async def test_a_run_goes_on_by_itself_the_next_day(stage: Stage) -> None:
    await full(stage)

    early = await stage.store.claims.take_over(stage.ref)
    stage.clock.advance(12 * 3600 + 3)
    stage.plays(answer(said("Good morning.")))
    swept = await stage.sweeper.sweep()
    log = await stage.ended(runs=2)

    assert early is None
    assert swept.hints == 1
    assert len(only(e.RunFinished, log)) == 2
    assert (await spent(stage), await spent(stage, TOMORROW)) == (COST, COST)


async def test_a_run_goes_on_when_the_agent_has_more_and_somebody_says_so(stage: Stage) -> None:
    await full(stage)
    limited(stage, 5000)

    await stage.store.lives.update(stage.ref, By(Actor("ann")), Changes(budget=Budget()))
    stage.clock.advance(3)
    stage.plays(answer(said()))
    claim = await stage.store.claims.take_over(stage.ref)
    assert claim is not None
    await stage.drive(claim)

    assert len(only(e.RunFinished, await stage.log())) == 2
    assert await spent(stage) == 2 * COST


async def test_a_run_that_is_woken_too_early_asks_again(stage: Stage) -> None:
    await full(stage)

    await stage.store.lives.update(stage.ref, By(Actor("ann")), Changes(budget=Budget()))
    stage.clock.advance(3)
    claim = await stage.store.claims.take_over(stage.ref)
    assert claim is not None
    await stage.drive(claim)

    log = await stage.log()
    assert len(only(c.BudgetReached, log)) == 2
    assert types(log)[-1] == "session.status_idle"


async def test_an_interrupt_ends_a_run_that_waits_for_tomorrow(stage: Stage) -> None:
    await full(stage)

    await stage.store.words.say(stage.ref, lambda scribe, _: [scribe.write(c.UserInterrupt)])
    stage.clock.advance(3)
    claim = await stage.store.claims.take_over(stage.ref)
    assert claim is not None
    await stage.drive(claim)

    assert len(only(c.RunCancelled, await stage.log())) == 1


# What is folded.


def test_what_is_held_is_folded_from_the_log() -> None:
    begun = fold(Session(id="s"), [*opened(), event(c.BudgetReserved)])
    done = fold(begun, answered(event(e.AgentMessage), cost=9))

    assert begun.run is not None
    assert done.run is not None
    assert begun.run.hold == Hold(day="2026-11-20", amount=70)
    assert done.run.hold == Hold(day="2026-11-20", amount=70, used=9, for_next=False)
    assert fold(done, [idle()]).run == done.run.model_copy(update={"hold": None})
