"""What an agent may do by itself, and what it must ask a person for.

One table: a level of autonomy is a preset of verdicts by effect, and one for plans. Its tests and
the table in `docs/guide/control.md` are made from it.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from parley.core.tool import Tool

Autonomy = Literal["L0", "L1", "L2", "L3"]
"""How much an agent may do without asking."""

Verdict = Literal["allow", "ask", "deny"]
"""On one call: make it, ask a person first, or never make it."""

PlanVerdict = Literal["refuse", "ask_whole", "ask_part", "run"]
"""On several calls in one answer: none is made unless all may be; a person says of each before any is made; those that
need no asking are made, and then a person is asked about the rest; all are made but those whose tool always asks."""

OnExpire = Literal["deny", "cancel", "keep"]
"""When nobody has decided in time: the call is not made; the run is cancelled; the run goes on waiting."""


class Preset(NamedTuple):
    """A level of autonomy: verdicts by effect, and on plans."""

    name: str
    says: str
    read: Verdict
    idempotent: Verdict
    non_idempotent: Verdict
    plan: PlanVerdict


PRESETS: dict[Autonomy, Preset] = {
    "L0": Preset("read-only", "Looks, and changes nothing.", "allow", "deny", "deny", "refuse"),
    "L1": Preset("recommend", "Recommends; a person decides on every change.", "allow", "ask", "ask", "ask_whole"),
    "L2": Preset("assisted", "Does what can be repeated; asks for the rest.", "allow", "allow", "ask", "ask_part"),
    "L3": Preset("supervised", "Does everything; a person watches.", "allow", "allow", "allow", "run"),
}
"""From the least to the most that an agent may do."""

ALLOW: Verdict = "allow"
DAY = 86_400


class Policy(BaseModel):
    """When an agent asks, and for how long; an `Agent` may set its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    autonomy: Autonomy = "L3"
    """Level of a session that has none of its own."""

    plan_calls: int = Field(default=3, ge=0, le=28)
    """Calls in one answer that make it a plan; 0: none ever is."""

    approval_seconds: int = Field(default=14 * DAY, ge=0, le=365 * DAY)
    """Time for a decision; 0: for ever."""

    on_expire: OnExpire = "deny"
    """What happens then."""


class Judgement(NamedTuple):
    """Verdicts on the calls of one answer, in their order, and on the plan that they are, if they are one."""

    calls: tuple[Verdict, ...]
    plan: PlanVerdict | None


def judge(policy: Policy, level: Autonomy, tools: Sequence[Tool | None]) -> Judgement:
    """Judge the calls of one answer; a call of a tool that is not there does nothing, so nobody is asked."""
    calls = tuple(verdict(level, tool) if tool else ALLOW for tool in tools)
    if not policy.plan_calls or len(calls) < policy.plan_calls:
        return Judgement(calls, None)
    plan = PRESETS[level].plan
    if plan == "refuse" and "deny" in calls:
        return Judgement(tuple[Verdict, ...](["deny"]) * len(calls), plan)
    if plan == "ask_whole":
        calls = tuple(_asked(each) if tool else each for tool, each in zip(tools, calls, strict=True))
    return Judgement(calls, "run" if plan == "refuse" else plan)


def _asked(verdict: Verdict) -> Verdict:
    return "ask" if verdict == "allow" else verdict


def verdict(level: Autonomy, tool: Tool) -> Verdict:
    """Judge one call; what a level denies, no tool's own permission allows."""
    by_level: Verdict = getattr(PRESETS[level], tool.effect)
    if by_level == "deny" or tool.permission == "auto":
        return by_level
    return "ask" if tool.permission == "always_ask" else "allow"
