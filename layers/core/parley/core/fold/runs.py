"""How a run begins, changes hands, waits and closes."""

from parley.core import control as c
from parley.core import event as e
from parley.core import image, message
from parley.core.errors import REFUSED_REQUEST
from parley.core.fold.calls import close_calls, steer
from parley.core.fold.rows import Rows
from parley.core.session import Run, Session
from parley.core.status import Phase


def _user_message(session: Session, event: e.UserMessage) -> Session:
    """Add a message to what the model reads; one that comes in the middle of a run waits for the next request."""
    if session.run and session.run.open and event.run_id == session.run.id:
        return session.but(steered=(*session.steered, message.user_message(event)))
    session = close_calls(session)
    return session.but(context=image.with_room((*session.context, message.user_message(event))))


def _run_started(session: Session, event: e.RunStarted) -> Session:
    """Begin a run; thinking is bound to the prompt and tools that it was thought under, so it does not outlive them."""
    if session.run and session.run.agent_version != event.agent_version:
        session = session.but(context=tuple(map(message.without_thinking, session.context)))
    run = Run(
        id=event.run_id or "",
        agent_id=event.agent_id,
        agent_version=event.agent_version,
        started_at=event.created_at,
        task_id=event.task_id,
    )
    return session.but(run=run, phase="planning")


def _run_claimed(session: Session, event: e.RunClaimed) -> Session:
    claims = session.run.claims + 1 if session.run else 0
    session = session.but(epoch=event.epoch).but_run(claims=claims, parked=False, full=None)
    return session if session.run and session.run.calls else steer(session)


def _interrupted(session: Session, event: c.UserInterrupt) -> Session:
    if session.run is None or not session.run.open or event.run_id not in (None, session.run.id):
        return session
    return session.but_run(cancel="interrupted", parked=False, claims=0)


def _status_running(session: Session, event: e.StatusRunning) -> Session:
    return session.but(phase="planning")


def _status_rescheduled(session: Session, event: e.StatusRescheduled) -> Session:
    return session.but(phase="rescheduling").but_run(retry_after_seconds=event.after_seconds)


def _status_idle(session: Session, event: e.StatusIdle) -> Session:
    session = session.but_run(hold=None)  # settled in the same write
    if not event.stop_reason.parks:
        return session
    return session.but(phase="waiting").but_run(parked=True)


def _run_closed(session: Session, event: e.RunFinished | e.RunFailed | c.RunCancelled) -> Session:
    match event:
        case e.RunFinished():
            phase: Phase = event.status
        case e.RunFailed():
            phase = "error"
        case c.RunCancelled():
            phase = "interrupted"
    if isinstance(event, e.RunFailed) and event.code == REFUSED_REQUEST:
        session = session.but(context=image.without_refused(session.context))
    return steer(close_calls(session)).but(phase=phase).but_run(open=False, parked=False)


def _unchanged(session: Session, event: c.UserToolConfirmation) -> Session:
    return session  # what it says stands in the decision behind it


ROWS: Rows = {
    e.UserMessage: _user_message,
    c.UserInterrupt: _interrupted,
    c.UserToolConfirmation: _unchanged,
    e.RunStarted: _run_started,
    e.RunClaimed: _run_claimed,
    e.RunFinished: _run_closed,
    e.RunFailed: _run_closed,
    c.RunCancelled: _run_closed,
    e.StatusIdle: _status_idle,
    e.StatusRunning: _status_running,
    e.StatusRescheduled: _status_rescheduled,
}
