"""What passes by on a stream and is never stored: drafts of events to come.

A draft carries the id that its event will have. The event replaces it, or it is discarded.
"""

from dataclasses import dataclass
from typing import Literal

from parley.core.event import Event

Kind = Literal["agent.message", "agent.thinking"]


@dataclass(frozen=True, slots=True)
class DraftStarted:
    """An event of this kind is being written."""

    event_id: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class DraftGrew:
    """A piece of text for that event."""

    event_id: str
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class DraftDiscarded:
    """What was seen of that event counts for nothing; if it comes after all, it comes whole."""

    event_id: str


@dataclass(frozen=True, slots=True)
class Rotated:
    """The stream ends here by plan; what follows `after` is to be had from a new one."""

    after: int
    reason: Literal["idle", "deadline"]


Delta = DraftStarted | DraftGrew | DraftDiscarded | Rotated

Output = Event | Delta
"""All that a stream can say."""
