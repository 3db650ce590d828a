"""Events by which a person is in control: approvals, plans, stop, changes of a session.

Part of the closed union in `event.py`, and under its rules: new fields must be optional. `user.interrupt` and
`user.tool_confirmation` are types of the Managed Agents API as the `anthropic` package 2.11 has them (read 2026-11-28).
"""

from typing import Any, Literal

from parley.core.budget import StoredBudget, Which
from parley.core.policy import Autonomy, OnExpire, PlanVerdict
from parley.core.value import EventBase, Timestamp, Usage, Value

DecisionWord = Literal["approve", "deny", "edit", "answer"]

CancelReason = Literal["interrupted", "approval_expired"]


class UserInterrupt(EventBase):
    """A person stops the run that is open: no call with an effect is intended behind this event."""

    type: Literal["user.interrupt"] = "user.interrupt"
    requested_by: str = ""


class UserToolConfirmation(EventBase):
    """A decision in the words of the Managed Agents API; an `approval.decided` stands behind it."""

    type: Literal["user.tool_confirmation"] = "user.tool_confirmation"
    tool_use_id: str
    result: Literal["allow", "deny"]
    deny_message: str | None = None


class ApprovalRequested(EventBase):
    """A call waits for a person. `binding` is the hash of its tool and arguments: no others are approved."""

    type: Literal["approval.requested"] = "approval.requested"
    approval_id: str
    tool_use_id: str
    name: str
    input: dict[str, Any]
    binding: str
    plan_id: str | None = None
    expires_at: Timestamp | None = None
    on_expire: OnExpire = "deny"


class ApprovalDecided(EventBase):
    """A person's decision. With `approve` and `edit`, `binding` is the hash of what may run now."""

    type: Literal["approval.decided"] = "approval.decided"
    approval_id: str
    tool_use_id: str
    decision: DecisionWord
    binding: str = ""
    input: dict[str, Any] | None = None
    """With `edit`: the arguments that the call is made with."""
    message: str | None = None
    """With `deny`: what the model is told. With `answer`: what it reads as the call's result."""
    decided_by: str = ""


class ApprovalExpired(EventBase):
    """Nobody decided in time; `on_expire` says what comes of it."""

    type: Literal["approval.expired"] = "approval.expired"
    approval_id: str
    tool_use_id: str
    on_expire: OnExpire = "deny"


class PlannedCall(Value):
    """One call of a plan."""

    tool_use_id: str
    name: str
    input: dict[str, Any]


class PlanProposed(EventBase):
    """One answer asked for several calls; `verdict` is what the level of autonomy makes of it."""

    type: Literal["plan.proposed"] = "plan.proposed"
    plan_id: str
    calls: tuple[PlannedCall, ...]
    verdict: PlanVerdict


class PlanApproved(EventBase):
    """The calls of a plan that may run are known; `decided_by` is `policy` when nobody had to be asked."""

    type: Literal["plan.approved"] = "plan.approved"
    plan_id: str
    tool_use_ids: tuple[str, ...]
    decided_by: str = ""


class PlanRejected(EventBase):
    """No call of a plan runs."""

    type: Literal["plan.rejected"] = "plan.rejected"
    plan_id: str
    decided_by: str = ""


class RunCancelled(EventBase):
    """The run was stopped; the session stays usable."""

    type: Literal["run.cancelled"] = "run.cancelled"
    reason: CancelReason
    usage: Usage = Usage()
    cost: int = 0
    """Micro-dollars, of the model calls that had a price."""
    duration_ms: int = 0


class BudgetReserved(EventBase):
    """Money of the agent's day is set aside for a model call; the counter has it since the same write."""

    type: Literal["budget.reserved"] = "budget.reserved"
    amount: int
    day: str
    """In UTC, as `2026-11-28`; whose counter it is."""
    cap: int


class BudgetWarning(EventBase):
    """Most of a cap is used; said once per cap."""

    type: Literal["budget.warning"] = "budget.warning"
    which: Which
    cap: int
    spent: int
    """In the cap's unit, as `cap` is."""


class BudgetReached(EventBase):
    """A cap is reached: nothing that it stops starts until it is raised, or, with scope `agent`, on the next day."""

    type: Literal["budget.reached"] = "budget.reached"
    scope: Literal["session", "agent"] = "session"
    which: Which | Literal["daily_budget"]
    cap: int
    spent: int
    why: Literal["spent", "not_priced"] = "spent"
    """`not_priced`: nobody knows what the model costs, so that a cap on money cannot be kept."""
    resets_at: Timestamp | None = None
    """With scope `agent`: when the run goes on by itself."""


class SessionUpdated(EventBase):
    """Settings of the session were changed; only those that were have a value."""

    type: Literal["session.updated"] = "session.updated"
    title: str | None = None
    """Empty: it has none any more."""
    metadata: dict[str, str] | None = None
    """All of it, as it is now."""
    autonomy: Autonomy | None = None
    budget: StoredBudget | None = None
    """A budget without a cap: it was removed."""
    updated_by: str = ""


class SessionSuspended(EventBase):
    """A person holds the session: nothing starts behind this event until it is resumed."""

    type: Literal["session.suspended"] = "session.suspended"
    by: str = ""


class SessionResumed(EventBase):
    """The session goes on from where it was held."""

    type: Literal["session.resumed"] = "session.resumed"
    by: str = ""


class SessionTerminated(EventBase):
    """The session was archived: it can be read, and nothing is added any more."""

    type: Literal["session.status_terminated"] = "session.status_terminated"
    by: str = ""


class CheckpointCreated(EventBase):
    """This place of the log has a name now."""

    type: Literal["checkpoint.created"] = "checkpoint.created"
    name: str
    by: str = ""


class SessionRestored(EventBase):
    """What the model reads was set back to what it was behind event `to_seq`, here or in the session it is a fork of.

    It is the first `keep` messages of what the model has read until now, and then `messages`, each as exact JSON.
    """

    type: Literal["session.restored"] = "session.restored"
    to_seq: int
    keep: int = 0
    messages: tuple[str, ...] = ()
    checkpoint: str | None = None
    source_session_id: str | None = None
    """Of a fork: which session it was made from."""
    by: str = ""
