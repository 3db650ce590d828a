"""What the search walks through: one session's table, two drivers, and what may still go wrong.

Values only, small and hashable: no clock, no random id. Two states that behave alike are equal: each is looked at once.
A slot of the log is the place of an entry, not of an event: all writers count alike, so it is the same key.
"""

from typing import Any, Literal, NamedTuple

FIRST, SECOND = "message_1", "message_2"

LAPSED = 0
"""Of a lease: the run needs a driver now. Higher numbers count renewals: each gives the lease another end."""

Log = tuple[int | None, ...]
"""The number of the entry in every slot (`decisions.Book` has the entries); `None` where the sweep has freed one."""

Call = tuple[str, int]
"""A call's id and attempt. An id begins with the tool's name: `pay_1_2`."""


class Lock(NamedTuple):
    """The row `L`."""

    epoch: int = 0
    run: str | None = None
    lease: int | None = None
    left: bool = False
    deleted: bool = False


class Write(NamedTuple):
    """What a driver sends to the table; the same value again is the same bytes again."""

    kind: Literal["append", "claim", "settle"]
    slot: int
    entry: int
    epoch: int
    run: str
    seen: Lock | None = None
    """Of a claim: the lock as it was read."""
    takes_message: bool = False
    """Of a claim: whether the waiting message's row goes with it."""
    leaves: Literal["closed", "parked", "handed over"] | None = None
    """Of a settlement: what it makes of the run."""


At = Literal["idle", "looking", "writing", "reading", "asking", "calling"]


class Driver(NamedTuple):
    """One process: what it is about to do, and all that it would forget in a crash."""

    at: At = "idle"
    epoch: int = 0
    run: str = ""
    view: Log = ()
    """The log as far as it has read or written it."""
    facts: tuple[int, ...] = ()
    """Events that came of the last step and are not stored yet."""
    write: Write | None = None
    calls: tuple[Call, ...] = ()
    """Tool calls under way whose effect is still to come."""
    made: tuple[tuple[Call, str], ...] = ()
    """Those that have ended, and how; the result is in this process only."""
    seen: Lock | None = None
    """Looking for a run to drive: the lock as it was read."""


class Faults(NamedTuple):
    """How much may still go wrong, and how much others may still do."""

    crashes: int = 1
    """A process dies, and another begins in its place."""
    lapses: int = 1
    """A lease ends although its driver is alive: it is frozen, slow, or cannot reach the table."""
    lost_answers: int = 1
    """A write is applied or not, and nobody says which."""
    late_writes: int = 1
    """A write whose answer is lost, and which is applied at any later time."""
    renewals: int = 1
    words: int = 1
    timeouts: int = 0
    """A payment runs into its time limit: it has happened or not."""
    handovers: int = 0
    """A driver's time is too short for its next step."""
    model_failures: int = 0
    deletes: int = 1
    interrupts: int = 0


class State(NamedTuple):
    """Everything at one moment."""

    log: Log
    lock: Lock
    drivers: tuple[Driver, Driver]
    faults: Faults
    message: Literal["unsent", "waiting", "taken"] = "unsent"
    """The client's second message: a row beside the log until a run begins with it."""
    air: Write | None = None
    """A write that may still be applied."""
    paid: tuple[Call, ...] = ()
    """Non-idempotent effects that the world has seen; no process can read this."""
    buried: Log | None = None
    """The log as it was deleted."""


Act = tuple[str | int, ...]


class Move(NamedTuple):
    """A step from one state to the next; `fault` when nothing must depend on it."""

    what: str
    state: State
    act: Act
    """The same for a program: who does what, and how it goes."""
    fault: bool = False


def with_driver(state: State, n: int, driver: Driver, **changes: Any) -> State:
    """Change what one process is about to do, and more."""
    a, b = state.drivers
    drivers = (driver, b) if n == 0 else (a, driver)
    if changes:
        return state._replace(drivers=drivers, **changes)
    log, lock, _, faults, message, air, paid, buried = state
    return State(log, lock, drivers, faults, message, air, paid, buried)  # several times faster than _replace


def name_of(n: int) -> str:
    """Name a process for people."""
    return "AB"[n]
