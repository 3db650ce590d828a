"""What everybody else does: a person, a client, the sweep, a renewal, and a write that comes late.

Each reads and writes on condition that nothing has changed between, so theirs is one move.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from parley.core import event as e

from tests.model_check import table
from tests.model_check.decisions import Book, tool_of
from tests.model_check.table import Rules
from tests.model_check.world import LAPSED, Move, State

WORDS: tuple[e.OutcomeWord, ...] = ("happened", "did_not_happen", "retry")


@dataclass(frozen=True)
class Others:
    """The moves of everybody but the drivers."""

    book: Book
    rules: Rules

    def after(self, state: State) -> Iterator[Move]:
        lock, faults = state.lock, state.faults
        if state.air:
            after = table.write(state, state.air, self.rules)
            landed = after if isinstance(after, State) else state
            yield Move("the late write lands", landed._replace(air=None), ("land",), fault=True)
        if faults.renewals and (lease := table.renewed(lock)):
            spent = faults._replace(renewals=faults.renewals - 1)
            yield Move(
                f"a renewal by the driver of epoch {lock.epoch} lands",
                state._replace(lock=lease, faults=spent),
                ("renew",),
                True,
            )
        if lock.deleted:
            if state.log == state.buried:
                yield Move("the sweep removes the contents", table.sweep(state, self.book, self.rules), ("sweep",))
            return
        if state.message == "unsent" and state.log:
            yield Move("the client sends a second message", state._replace(message="waiting"), ("send",), fault=True)
        if faults.deletes and state.log:
            gone = table.delete(state, self.book)
            yield Move(
                "the client deletes the session",
                gone._replace(faults=faults._replace(deletes=0)),
                ("delete",),
                fault=True,
            )
        if faults.words:
            yield from self._say(state)
        if faults.interrupts and state.lock.run:
            yield self._interrupt(state)

    def _interrupt(self, state: State) -> Move:
        run = self.book.session(state.log).run
        lock = state.lock._replace(lease=LAPSED) if run and run.parked else state.lock
        log = (*state.log, self.book.interrupt(state.log))
        stopped = state._replace(log=log, lock=lock, faults=state.faults._replace(interrupts=0))
        return Move("a person stops the run", stopped, ("interrupt",), fault=True)

    def _say(self, state: State) -> Iterator[Move]:
        run = self.book.session(state.log).run
        faults = state.faults._replace(words=state.faults.words - 1)
        for call in run.calls if run and run.open else ():
            if call.state != "unknown":
                continue
            for word in WORDS:
                entry = self.book.word(state.log, (call.id, call.attempt), word)
                lock = state.lock._replace(lease=LAPSED) if run and run.parked else state.lock
                said = state._replace(log=(*state.log, entry), lock=lock, faults=faults)
                yield Move(
                    f"a person says of {tool_of((call.id, 1))}: {word}", said, ("say", call.id, word), fault=True
                )
