"""Sessions that this process has folded, so that the next turn reads only what is new.

A cache that cannot be wrong: a log only grows, so a fold of its beginning stays true. Which entries follow is read
every time; whether the session still exists is not asked here.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from parley.core.session import Session
from parley.store.keys import Ref

MAX_BYTES = 64 * 1024 * 1024
"""Of context, over all sessions; the session that was used longest ago goes first."""


@dataclass(frozen=True, slots=True)
class Folded:
    """A session as folded, and what it took to read it behind its seal."""

    session: Session
    sealed: int
    size: int
    weight: int


@dataclass(slots=True)
class Recent:
    """The sessions used last."""

    max_bytes: int = MAX_BYTES
    weight: int = 0
    folded: "OrderedDict[Ref, Folded]" = field(default_factory=OrderedDict)

    def get(self, ref: Ref, sealed: int) -> tuple[Session | None, int]:
        """Return the session and the bytes read behind its seal; nothing when it has been sealed anew since."""
        found = self.folded.get(ref)
        return (found.session, found.size) if found and found.sealed == sealed else (None, 0)

    def put(self, ref: Ref, sealed: int, session: Session, size: int) -> None:
        """Keep a session, and let others go when it is too much."""
        self._drop(ref)
        weight = 1024 + sum(map(len, session.context))
        self.folded[ref] = Folded(session, sealed, size, weight)
        self.weight += weight
        while self.weight > self.max_bytes:
            self._drop(next(iter(self.folded)))

    def _drop(self, ref: Ref) -> None:
        if dropped := self.folded.pop(ref, None):
            self.weight -= dropped.weight
