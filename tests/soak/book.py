"""What customers were promised and shown; at the end the logs and the ledger are held against it."""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple


class Violation(NamedTuple):
    """A promise that was broken."""

    kind: str
    session_id: str
    told: str


@dataclass(frozen=True)
class Accepted:
    """A message that was taken: answered with 2xx, or a job that SQS took."""

    token: str
    door: Literal["execute", "events", "job"]
    session_id: str | None
    """None: a job that begins its own."""


@dataclass
class Stream:
    """The frames with an `id` that one customer saw of a session, over all its connections."""

    session_id: str
    frames: list[tuple[int, str, str]] = field(default_factory=list)
    """`seq`, id and type of the event."""
    whole: bool = False
    """Whether it began at the beginning, and ended when nothing ran or waited."""
    floor: int = 0
    """The newest event there was when its last connection was made: it must have come that far."""
    cuts: int = 0

    @property
    def last(self) -> int | None:
        """The cursor to go on behind."""
        return self.frames[-1][0] if self.frames else None


@dataclass
class Book:
    """All that was promised in one arrangement."""

    accepted: dict[str, Accepted] = field(default_factory=dict)
    """By token."""
    sessions: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    streams: list[Stream] = field(default_factory=list)
    words: dict[tuple[str, int], str] = field(default_factory=dict)
    """A person's word, by call and attempt."""
    begun_by: dict[str, str] = field(default_factory=dict)
    """Which life of a server answered when a run was begun."""
    requests: int = 0
    retries: int = 0
    violations: list[Violation] = field(default_factory=list)

    def accept(self, token: str, door: Literal["execute", "events", "job"], session_id: str | None) -> None:
        """Write down a promise."""
        self.accepted[token] = Accepted(token, door, session_id)
        if session_id:
            self.sessions.add(session_id)

    def complain(self, kind: str, session_id: str | None, told: str) -> None:
        """Write down a promise that was broken."""
        self.violations.append(Violation(kind, session_id or "-", told))
