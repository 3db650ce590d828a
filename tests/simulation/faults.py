"""Which faults there are, and where each can strike. A point is one moment at which a process meets the outside."""

from collections.abc import Mapping
from dataclasses import dataclass, field

AWAY_SECONDS = 30.0
FROZEN_SECONDS = 75.0
"""Longer than a lease and its margin, and than the time between two sweeps."""
LATE_SECONDS = 2.0
"""After which a write arrives that nobody waits for any more."""
DELAY_SECONDS = 90.0
"""Of a hint that is late."""
SKEW_SECONDS = 120.0
"""By which a clock is ahead; a lease that it wrote may last for so much longer."""
MANY_POINTS = 4000
"""More than who follows a run for ten minutes comes by; whoever does goes round in a circle."""

_DEATH = ("crash before", "crash after", "frozen before", "frozen after")

KINDS: Mapping[str, tuple[str, ...]] = {
    "write": (*_DEATH, "refused", "lost", "answer lost", "applied late", "crash, applied late", "away"),
    "read": ("crash before", "frozen before", "unavailable", "clock ahead"),
    "index": ("crash before", "unavailable", "stale"),
    "blob put": (*_DEATH, "unavailable", "answer lost"),
    "blob get": ("crash before", "frozen before", "unavailable"),
    "blob delete": ("crash before", "crash after", "unavailable"),
    "hint": (*_DEATH, "lost", "doubled", "late"),
    "delivery": ("crash before", "frozen before", "doubled", "late"),
    "model": (
        *_DEATH,
        *("crash midway", "frozen midway", "overloaded", "rate limited", "request failed", "request refused"),
        "context full",
        *("error midway", "cut short", "broken input", "refusal", "pause", "out of tokens", "unheard-of ending"),
    ),
    "tool": (*_DEATH, "raises", "hangs before", "hangs after", "slow"),
    "http": ("request lost", "answer lost", "cut"),
}
"""What can go wrong at the points of each port.

write      refused: nothing written, and said so; lost: not written, answer lost: written, and nobody says which;
           applied late: nobody says, and it is written 2 s later; away: the table does not answer this process for 30 s
index      stale: the answer of an earlier look
model      an answer, or none; midway: after half of the stream
http       between a client and a server; cut: the connection ends in the middle of the answer
"""


@dataclass(frozen=True, slots=True)
class Point:
    """The `n`-th point of a run: what port, and what for, like `write E L M`."""

    n: int
    port: str
    place: str

    def __str__(self) -> str:
        return f"{self.n} {self.port} {self.place}"


@dataclass(slots=True)
class Faults:
    """The faults of one run, by the number of the point; and all the points that the run came by."""

    plan: Mapping[int, str | int] = field(default_factory=dict)
    """What goes wrong at a point; a number stands for one of whatever can go wrong there."""
    points: list[Point] = field(default_factory=list)
    fired: dict[int, str] = field(default_factory=dict)
    over: bool = False
    """Whether nothing goes wrong any more: what comes is looking at what has happened."""
    passed: int = 0

    @property
    def endless(self) -> bool:
        """Whether so much has happened that it will not end."""
        return self.passed > MANY_POINTS

    def strike(self, port: str, place: str) -> str | None:
        """Come by a point; return what goes wrong there."""
        self.passed += 1
        if self.over:
            return None
        point = Point(len(self.points) + 1, port, place)
        self.points.append(point)
        kind = self.plan.get(point.n)
        if isinstance(kind, int):
            kind = KINDS[port][kind % len(KINDS[port])]
        if kind is None or kind not in KINDS[port]:  # after an earlier fault, other points may follow
            return None
        self.fired[point.n] = kind
        return kind
