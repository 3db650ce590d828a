"""How budgets change a session: another budget, a warning, a cap that is reached, money that is set aside."""

from parley.core import control as c
from parley.core.budget import Budget
from parley.core.fold.rows import Rows
from parley.core.session import Full, Hold, Session


def budgeted(session: Session, budget: Budget | None) -> Session:
    """Give a session another budget; a run that waits at a cap goes on, to see whether that is enough."""
    if budget is None:
        return session
    session = session.but(budget=budget, warned=())
    run = session.run
    if run is None or not (run.parked and run.full):
        return session
    return session.but(phase="executing" if run.calls else "planning").but_run(parked=False, full=None, claims=0)


def _reserved(session: Session, event: c.BudgetReserved) -> Session:
    return session.but_run(hold=Hold(day=event.day, amount=event.amount))


def _warned(session: Session, event: c.BudgetWarning) -> Session:
    return session.but(warned=(*session.warned, event.which))


def _full(session: Session, event: c.BudgetReached) -> Session:
    return session.but_run(full=Full(which=event.which, resets_at=event.resets_at))


ROWS: Rows = {
    c.BudgetReserved: _reserved,
    c.BudgetWarning: _warned,
    c.BudgetReached: _full,
}
