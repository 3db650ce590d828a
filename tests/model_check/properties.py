"""What must hold: of every log, of every state, and of every step between two states.

Each check returns what is wrong, as a sentence, or nothing.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from parley.core import control as c
from parley.core import event as e
from parley.core.value import TextBlock

from tests.fakes.model import problem_of
from tests.model_check.decisions import Book, Entry, tool_of
from tests.model_check.world import LAPSED, SECOND, Call, Log, State

PROPERTIES = (
    "a non-idempotent call has one effect an attempt",
    "an effect's intent is in the log before it",
    "behind a claim no older driver stores anything",
    "no gap, and no slot is written twice but by the sweep",
    "what a driver believes stored is stored",
    "an event is in the log once, and a call has one result",
    "the API accepts what the model is asked, and would accept a message at any moment",
    "an accepted message waits or is in the log, once",
    "a run is closed once, and one run is open at a time",
    "nothing follows a delete",
    "a run that was given back has no lease",
    "behind an interrupt nothing of its run is intended, and it ends as it was told to",
    "from every state, drivers that nothing disturbs close or park what is open",
)

ENDS = (e.RunFinished, e.RunFailed, c.RunCancelled)


@dataclass(eq=False)
class Properties:
    """Holds states against the promises."""

    book: Book

    def __post_init__(self) -> None:
        self.log_problem = cache(self._log_problem)
        self.context_problem = cache(self._context_problem)
        self.events = cache(self.book.events_of)
        self.lease_due = cache(self._lease_due)
        self.last_end = cache(self._last_end)
        self.has_second = cache(self._has_second)

    def step_problem(self, before: State, after: State) -> str | None:
        """Say what is wrong with a step."""
        return self._slots_problem(before, after) or self._effects_problem(before, after)

    def state_problem(self, state: State) -> str | None:
        """Say what is wrong with a state."""
        return self.log_problem(_kept(state)) or self._drivers_problem(state) or self._lock_problem(state)

    def ending(self, state: State) -> str | None:
        """Say how it ended when nothing is left to do; a person who is waited for is an end, too."""
        lock = state.lock
        if any(driver.at != "idle" for driver in state.drivers):
            return None
        if lock.deleted:
            return "deleted"
        if lock.run is None:
            return None if state.message == "waiting" else self.last_end(state.log)
        return "parked" if lock.lease is None else None

    def _last_end(self, log: Log) -> str:
        ends = [event for event in self.events(log) if isinstance(event, ENDS)]
        return "nothing begun" if not ends else getattr(ends[-1], "code", getattr(ends[-1], "reason", "finished"))

    def _slots_problem(self, before: State, after: State) -> str | None:
        """An entry stays where it is; a deleted session's slots hold what they held, or less."""
        if after.buried is None:
            return None if after.log[: len(before.log)] == before.log else "a slot was written twice"
        if len(after.log) > len(after.buried):
            return "something was stored behind a delete"
        for now, then in zip(after.log, after.buried, strict=True):
            if now not in (None, self.book.barrier, then):
                return "something new was stored in a session that is deleted"
        return None

    def _effects_problem(self, before: State, after: State) -> str | None:
        """Look at the calls that were made in this step."""
        if after.paid != before.paid and len(set(after.paid)) < len(after.paid):
            return "a payment was made twice in one attempt"
        for old, new in zip(before.drivers, after.drivers, strict=True):
            if old is new:
                continue
            for call, _ in new.made if len(new.made) > len(old.made) else ():
                if tool_of(call) != "look" and call not in self._intents(_kept(after)):
                    return f"{tool_of(call)} was called without an intent in the log"
        return None

    def _drivers_problem(self, state: State) -> str | None:
        for driver in state.drivers:
            if driver.at == "asking" and (refusal := self.context_problem(driver.view)):
                return f"the API would refuse what the model is asked: {refusal}"
            if state.buried is None and driver.view != state.log[: len(driver.view)]:
                return "a driver believes stored what is not"
        return None

    def _lock_problem(self, state: State) -> str | None:
        """Hold the lock and the waiting message against the log."""
        if state.buried is not None:
            return None
        if state.lock.lease not in self.lease_due(state.log):
            return "a run that was given back has a lease again"
        if self.has_second(state.log) != (state.message == "taken"):
            return "an accepted message is lost, or it waits and is in the log"
        return None

    def _has_second(self, log: Log) -> bool:
        return any(event.id == SECOND for event in self.events(log))

    def _lease_due(self, log: Log) -> "tuple[int | None, ...] | range":
        """Say which leases go with a log: none while a person is waited for, a lapsed one after a hand-over."""
        run, events = self.book.session(log).run, self.events(log)
        if run and run.parked:
            return (None,)
        if events and isinstance(last := events[-1], e.StatusRescheduled) and last.reason == "handed_over":
            return (LAPSED,)
        return (None, *range(10))

    def _intents(self, log: Log) -> list[Call]:
        return [(event.tool_use_id, event.attempt) for event in self.events(log) if isinstance(event, e.ToolIntended)]

    def _context_problem(self, log: Log) -> str | None:
        return problem_of(self.book.session(log).context)

    def _log_problem(self, log: Log) -> str | None:
        if None in log:
            return "the log has a gap"
        entries = [self.book.entries[number] for number in log if number is not None]
        events = self.events(log)
        by_itself = (
            _order_problem(entries, events) or _runs_problem(events) or _doubled(events) or _stop_problem(events)
        )
        return by_itself or self._next_problem(log)

    def _next_problem(self, log: Log) -> str | None:
        """A message that comes now must find a conversation that the API accepts."""
        said = (
            e.UserMessage(id="next", created_at=self.events(log)[0].created_at, content=(TextBlock(text="Go on"),))
            if log
            else None
        )
        if said is None:
            return None
        refusal = problem_of(self.book.session(log, (self.book.event(said),)).context)
        return f"the API would refuse the conversation that a message finds: {refusal}" if refusal else None


def _kept(state: State) -> Log:
    """The log, or what it was when it was deleted."""
    return state.log if state.buried is None else state.buried


def _order_problem(entries: list[Entry], events: "list[e.Event]") -> str | None:
    epochs = [entry.epoch for entry in entries if entry.epoch is not None]
    for newest, epoch in pairwise(epochs):
        if epoch < newest:
            return f"the driver of epoch {epoch} stored something behind an entry of epoch {newest}"
    if any(isinstance(event, e.SessionDeleted) for event in events[:-1]):
        return "something was stored behind a delete"
    return None


def _runs_problem(events: "list[e.Event]") -> str | None:
    run_is_open = False
    for event in events:
        if isinstance(event, e.RunStarted):
            if run_is_open:
                return "a run began while another was open"
            run_is_open = True
        elif isinstance(event, ENDS):
            if not run_is_open:
                return "a run was closed twice"
            run_is_open = False
        elif isinstance(event, e.RunClaimed) and not run_is_open:
            return "a run was taken over that is closed"
    return None


def _stop_problem(events: "list[e.Event]") -> str | None:
    stopped = False
    for event in events:
        stopped = (stopped or isinstance(event, c.UserInterrupt)) and not isinstance(event, c.RunCancelled)
        if stopped and isinstance(event, e.ToolIntended):
            return "a call was intended behind an interrupt"
        if stopped and isinstance(event, e.RunFinished | e.RunFailed):
            return "a run was interrupted and ended otherwise"
    return None


def _doubled(events: "list[e.Event]") -> str | None:
    """Find an event that is in the log twice, or a second result of a call."""
    marks: list[tuple[str, str, str]] = [(event.type, event.id, getattr(event, "tool_use_id", "")) for event in events]
    marks += [("result", event.tool_use_id, "") for event in events if isinstance(event, e.AgentToolResult)]
    for (kind, id, call), times in Counter(marks).items():
        if times > 1:
            return f"{kind} is in the log twice: {call or id}"
    return None
