"""Who writes events: gives each its id, its time, and what it belongs to. Ids and the time come from the caller."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from parley.core.value import EventBase

E = TypeVar("E", bound=EventBase)


@dataclass(frozen=True, slots=True)
class Scribe:
    """Writes events of one run: gives each its id, time, run and task."""

    new_id: Callable[[str], str]
    now: Callable[[], datetime]
    run_id: str | None
    task_id: str | None = None

    def write(self, kind: type[E], *, id: str | None = None, at: datetime | None = None, **fields: Any) -> E:
        """Make one event; `id` and `at` are given when they were fixed earlier."""
        at = at or self.now()
        return kind(
            id=id or self.new_id("sevt"),
            created_at=at,
            processed_at=at,
            run_id=self.run_id,
            task_id=self.task_id,
            **fields,
        )
