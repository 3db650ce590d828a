"""The real decisions, looked up: what `fold`, `next_step` and `compose` say about a log, each asked once.

Nothing is modelled here. Events are made by the production code and kept by number, so that the search compares
integers; ids name roles (`pay_1_2`: the payment that the driver of epoch 1 heard of behind two entries).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal, NamedTuple

from parley.core import answered, compose
from parley.core import control as c
from parley.core import event as e
from parley.core.agent import Agent
from parley.core.answer import Answer, Draft
from parley.core.errors import ModelError
from parley.core.fold import fold
from parley.core.outcome import Word, decide
from parley.core.run import CallModel, CallTools, Step, Wait, next_step
from parley.core.scribe import Scribe
from parley.core.session import Call as SessionCall
from parley.core.session import Session
from parley.core.tool import ToolOutcome
from parley.core.value import Usage

from tests.build import FILE, LOOK, PAY
from tests.build import agent as an_agent
from tests.model_check.world import Call, Log, Write

SESSION = "sesn_1"
NOON = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
AGENT = an_agent(PAY, FILE, LOOK, max_claims=2, max_model_retries=1)
"""Pays (not idempotent), files (idempotent), looks (a read). Three drivers in a row without progress are too many."""

NextStep = Callable[[Session, Agent, float], Step]
Announcement = Callable[[Scribe, Step, Session, Agent], list[e.Event]]
Leaves = Literal["closed", "parked", "handed over"]


class Entry(NamedTuple):
    """One append: who wrote it (with the epoch that is the `append_id`), and its events by number."""

    writer: str
    epoch: int | None
    events: tuple[int, ...]


class Plan(NamedTuple):
    """What a driver does next: a write, unless there is nothing to store, and what follows it."""

    write: Write | None
    then: Literal["idle", "asking", "calling"]
    calls: tuple[Call, ...] = ()


@dataclass
class Book:
    """Events and entries by number, and everything that was asked about them."""

    next_step: NextStep = next_step
    announcement: Announcement = compose.announcement
    agent: Agent = AGENT
    events: list[e.Event] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    _event_numbers: dict[bytes, int] = field(default_factory=dict)
    _entry_numbers: dict[Entry, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("session", "plan", "claim", "answer", "result", "word", "interrupt"):
            setattr(self, name, cache(getattr(self, name)))  # asked again for every state that has the same log
        self.barrier = self.entry("api", None, [self._scribe("", 0, ()).write(e.SessionDeleted)])

    def entry(self, writer: str, epoch: int | None, events: list[e.Event]) -> int:
        """Number an entry."""
        return self._numbered(Entry(writer, epoch, tuple(map(self.event, events))))

    def sent_by_nobody(self, number: int) -> int:
        """Number the same entry, written by a process that is gone: to its successor it is another's."""
        return self._numbered(self.entries[number]._replace(writer="gone"))

    def event(self, event: e.Event) -> int:
        """Number an event."""
        number = self._event_numbers.setdefault(e.to_json(event), len(self.events))
        if number == len(self.events):
            self.events.append(event)
        return number

    def events_of(self, log: Log) -> list[e.Event]:
        """Read a log."""
        return [self.events[n] for slot in log if slot is not None for n in self.entries[slot].events]

    def session(self, log: Log, facts: tuple[int, ...] = ()) -> Session:
        """Fold a log, and facts that are not in it yet."""
        if facts:
            return fold(self.session(log), [self.events[n] for n in facts])
        return fold(self.session(log[:-1]), self.events_of(log[-1:])) if log else Session(id=SESSION)

    def plan(self, writer: str, epoch: int, run: str, view: Log, facts: tuple[int, ...], short: bool) -> Plan:
        """Decide what comes next, as the engine's loop does; `short` is a driver whose time is up."""
        decided = self.session(view, facts)
        step = self.next_step(decided, self.agent, 0.0 if short else math.inf)
        assert decided.run is not None
        announced = self.announcement(self._scribe(run, epoch, view, "next"), step, decided, self.agent)
        stored = (*facts, *map(self.event, announced))
        settles = step.ends_drive and not isinstance(step, Wait)
        write = None
        if stored:
            entry = self._numbered(Entry(writer, epoch, stored))
            leaves = _leaves(self.session(view, stored)) if settles else None
            write = Write("settle" if settles else "append", len(view), entry, epoch, run, leaves=leaves)
        match step:
            case CallModel():
                return Plan(write, "asking")
            case CallTools():
                return Plan(write, "calling", tuple((call.id, call.attempt) for call in step.calls))
            case _:
                return Plan(write, "idle")

    def claim(self, writer: str, epoch: int, run: str | None, log: Log, message: str) -> int:
        """Write what begins a run with a message, or puts another driver in charge of a run."""
        scribe = self._scribe(run or f"run_{epoch}", epoch, log)
        if run:
            return self.entry(writer, epoch, compose.taking_over(scribe, epoch))
        said = compose.user_message(scribe, message).model_copy(update={"id": message})
        return self.entry(writer, epoch, compose.opening(scribe, self.agent, said, epoch))

    def answer(self, epoch: int, run: str, view: Log, fails: bool) -> tuple[int, ...]:
        """Let the model answer: with calls of all tools to the first message, with words from then on; or fail."""
        scribe, session = self._scribe(run, epoch, view), self.session(view)
        assert session.run is not None
        if fails:
            failure = ModelError("overloaded", "Busy")
            return tuple(map(self.event, answered.failure_events(scribe, failure, NOON, session, self.agent)))
        ids = {n: f"{tool.name}_{epoch}_{len(view)}" for n, tool in enumerate(self.agent.tools)}
        if len(session.context) > 1:
            answer = Answer((Draft(0, "agent.message", ["Done."], done=True),), "end_turn", Usage())
            ids = {0: f"said_{epoch}_{len(view)}"}
        else:
            names = [tool.name for tool in self.agent.tools]
            calls = [Draft(n, "agent.tool_use", name=names[n], provider_id=id, done=True) for n, id in ids.items()]
            answer = Answer(tuple(calls), "tool_use", Usage())
        return tuple(map(self.event, answered.answer_events(scribe, self.agent, answer, NOON, ids)))

    def result(self, epoch: int, run: str, view: Log, call: Call, status: Any) -> int:
        """Write what came of a call."""
        id, attempt = call
        made = SessionCall(id=id, provider_id=id, name=tool_of(call), input={}, attempt=attempt)
        return self.event(compose.result_event(self._scribe(run, epoch, view), made, ToolOutcome(status, "Done."), 0))

    def word(self, log: Log, call: Call, outcome: e.OutcomeWord) -> int:
        """Write a person's word on a call whose outcome is unknown."""
        scribe = self._scribe("", 0, log)
        return self.entry("person", None, decide(scribe, self.session(log), call[0], Word(outcome, call[1]), "ann"))

    def interrupt(self, log: Log) -> int:
        """Write a person's interrupt of the open run."""
        run = self.session(log).run
        scribe = self._scribe(run.id if run else "", 0, log)
        return self.entry("person", None, [scribe.write(c.UserInterrupt)])

    def _scribe(self, run: str, epoch: int, view: Log, kind: str = "fact") -> Scribe:
        return Scribe(lambda prefix: f"{kind}_{epoch}_{len(view)}", lambda: NOON, run)

    def _numbered(self, entry: Entry) -> int:
        number = self._entry_numbers.setdefault(entry, len(self.entries))
        if number == len(self.entries):
            self.entries.append(entry)
        return number


def tool_of(call: Call) -> str:
    """Name the tool of a call."""
    return call[0].split("_")[0]


def _leaves(after: Session) -> Leaves:
    run = after.run
    assert run is not None
    if not run.open:
        return "closed"
    return "parked" if run.parked else "handed over"
