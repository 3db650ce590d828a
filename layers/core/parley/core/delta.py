"""What passes by on a stream and is never stored: drafts of events to come.

A draft carries the id that its event will have. The event replaces it, or it is discarded.
"""

from dataclasses import dataclass
from typing import Literal

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
    """That event will never come; what was seen of it counts for nothing."""

    event_id: str


Delta = DraftStarted | DraftGrew | DraftDiscarded
