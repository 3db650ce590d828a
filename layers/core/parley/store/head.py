"""What a session shows without its log: the row that lists read, and the lock beside it.

Both are projections or guards, never the truth of what was said.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from pydantic import TypeAdapter

from parley.core.budget import Budget, StoredBudget
from parley.core.policy import Autonomy
from parley.core.status import Phase
from parley.core.value import Usage
from parley.ports import Item
from parley.store.keys import Ref, list_keys

Source = Literal["api", "web", "queue", "cli-stream", "cli-upload"]


def milliseconds(moment: datetime) -> int:
    """Epoch milliseconds."""
    return round(moment.timestamp() * 1000)


def moment(ms: int) -> datetime:
    """Undo `milliseconds`."""
    return datetime.fromtimestamp(ms / 1000, UTC)


_BUDGET: TypeAdapter[Budget | None] = TypeAdapter(StoredBudget | None)


def budget_item(budget: Budget | None) -> Item | None:
    """Write a budget as an attribute of the row."""
    return None if budget is None else budget.model_dump(exclude_none=True, include=set(Budget.model_fields))


@dataclass(frozen=True, slots=True)
class Head:
    """A session as lists show it; times are epoch milliseconds."""

    id: str
    agent_id: str
    owner: str
    created_ms: int
    updated_ms: int
    title: str | None = None
    task_id: str | None = None
    source: Source = "api"
    metadata: dict[str, str] = field(default_factory=dict)
    phase: Phase = "created"
    runs: int = 0
    active_ms: int = 0
    usage: Usage = Usage()
    archived_ms: int | None = None
    autonomy: Autonomy | None = None
    """The session's own level."""
    sent: int = 0
    """Messages that were ever sent to wait: who archives sees that none has come meanwhile."""
    cost: int = 0
    """Micro-dollars."""
    budget: Budget | None = None
    """The session's own."""

    def item(self, ref: Ref, ttl: int) -> Item:
        """Write the row."""
        key = ref.shown()
        item: Item = {
            "PK": key.pk,
            "SK": key.sk,
            "id": self.id,
            "agent_id": self.agent_id,
            "owner": self.owner,
            "title": self.title,
            "task_id": self.task_id,
            "source": self.source,
            "metadata": dict(self.metadata),
            "created_ms": self.created_ms,
            "runs": self.runs,
            "active_ms": self.active_ms,
            "usage": self.usage.model_dump(exclude_defaults=True),
            "autonomy": self.autonomy,
            "cost": self.cost,
            "budget": budget_item(self.budget),
        }
        return item | self.activity(ref, ttl)

    def activity(self, ref: Ref, ttl: int) -> Item:
        """Write the part of the row that changes when something happens."""
        return {
            "phase": self.phase,
            "updated_ms": self.updated_ms,
            "ttl": ttl,
            **list_keys(ref.tenant, self.updated_ms, ref.id),
        }

    @classmethod
    def of(cls, item: Item) -> "Head":
        """Read the row."""
        return cls(
            id=item["id"],
            agent_id=item["agent_id"],
            owner=item["owner"],
            created_ms=item["created_ms"],
            updated_ms=item["updated_ms"],
            title=item.get("title"),
            task_id=item.get("task_id"),
            source=item.get("source", "api"),
            metadata=item.get("metadata") or {},
            phase=item.get("phase", "created"),
            runs=item.get("runs", 0),
            active_ms=item.get("active_ms", 0),
            usage=Usage.model_validate(item.get("usage") or {}),
            archived_ms=item.get("archived_ms"),
            autonomy=item.get("autonomy"),
            sent=item.get("sent", 0),
            cost=item.get("cost", 0),
            budget=_BUDGET.validate_python(item.get("budget")),
        )


@dataclass(frozen=True, slots=True)
class Lock:
    """Who drives the session. `run` stays set while a run waits for a person; then there is no lease."""

    epoch: int = 0
    run: str | None = None
    lease_until_ms: int | None = None
    sealed: int = 0
    deleted: bool = False
    interrupt: bool = False
    """Whether a person has stopped the run since its driver claimed it; the log says so, too."""
    held: bool = False
    """Whether the session is suspended or archived: no run begins."""
    watched: bool = False
    """Whether the watcher's mark stands beside it; not stored here."""

    def item(self, ref: Ref) -> Item:
        """Write the item; attributes that say nothing are left out."""
        key = ref.lock()
        item: Item = {"PK": key.pk, "SK": key.sk, "epoch": self.epoch}
        if self.run is not None:
            item |= {"run": self.run, "lease_until": self.lease_until_ms}
        return item

    @classmethod
    def of(cls, item: Item) -> "Lock":
        """Read the item."""
        return cls(
            epoch=item["epoch"],
            run=item.get("run"),
            lease_until_ms=item.get("lease_until"),
            sealed=item.get("sealed", 0),
            deleted=item.get("deleted", False),
            interrupt=item.get("interrupt", False),
            held=item.get("held", False),
        )
