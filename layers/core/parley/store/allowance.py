"""What an agent may spend in a day, over all of its sessions: one counter a day, written with the events it is about.

Before a model call its reservation goes onto the counter, unless the counter stands at the cap; what the call really
cost takes its place with the run's next reservation, or when the run closes or parks. Each is in the transaction of the
entry that says so, and what is owed is folded from the log: so it is counted once, whoever drives, and a driver that
dies leaves a reservation that its successor uses (docs/decisions/0014).
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile

from parley.core import control as c
from parley.core.event import Event, StatusIdle
from parley.core.fold import fold
from parley.core.session import Session
from parley.ports import AtMost, Condition, Item, Op, Update
from parley.store.head import milliseconds
from parley.store.keys import Ref, allowance

KEPT = timedelta(days=35)
"""After the day: for whoever wants to look."""


def counted(ref: Ref, agent_id: str, session: Session, events: Sequence[Event]) -> list[Op]:
    """Make the writes to counters that belong to these events, which are stored behind `session`."""
    reserved = reservation(events)
    if reserved is None and not any(isinstance(event, StatusIdle) for event in events):
        return []
    run = fold(session, takewhile(lambda event: not isinstance(event, c.BudgetReserved | StatusIdle), events)).run
    owed = {run.hold.day: run.hold.used - run.hold.amount} if run and run.hold else {}
    ops: list[Op] = []
    if reserved:
        settled = owed.pop(reserved.day, 0)
        below = AtMost("spent", reserved.cap - 1 - settled)
        ops.append(_added(ref, agent_id, reserved.day, reserved.amount + settled, below))
    return ops + [_added(ref, agent_id, day, amount) for day, amount in owed.items()]


def reservation(events: Sequence[Event]) -> c.BudgetReserved | None:
    """Return what these events set aside, if they do."""
    return next((event for event in events if isinstance(event, c.BudgetReserved)), None)


def full(reserved: c.BudgetReserved, counter: Item | None) -> c.BudgetReached:
    """Write, in the place of a reservation, that its counter stands at the cap."""
    belongs = reserved.model_dump(include={"id", "created_at", "processed_at", "run_id", "task_id"})
    spent = counter.get("spent", 0) if counter else 0
    return c.BudgetReached(
        **belongs, scope="agent", which="daily_budget", cap=reserved.cap, spent=spent, resets_at=_end(reserved.day)
    )


def _added(ref: Ref, agent_id: str, day: str, amount: int, condition: Condition | None = None) -> Update:
    ttl = milliseconds(_end(day) + KEPT) // 1000
    return Update(allowance(ref.tenant, agent_id, day), set={"ttl": ttl}, add={"spent": amount}, condition=condition)


def _end(day: str) -> datetime:
    return datetime.fromisoformat(day).replace(tzinfo=UTC) + timedelta(days=1)
