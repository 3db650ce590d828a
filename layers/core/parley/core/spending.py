"""Events about budgets: a cap that is nearly or fully used, money that is set aside."""

from parley.core import control as c
from parley.core import event as e
from parley.core import value as v
from parley.core.agent import Agent
from parley.core.budget import near
from parley.core.run import AskBudget
from parley.core.scribe import Scribe
from parley.core.session import Session

MOST_AT_ONCE = 2
"""Warnings that fit into an entry beside the longest answer, what comes of its calls, and the end of the run; more come
with the next."""


def warnings(scribe: Scribe, session: Session, agent: Agent) -> list[e.Event]:
    """Say which caps are nearly reached, of those of which it was not said yet."""
    told = near(session.budget_of(agent), session.spent, session.warned)
    return [
        scribe.write(c.BudgetWarning, which=level.which, cap=level.cap, spent=level.spent)
        for level in told[:MOST_AT_ONCE]
    ]


def reservation(scribe: Scribe, session: Session, agent: Agent) -> list[e.Event]:
    """Set money of the agent's day aside for a model call, unless that was done for this very call."""
    hold, price = session.run.hold if session.run else None, agent.its_price
    if agent.daily_budget is None or price is None or (hold and hold.for_next):
        return []
    most = v.Usage(cache_creation_input_tokens=session.context_tokens, output_tokens=agent.limits.max_tokens)
    day = scribe.now().date().isoformat()
    return [scribe.write(c.BudgetReserved, amount=price.cost(most), day=day, cap=agent.daily_budget)]


def pausing(scribe: Scribe, step: AskBudget) -> list[e.Event]:
    """Write that a run waits at a cap, and at which, unless that stands in the log."""
    reached = step.reached
    idle = scribe.write(e.StatusIdle, stop_reason=v.StopReason(type="budget_reached"))
    if reached is None:
        return [idle]
    said = scribe.write(c.BudgetReached, which=reached.which, cap=reached.cap, spent=reached.spent, why=step.why)
    return [said, idle]
