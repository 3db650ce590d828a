"""How a session is held, let go on, changed, set back and ended by a person."""

from parley.core import control as c
from parley.core import event as e
from parley.core.changes import SETTINGS
from parley.core.fold.budgets import budgeted
from parley.core.fold.rows import Rows
from parley.core.message import is_results
from parley.core.session import Checkpoint, Session


def _updated(session: Session, event: c.SessionUpdated) -> Session:
    changed = {name: getattr(event, name) for name in SETTINGS}
    session = session.but(**{name: value for name, value in changed.items() if value is not None})
    return budgeted(session, event.budget)


def _suspended(session: Session, event: c.SessionSuspended) -> Session:
    return session.but(suspension=session.suspension or event.id)


def _resumed(session: Session, event: c.SessionResumed) -> Session:
    """Let go on; a run that waits finds out again for what."""
    if not session.suspended:
        return session
    session = session.but(suspension="")
    if session.run is None or not session.run.open:
        return session
    phase = "executing" if session.run.parked else session.phase
    return session.but(phase=phase).but_run(parked=False, claims=0)


def _terminated(session: Session, event: c.SessionTerminated) -> Session:
    return session.but(archived=True)


def _checkpoint(session: Session, event: c.CheckpointCreated) -> Session:
    """Name this place; a name that is taken keeps its place."""
    if any(each.name == event.name for each in session.checkpoints):
        return session
    made = Checkpoint(name=event.name, seq=event.seq, created_at=event.created_at)
    return session.but(checkpoints=(*session.checkpoints, made))


def _restored(session: Session, event: c.SessionRestored) -> Session:
    """Set back what the model reads, if that parts neither a call from its result nor a run from its context."""
    messages = tuple(message.encode() for message in event.messages)
    parted = any(map(is_results, (*session.context[event.keep : event.keep + 1], *messages[:1])))
    busy = session.run is not None and (session.run.open or session.run.calls)
    if parted or busy or session.answer:
        return session
    context = (*session.context[: event.keep], *messages)
    return session.but(context=context, steered=(), context_tokens=0)


def _deleted(session: Session, event: e.SessionDeleted) -> Session:
    return session.but(phase="deleted").but_run(open=False)


ROWS: Rows = {
    c.SessionUpdated: _updated,
    c.SessionSuspended: _suspended,
    c.SessionResumed: _resumed,
    c.SessionTerminated: _terminated,
    c.CheckpointCreated: _checkpoint,
    c.SessionRestored: _restored,
    e.SessionDeleted: _deleted,
}
