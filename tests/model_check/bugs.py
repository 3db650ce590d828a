"""Bugs of the mechanism, on purpose: each takes one part of it away. A search that misses one proves nothing."""

from collections.abc import Callable
from dataclasses import dataclass, field

from parley.core import compose
from parley.core import event as e
from parley.core.agent import Agent
from parley.core.run import AskPerson, CallTools, Step, next_step
from parley.core.scribe import Scribe
from parley.core.session import Session

from tests.model_check.bounds import NOTHING
from tests.model_check.decisions import Book
from tests.model_check.search import DEAD_END
from tests.model_check.table import Rules
from tests.model_check.world import Faults


@dataclass(frozen=True)
class Bug:
    """A mechanism that lacks something, and faults under which that shows."""

    faults: Faults
    breaks: str
    """What the search says of it."""
    rules: Rules = field(default_factory=Rules)
    book: Callable[[], Book] = Book


def never_fenced(session: Session, epoch: int) -> bool:
    return False


def without_intents(scribe: Scribe, step: Step, session: Session, agent: Agent) -> list[e.Event]:
    announced = compose.announcement(scribe, step, session, agent)
    return [event for event in announced if not isinstance(event, e.ToolIntended)]


def repeats_everything(session: Session, agent: Agent, seconds_left: float) -> Step:
    step = next_step(session, agent, seconds_left)
    return CallTools(step.interrupted) if isinstance(step, AskPerson) and step.interrupted else step


def never_stops(session: Session, agent: Agent, seconds_left: float) -> Step:
    return next_step(session.but_run(cancel=None), agent, seconds_left)


BUGS = {
    "drivers ignore a newer claim": Bug(
        NOTHING._replace(lapses=1),
        "the driver of epoch 1 stored something behind an entry of epoch 2",
        rules=Rules(fence=never_fenced),
    ),
    "drivers ignore a delete": Bug(
        NOTHING._replace(deletes=1),
        "something was stored behind a delete",
        rules=Rules(fence=never_fenced),
    ),
    "intents are not stored before the call": Bug(
        NOTHING,
        "pay was called without an intent in the log",
        book=lambda: Book(announcement=without_intents),
    ),
    "a take-over writes the lock and no entry": Bug(
        NOTHING._replace(lapses=1),
        "the API would refuse the conversation that a message finds",
        rules=Rules(claims_stand_in_the_log=False),
    ),
    "a lost answer counts as a refusal": Bug(
        NOTHING._replace(lost_answers=1),
        "span.model_request_start is in the log twice",
        rules=Rules(unknown_is_asked_again=False),
    ),
    "a settlement is two writes, and the lock's is unconditional": Bug(
        NOTHING._replace(lapses=1),
        "a run began while another was open",
        rules=Rules(settles_at_once=False),
    ),
    "a renewal gives a parked run a lease": Bug(
        NOTHING._replace(renewals=1, timeouts=1),
        "a run that was given back has a lease again",
        rules=Rules(marks_who_left=False),
    ),
    "a renewal gives a run that was handed over a lease": Bug(
        NOTHING._replace(renewals=1, handovers=1),
        "a run that was given back has a lease again",
        rules=Rules(marks_who_left=False),
    ),
    "every call is made again after a take-over": Bug(
        NOTHING._replace(crashes=1),
        "a payment was made twice in one attempt",
        book=lambda: Book(next_step=repeats_everything),
    ),
    "an interrupt is not looked at": Bug(
        NOTHING._replace(interrupts=1),
        "a call was intended behind an interrupt",
        book=lambda: Book(next_step=never_stops),
    ),
    "a slot can be written over": Bug(
        NOTHING._replace(lapses=1),
        "a slot was written twice",
        rules=Rules(slots_are_written_once=False),
    ),
    "a message that was taken into the log waits on": Bug(
        NOTHING,
        "an accepted message is lost, or it waits and is in the log",
        rules=Rules(claim_takes_the_message=False),
    ),
    "nobody takes a run over": Bug(
        NOTHING._replace(crashes=1),
        DEAD_END,
        rules=Rules(runs_are_taken_over=False),
    ),
    "the sweep leaves no barrier": Bug(
        NOTHING._replace(lapses=1, deletes=1),
        "something new was stored in a session that is deleted",
        rules=Rules(aimed_at=lambda item, newest: False),
    ),
}
