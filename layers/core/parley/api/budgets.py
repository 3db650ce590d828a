"""How a budget is asked for: as the Managed Agents API does (money in cents), and with the caps of ours beside.

Source: `BetaManagedAgentsBudgetLimitParam` of the `anthropic` package 2.11 (read 2026-11-28).
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from parley.core.agent import Agent
from parley.core.budget import MICRO_PER_CENT, Budget, CapField, Money
from parley.core.errors import Invalid
from parley.store import Head


def _number(given: object) -> object:
    """Refuse what is no number to JSON, though it may be to Python."""
    if isinstance(given, str | bool):
        raise ValueError("must be a number")
    return given


AskedCap = Annotated[CapField, BeforeValidator(_number)]


class MoneyCap(Money):
    """The most that a session may cost."""

    amount: str = Field(pattern=r"^(0|[1-9][0-9]{0,10})$", description="Cents, as a whole number: `2500` is $25.00.")


class BudgetInput(BaseModel):
    """Caps of a session, over all of its runs. What is left out has none."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["limit"] = "limit"
    max_list_cost: MoneyCap | None = Field(default=None, description="In cents. With `max_cost`, the smaller counts.")
    max_cost: AskedCap = Field(default=None, description="In micro-dollars: 5000000 are $5.")
    max_tokens: AskedCap = Field(default=None, description="Read and written, the cache's included.")
    max_steps: AskedCap = Field(default=None, description="Answers of the model.")
    max_calls: AskedCap = Field(default=None, description="Tool calls begun.")
    max_active_seconds: AskedCap = Field(default=None, description="Of model calls and tool calls, added up.")

    def budget(self) -> Budget:
        """Return the caps."""
        cents = [int(self.max_list_cost.amount) * MICRO_PER_CENT] if self.max_list_cost else []
        micro = [self.max_cost] if self.max_cost is not None else []
        caps = {name: getattr(self, name) for name in Budget.model_fields if name not in ("type", "max_cost")}
        return Budget(max_cost=min(cents + micro, default=None), **caps)


def checked(asked: BudgetInput | None, agent: Agent | None) -> Budget:
    """Return the caps that were asked for; none when the budget is to go.

    Raises:
        Invalid: a cap on money, and nobody knows what the agent's model costs.
    """
    budget = asked.budget() if asked else Budget()
    if budget.max_cost is not None and agent is not None and agent.its_price is None:
        raise Invalid(
            f"Model '{agent.model}' has no list price, so a cap on money cannot be kept. "
            "Give the agent a `price`, or cap `max_tokens` or `max_steps`.",
            code="model_not_priced",
        )
    return budget


def budget_shown(head: Head, agent: Agent | None) -> Budget | None:
    """Return the caps that count for a session, if there are any."""
    budget = head.budget if head.budget is not None else agent.budget if agent else None
    return None if budget == Budget() else budget
