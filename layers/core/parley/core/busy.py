"""What people say to a session whose run is open: stop, or one thing more.

A message that is steered carries the open run's id: the model reads it with its next request, once. One that comes when
the run has ended, or is to stop, belongs to no run yet; it waits for its turn beside the log.
"""

from collections.abc import Sequence
from typing import Literal

from parley.core import control as c
from parley.core import event as e
from parley.core.scribe import Scribe
from parley.core.session import Session

OnBusy = Literal["queue", "steer", "interrupt", "reject"]
"""What becomes of a message that comes while a run is open: it waits, joins the run, ends it, or is refused."""


def interrupt(scribe: Scribe, by: str) -> c.UserInterrupt:
    """Write a person's stop; a session without an open run keeps it and is otherwise as before."""
    return scribe.write(c.UserInterrupt, requested_by=by)


def stop(scribe: Scribe, session: Session, by: str, run_id: str | None = None) -> Sequence[e.Event]:
    """Write a stop of the open run, or of the one that is named; none if it is over or to stop already."""
    run = session.run
    if run is None or not goes_on(session) or run_id not in (None, run.id):
        return ()
    return (interrupt(scribe, by),)


def steer(scribe: Scribe, session: Session, messages: Sequence[e.UserMessage]) -> Sequence[e.Event]:
    """Put messages into the open run; none if there is none, or it is to stop."""
    if not goes_on(session):
        return ()
    now = scribe.now()
    belongs = {"processed_at": now, "run_id": scribe.run_id}
    return [message.model_copy(update=belongs | {"task_id": message.task_id or scribe.task_id}) for message in messages]


def goes_on(session: Session) -> bool:
    """Say whether a run is open that nobody has stopped."""
    return session.run is not None and session.run.open and session.run.cancel is None
