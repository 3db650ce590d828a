"""What is folded: a session, its run, the run's calls. How events change them is in `fold/`."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from parley.core import value as v
from parley.core.agent import Agent
from parley.core.binding import binding
from parley.core.budget import Budget, Spent, StoredBudget
from parley.core.control import CancelReason
from parley.core.errors import NotFound
from parley.core.policy import Autonomy, OnExpire, Verdict
from parley.core.status import Phase
from parley.core.tool import Effect


class Frozen(BaseModel):
    """A value of the fold; kept in snapshots, so every new field needs a default."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Approval(Frozen):
    """What a person was asked about a call; `binding` is the hash of what they were shown."""

    id: str
    binding: str
    expires_at: datetime | None = None
    on_expire: OnExpire = "deny"

    def lapsed(self, now: datetime) -> bool:
        """Say whether the time for a decision is over."""
        return self.on_expire != "keep" and self.expires_at is not None and self.expires_at <= now


class Plan(Frozen):
    """The calls of the last answer are a plan; of a `whole` one none is made while any waits."""

    id: str
    whole: bool = False


class Call(Frozen):
    """One request of the model to run a tool.

    requested → intended → settled, or intended → unknown → settled | requested (a person says: try again).
    One that a person must approve stays requested until then.
    """

    id: str
    provider_id: str
    name: str
    input: dict[str, Any]
    state: Literal["requested", "intended", "unknown", "settled"] = "requested"
    effect: Effect | None = None
    attempt: int = 1
    result: bytes = b""
    verdict: Verdict = "allow"
    approval: Approval | None = None
    """Set when a person was asked."""
    approved: str = ""
    """Hash of the tool and the arguments that a person has approved."""
    edited: bool = False
    """Whether `input` is what a person made of the model's."""

    @property
    def may_run(self) -> bool:
        """Whether nobody need be asked, or a person has approved exactly this."""
        if self.verdict == "ask":
            return self.approved == binding(self.name, self.input)
        return self.verdict == "allow"

    @property
    def waits(self) -> bool:
        """Whether it waits for a person's decision."""
        return self.state == "requested" and not self.may_run


class Full(Frozen):
    """A cap that a run has reached; `resets_at` when it goes on by itself."""

    which: str
    resets_at: datetime | None = None


class Hold(Frozen):
    """What a run has set aside of its agent's day, and what it has used of that since."""

    day: str
    amount: int
    used: int = 0
    for_next: bool = True
    """Whether the model call that it was set aside for has cost nothing yet: it is asked again on the same hold."""


class Run(Frozen):
    """The run that is open, or the last one."""

    id: str
    agent_id: str = ""
    agent_version: int = 0
    started_at: datetime
    task_id: str | None = None
    open: bool = True
    parked: bool = False
    """Whether it waits for a person."""
    claims: int = 0
    """Drivers since the last step of progress."""
    steps: int = 0
    stop_reason: str | None = None
    """Of the model's answer; none while it has yet to answer what it was sent last."""
    failures: int = 0
    """Failed model calls in a row."""
    too_long: int = 0
    """How often in a row the model said that what it was sent is too long."""
    compacted: bool = False
    """Whether the context was compacted and no answer has come since."""
    failure: v.ErrorDetail | None = None
    retry_after_seconds: float = 0.0
    tool_errors: int = 0
    usage: v.Usage = v.Usage()
    calls: tuple[Call, ...] = ()
    """Of the last answer."""
    plan: Plan | None = None
    """What they are, if there are several."""
    cancel: CancelReason | None = None
    """Why it is to stop."""
    cost: int = 0
    full: Full | None = None
    """The cap that it waits at."""
    hold: Hold | None = None

    @property
    def asks(self) -> bool:
        """Whether only a person can let it go on."""
        return self.parked and not (self.full and self.full.resets_at)


class Checkpoint(Frozen):
    """A place of the log that has a name: behind event `seq`."""

    name: str
    seq: int
    created_at: datetime


class Session(Frozen):
    """Everything the next decision needs, up to and including event `seq`."""

    id: str
    seq: int = 0
    epoch: int = 0
    phase: Phase = "created"
    run: Run | None = None
    usage: v.Usage = v.Usage()
    answer: tuple[bytes, ...] = ()
    """Blocks of the answer that is being read; empty outside of one entry."""
    context: tuple[bytes, ...] = ()
    """Exact JSON of every message that the model reads: all of them, or a summary and the newest."""
    context_tokens: int = 0
    """Tokens of the last request and its answer; 0 after a compaction, until the model has counted again."""
    steered: tuple[bytes, ...] = ()
    """Messages that came in the middle of a run; the model reads them with its next request."""
    autonomy: Autonomy | None = None
    """The session's own level; the agent's counts without one."""
    budget: StoredBudget | None = None
    """The session's own; the agent's counts without one."""
    spent: Spent = Spent()
    warned: tuple[str, ...] = ()
    """Caps that were said to be nearly reached."""
    compacting: bool = False
    """Whether the model call that is being read was for a compaction; false outside of one entry."""
    suspension: str = ""
    """Id of the event that suspended it; empty while it is not."""
    archived: bool = False
    title: str | None = None
    """What it was changed to, if it ever was; empty: to none."""
    metadata: dict[str, str] | None = None
    """What they were changed to, if they ever were."""
    checkpoints: tuple[Checkpoint, ...] = ()

    @property
    def suspended(self) -> bool:
        """Whether a person holds it: nothing starts."""
        return bool(self.suspension)

    @property
    def held(self) -> bool:
        """Whether no run may begin."""
        return self.suspended or self.archived

    @property
    def shows(self) -> Phase:
        """What lists say of it: that it is suspended or archived before what its run does."""
        if self.phase == "deleted":
            return self.phase
        if self.archived:
            return "archived"
        return "suspended" if self.suspended else self.phase

    @property
    def parked(self) -> bool:
        """Whether its open run waits for a person, a budget or the next day."""
        return self.run is not None and self.run.parked

    @property
    def rests(self) -> bool:
        """Whether its open run needs no driver: it waits for a person, who may have suspended it."""
        run = self.run
        return run is not None and run.open and (run.parked or (self.suspended and not run.cancel))

    def call(self, call_id: str) -> Call:
        """Return a call of the open run.

        Raises:
            NotFound: it has none of that id.
        """
        for call in self.run.calls if self.run and self.run.open else ():
            if call.id == call_id:
                return call
        raise NotFound("tool call", call_id)

    def budget_of(self, agent: Agent) -> Budget:
        """Return the caps that count, which may be none."""
        return agent.budget if self.budget is None else self.budget

    def but(self, **changes: Any) -> "Session":
        """Return a copy with changes."""
        return self.model_copy(update=changes)

    def but_run(self, **changes: Any) -> "Session":
        """Return a copy whose run has changes; a session without a run stays as it is."""
        return self.but(run=self.run.model_copy(update=changes)) if self.run else self

    def but_call(self, call_id: str, **changes: Any) -> "Session":
        """Return a copy where one call of the run has changes; an unknown call changes nothing."""
        calls = self.run.calls if self.run else ()
        return self.but_run(
            calls=tuple(call.model_copy(update=changes) if call.id == call_id else call for call in calls)
        )
