"""What to do next. `next_step` is total and pure: from any log, any process can go on.

A time-out, a second delivery, a decision three days later and a kill -9 all end here, with the same answer.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from parley.core.agent import Agent
from parley.core.budget import Level, reached
from parley.core.compaction import replaceable
from parley.core.control import CancelReason
from parley.core.errors import CONTEXT_FULL
from parley.core.limits import Limits
from parley.core.session import Call, Run, Session


@dataclass(frozen=True, slots=True)
class CallModel:
    """Ask the model for its next answer, `after_seconds` when the last call failed."""

    ends_drive: ClassVar[bool] = False
    after_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Compact:
    """Have the model summarise the first `replaced` messages, or `excerpts` of them when they are too long."""

    ends_drive: ClassVar[bool] = False
    replaced: int
    after_seconds: float = 0.0
    excerpts: bool = False


@dataclass(frozen=True, slots=True)
class CallTools:
    """Make these calls, at the same time."""

    ends_drive: ClassVar[bool] = False
    calls: tuple[Call, ...]


@dataclass(frozen=True, slots=True)
class AskPerson:
    """Wait for a person's word on these calls.

    `interrupted` are those whose outcome has just become unknown, `unasked` those that nobody was asked to approve yet.
    """

    ends_drive: ClassVar[bool] = True
    calls: tuple[Call, ...]
    interrupted: tuple[Call, ...] = ()
    unasked: tuple[Call, ...] = ()


@dataclass(frozen=True, slots=True)
class Pause:
    """Begin nothing until the session is resumed; `suspension` is the event that suspended it."""

    ends_drive: ClassVar[bool] = True
    suspension: str


@dataclass(frozen=True, slots=True)
class AskBudget:
    """Wait at a cap until it is raised, or the agent's next day; `reached` is what nobody was told yet."""

    ends_drive: ClassVar[bool] = True
    reached: Level | None = None
    why: Literal["spent", "not_priced"] = "spent"


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until something is added to the log."""

    ends_drive: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class HandOver:
    """Leave the run to another driver: this one's time is too short for the next step."""

    ends_drive: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Finish:
    """Close the run with an answer."""

    ends_drive: ClassVar[bool] = True
    status: Literal["completed", "completed_with_errors"]
    stop_reason: str


@dataclass(frozen=True, slots=True)
class Fail:
    """Close the run without one."""

    ends_drive: ClassVar[bool] = True
    code: str
    message: str
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class Cancel:
    """Close the run because it was to stop."""

    ends_drive: ClassVar[bool] = True
    reason: CancelReason


MAX_TOO_LONG = 2
"""Refusals in a row because of length that are tried to mend: of an answer, and of the summary."""

Close = Finish | Fail | Cancel
Step = CallModel | Compact | CallTools | AskPerson | AskBudget | Pause | Wait | HandOver | Close


def next_step(session: Session, agent: Agent, seconds_left: float = math.inf) -> Step:
    """Decide what the open run needs now, from a driver that has `seconds_left`.

    A driver that has not made a step of progress yet tries, however short its time: one that hands over what it was
    handed would do so for ever.
    """
    step = _within(_needed(session, agent), session, agent)
    if session.suspended and not step.ends_drive:
        return Pause(session.suspension)
    progressed = session.run is not None and session.run.claims == 0
    return HandOver() if progressed and seconds_left < _seconds_for(step, agent) else step


def _seconds_for(step: Step, agent: Agent) -> float:
    match step:
        case CallModel() | Compact():
            return step.after_seconds + agent.limits.model_reserve_seconds
        case CallTools():
            tools = [agent.tool(call.name) for call in step.calls]
            limit = agent.limits.tool_timeout_seconds
            return max((tool.timeout_seconds or limit for tool in tools if tool), default=0.0)
        case AskPerson() | AskBudget() | Pause() | Wait() | HandOver() | Finish() | Fail() | Cancel():
            return -math.inf  # even when the time is up


def _within(step: Step, session: Session, agent: Agent) -> Step:
    """Hold what a step would start to the budget: at a cap it waits; below it, no more calls begin than are left."""
    budget = session.budget_of(agent)
    match step:
        case CallModel() | Compact():
            if session.run and session.run.full:
                return AskBudget()
            if budget.max_cost is not None and agent.its_price is None:
                return AskBudget(Level("max_cost", budget.max_cost, session.spent.cost), "not_priced")
            full = reached(budget, session.spent, "model")
            return AskBudget(full) if full else step
        case CallTools():
            if full := reached(budget, session.spent, "tools"):
                return AskBudget(full)
            left = None if budget.max_calls is None else budget.max_calls - session.spent.calls
            return CallTools(step.calls[:left])
        case _:
            return step


def _needed(session: Session, agent: Agent) -> Step:
    run = session.run
    if run is None or not run.open or run.parked:
        return Wait()
    if run.cancel:
        return Cancel(run.cancel)
    if gave_up := _gives_up(run, agent.limits):
        return gave_up
    if run.calls:
        return _next_calls(run)
    match run.stop_reason:
        case None if run.steps >= agent.limits.max_steps:
            return Fail("step_limit", f"The run reached its limit of {agent.limits.max_steps} steps.")
        case None:
            return _ask_model(session, run, agent.limits)
        case "interrupted":
            return Cancel("interrupted")
        case "refusal":
            return Fail("model_refused", "The model refused to answer.")
        case "model_context_window_exceeded":
            return make_room(session, run, agent.limits)
        case reason:
            whole = reason != "max_tokens" and not run.tool_errors
            return Finish("completed" if whole else "completed_with_errors", reason)


def _ask_model(session: Session, run: Run, limits: Limits) -> Step:
    """Ask for the next answer, in a context that has room for it."""
    if run.too_long:
        return make_room(session, run, limits)
    is_long = 0 < limits.compact_at_tokens < session.context_tokens and not run.compacted
    if is_long and (replaced := replaceable(session.context)):
        return Compact(replaced, run.retry_after_seconds)
    return CallModel(run.retry_after_seconds)


def make_room(session: Session, run: Run, limits: Limits) -> Compact | Fail:
    """Compact a context that the model calls full: once, and from excerpts when what is summarised is too long, too."""
    replaced = 0 if run.compacted or not limits.compact_at_tokens else replaceable(session.context)
    if not replaced or run.too_long > MAX_TOO_LONG:
        return Fail("context_full", "The conversation no longer fits the model's context window.")
    return Compact(replaced, run.retry_after_seconds, excerpts=run.too_long > 1)


def _gives_up(run: Run, limits: Limits) -> Fail | None:
    if run.claims > limits.max_claims:
        return Fail("poisoned", f"{run.claims} drivers in a row stopped without a step of progress.")
    failure = run.failure
    if failure is None or failure.code == CONTEXT_FULL:
        return None
    if failure.retry_status.type == "terminal":
        return Fail(failure.code, failure.message)
    if run.failures > limits.max_model_retries:
        return Fail(failure.code, failure.message, retryable=True)
    return None


def _next_calls(run: Run) -> Step:
    """An interrupted read or idempotent call is made again; a non-idempotent one never without a person's word."""
    waiting = tuple(call for call in run.calls if call.waits)
    held = bool(waiting) and run.plan is not None and run.plan.whole
    ready = tuple(call for call in run.calls if _is_ready(call) and not held)
    if ready:
        return CallTools(ready)
    interrupted = tuple(call for call in run.calls if call.state == "intended")
    calls = tuple(call for call in run.calls if call.state in ("intended", "unknown") or call.waits)
    return AskPerson(calls, interrupted, tuple(call for call in waiting if call.approval is None))


def _is_ready(call: Call) -> bool:
    return call.may_run if call.state == "requested" else _may_repeat(call)


def _may_repeat(call: Call) -> bool:
    return call.state == "intended" and call.effect in ("read", "idempotent")
