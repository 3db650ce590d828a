"""What a session may use before it stops and asks: its caps, what it has spent, and which cap is reached.

One table says what each cap counts and what it stops. A cap is looked at before something starts: spend goes over it by
what had been started at most. All of it is folded from the log: no clock is read here.
"""

from collections.abc import Callable, Collection
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, computed_field

Which = Literal["max_cost", "max_tokens", "max_steps", "max_calls", "max_active_seconds"]
Starts = Literal["model", "tools"]

WARN_PERCENT = 80
"""Of a cap: from there on it is said, once, that it will be reached."""

MICRO_PER_CENT = 10_000
MOST = 2**53
"""What every reader of JSON can hold, and more money than there is."""

CapField = Annotated[int | None, Field(ge=0, le=MOST)]


class Money(BaseModel):
    """An amount as the Managed Agents API has it (`BetaMonetaryAmount` of `anthropic` 2.11, read 2026-11-28)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    amount: str = Field(pattern=r"^(0|[1-9][0-9]{0,11})$", description="Cents, as a whole number: `2500` is $25.00.")
    currency: Literal["USD"] = "USD"


def dollars(micro: int) -> Money:
    """Write micro-dollars in cents, rounded up."""
    return Money(amount=str(-(-micro // MICRO_PER_CENT)))


def _may_lack_all(schema: dict[str, Any]) -> None:
    """Describe what is worked out as the caps are: an event leaves out what there is none of."""
    schema.pop("required", None)


class Budget(BaseModel):
    """Caps of one session, over all of its runs; what is left out has none."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra=_may_lack_all)

    type: Literal["limit"] = "limit"

    max_cost: CapField = None
    """Micro-dollars at list price: 5_000_000 are $5."""

    max_tokens: CapField = None
    """Tokens read and written, the cache's included."""

    max_steps: CapField = None
    """Answers of the model."""

    max_calls: CapField = None
    """Tool calls begun, each attempt for itself."""

    max_active_seconds: CapField = None
    """Time that model calls and tool calls took, added up; waiting costs nothing."""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def max_list_cost(self) -> Money | None:
        """The cap on money as the Managed Agents API writes it."""
        return None if self.max_cost is None else dollars(self.max_cost)


def _known(stored: object) -> object:
    """Leave out what only a newer version knows, and what is worked out."""
    if not isinstance(stored, dict):
        return stored
    return {name: value for name, value in stored.items() if name in Budget.model_fields}


StoredBudget = Annotated[Budget, BeforeValidator(_known)]
"""A budget in an event or a snapshot: what any version wrote must load."""


class Spent(BaseModel):
    """What a session has used."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cost: int = 0
    """Micro-dollars, of the model calls that had a price."""
    tokens: int = 0
    steps: int = 0
    calls: int = 0
    active_ms: int = 0

    def and_also(self, **more: int) -> "Spent":
        """Add to some of it."""
        return self.model_copy(update={name: getattr(self, name) + amount for name, amount in more.items()})


class Cap(NamedTuple):
    """One row: how much of it is spent, in the cap's unit, and what does not start when it is reached."""

    spent: Callable[[Spent], int]
    stops: frozenset[Starts]


_MODEL: frozenset[Starts] = frozenset({"model"})
_TOOLS: frozenset[Starts] = frozenset({"tools"})

CAPS: dict[Which, Cap] = {
    "max_cost": Cap(lambda spent: spent.cost, _MODEL),
    "max_tokens": Cap(lambda spent: spent.tokens, _MODEL),
    "max_steps": Cap(lambda spent: spent.steps, _MODEL),
    "max_calls": Cap(lambda spent: spent.calls, _TOOLS),
    "max_active_seconds": Cap(lambda spent: spent.active_ms // 1000, _MODEL | _TOOLS),
}


class Level(NamedTuple):
    """How far a cap is used."""

    which: Which
    cap: int
    spent: int


def levels(budget: Budget | None, spent: Spent) -> list[Level]:
    """Say of each cap that there is how far it is used."""
    caps = {which: getattr(budget, which) for which in CAPS} if budget else {}
    return [Level(which, cap, CAPS[which].spent(spent)) for which, cap in caps.items() if cap is not None]


def reached(budget: Budget | None, spent: Spent, starts: Starts) -> Level | None:
    """Return the first cap that is reached and stops what is about to start."""
    full = (level for level in levels(budget, spent) if level.spent >= level.cap and starts in CAPS[level.which].stops)
    return next(full, None)


def near(budget: Budget | None, spent: Spent, warned: Collection[str]) -> list[Level]:
    """Return the caps that are nearly reached and of which nobody was told."""
    return [
        level
        for level in levels(budget, spent)
        if level.spent * 100 >= level.cap * WARN_PERCENT and level.which not in warned
    ]
