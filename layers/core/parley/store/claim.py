"""What a driver holds, and what it was taken from."""

from dataclasses import dataclass

from parley.core.event import Event
from parley.core.session import Session
from parley.store.head import Head, Lock
from parley.store.keys import Ref


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to drive one run until a newer claim. `session` is folded up to and including `events`."""

    ref: Ref
    head: Head
    epoch: int
    run_id: str
    session: Session
    events: tuple[Event, ...]
    unsealed_bytes: int = 0
    watched: bool = False
    """Whether somebody in another process watches."""
    sealed: int = 0
    """Up to where the session was sealed when it was read."""


@dataclass(frozen=True, slots=True)
class Free:
    """A session that nobody drives, as it was read."""

    head: Head
    lock: Lock
    session: Session
    unsealed_bytes: int = 0
