"""A session is the fold of its events.

Decides what every event changes: one row a type, in the module that it belongs to. `fold` is total: any log that Parley
ever wrote gives a session that can go on, and its `context` always satisfies the model's rule that every tool_use is
followed by its tool_result.
"""

from collections.abc import Iterable

from parley.core.event import Event
from parley.core.fold import answers, budgets, calls, lives, runs
from parley.core.session import Session

CHANGES = answers.ROWS | budgets.ROWS | calls.ROWS | lives.ROWS | runs.ROWS
"""One row per event type; a test holds it against the union."""


def fold(session: Session, events: Iterable[Event]) -> Session:
    """Apply events in order."""
    seq = session.seq
    for event in events:
        session, seq = CHANGES[type(event)](session, event), event.seq or seq
    return session.but(seq=seq)


def apply(session: Session, event: Event) -> Session:
    """Return the session after one event; what does not fit changes nothing but `seq`."""
    return fold(session, (event,))
