"""How long a run that was hit lay still.

A run is *hit* when the life of the process that drives it is killed or frozen. A process drives a run from its
`run.claimed` until the run's next `run.claimed`, its end, its parking, or its hand-over. Recovery is the time from the
fault to the next `run.claimed`, by the log's own timestamps; all processes share this machine's clock. A run whose
frozen driver was thawed in time goes on by itself: that is no recovery, and is counted apart.

Who made a claim: the answer to `execute` came from it, or its output has the claim, or (SQLite) nobody else was there.
With one server, the clock starts when it is thawed, for nobody else is there, and anew when it is hit again before it
has claimed anything.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.soak.book import Book, Violation
from tests.soak.fleet import Fleet
from tests.soak.logs import CLOSED, Event, Log
from tests.soak.member import Fault

TAKEN_OVER = re.compile(r"run_taken_over .*?run_id=(run_\w+) seq=(\d+)")
CLAIMED = re.compile(r"run_claimed run_id=(run_\w+) seq=(\d+)")


@dataclass
class Recoveries:
    """What became of the runs that were hit."""

    seconds: list[float] = field(default_factory=list)
    went_on: int = 0
    """Hit by a freeze, and gone on in the same hands."""
    taken_over: int = 0
    """Claims of runs that somebody else had driven."""
    violations: list[Violation] = field(default_factory=list)

    def quantile(self, share: float) -> float:
        """Return a quantile of the recoveries, in seconds."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, int(share * len(self.seconds)))] if self.seconds else 0.0


def measure(fleet: Fleet, book: Book, logs: Mapping[str, Log]) -> Recoveries:
    """Measure every recovery."""
    found, claimants = Recoveries(), _claimants(fleet, book)
    for log in logs.values():
        for run_id, events in log.runs().items():
            for claim, end in _drives(events):
                found.taken_over += claim is not _first_claim(events)
                life = _life(fleet, claimants, run_id, claim, events)
                if life is not None:
                    _judge(found, fleet, log, life, claim, end)
    return found


def _first_claim(events: Sequence[Event]) -> Event | None:
    return next((event for event in events if event.type == "run.claimed"), None)


def _drives(events: Sequence[Event]) -> Iterator[tuple[Event, Event | None]]:
    """Yield every claim of a run with what ended its drive."""
    for place, event in enumerate(events):
        if event.type == "run.claimed":
            yield event, next(filter(_ends_drive, events[place + 1 :]), None)


def _ends_drive(event: Event) -> bool:
    handed_over = event.type == "session.status_rescheduled" and event.data["reason"] == "handed_over"
    return handed_over or event.type in ("run.claimed", "session.status_idle", *CLOSED)


def _judge(found: Recoveries, fleet: Fleet, log: Log, life: str, claim: Event, end: Event | None) -> None:
    """Look at the last fault that hit a drive, and at what came then."""
    faults = [each for each in fleet.of_life(life).faults if each.life == life]
    hits = [fault for fault in faults if claim.at <= fault.at and (end is None or fault.at < end.at)]
    if not hits:
        return
    if end is None:
        return  # the verdict finds a run that has not ended
    if end.type != "run.claimed":
        found.went_on += hits[-1].kind == "freeze"
        return
    seconds = end.at - _since(fleet, hits[-1], end.at)
    found.seconds.append(seconds)
    if seconds > fleet.recovery_bound:
        told = f"{claim.run_id}: {seconds:.1f} s after {life} had a {hits[-1].kind}, claimed again at {end.seq}"
        found.violations.append(Violation("recovery too slow", log.session_id, told))


def _since(fleet: Fleet, fault: Fault, end: float) -> float:
    if fleet.kind == "dynamodb":
        return fault.at
    later = [each for member in fleet.members for each in member.faults if fault.at <= each.at < end]
    return max(each.at if each.until is None else min(each.until, end) for each in later)


def _claimants(fleet: Fleet, book: Book) -> dict[tuple[str, int], str]:
    """Read who made which claim from what the processes have written; a take-over's line has its last event's `seq`."""
    found: dict[tuple[str, int], str] = {}
    for member in fleet.members:
        for number in range(1, member.lives + 1):
            life = f"{member.name}.{number:03d}"
            text = (member.folder / f"{life}.log").read_text(errors="replace")
            found |= {(match[1], int(match[2]) - 1): life for match in TAKEN_OVER.finditer(text)}
            found |= {(match[1], int(match[2])): life for match in CLAIMED.finditer(text)}
    return found | {(run_id, 0): life for run_id, life in book.begun_by.items()}


def _life(
    fleet: Fleet, claimants: Mapping[tuple[str, int], str], run_id: str, claim: Event, events: Sequence[Event]
) -> str | None:
    if fleet.kind == "sqlite":
        [member] = fleet.members
        number = sum(born <= claim.at for born in member.born)
        return f"{member.name}.{number:03d}"
    began = claimants.get((run_id, 0)) if claim is _first_claim(events) else None
    return claimants.get((run_id, claim.seq)) or began
