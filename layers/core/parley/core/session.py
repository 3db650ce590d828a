"""What is folded: a session, its run, the run's calls. How events change them is in `fold.py`."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from parley.core import value as v
from parley.core.status import Phase
from parley.core.tool import Effect


class Frozen(BaseModel):
    """A value of the fold; kept in snapshots, so every new field needs a default."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Call(Frozen):
    """One request of the model to run a tool.

    requested → intended → settled, or intended → unknown → settled | requested (a person says: try again).
    """

    id: str
    provider_id: str
    name: str
    input: dict[str, Any]
    state: Literal["requested", "intended", "unknown", "settled"] = "requested"
    effect: Effect | None = None
    attempt: int = 1
    result: bytes = b""


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
    compacting: bool = False
    """Whether the model call that is being read was for a compaction; false outside of one entry."""

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
