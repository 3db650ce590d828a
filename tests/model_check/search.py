"""Breadth first through every state that can be reached, and back from where all is settled.

Breadth first, so that the first counterexample is a shortest one. Parents are kept, paths are not: a path is walked
again when it has to be told.
"""

import gc
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from parley.core import event as e

from tests.model_check.decisions import Book
from tests.model_check.moves import Moves
from tests.model_check.properties import Properties
from tests.model_check.table import Rules
from tests.model_check.world import Faults, Move, State

DEAD_END = "nothing but a fault leads on: the run is never closed and never waits for a person"


@dataclass
class Found:
    """What a search has seen."""

    states: int = 0
    transitions: int = 0
    depth: int = 0
    seconds: float = 0.0
    endings: "Counter[str]" = field(default_factory=Counter)
    """States in which nothing is left to do, by how it ended."""
    problem: str | None = None
    steps: list[str] = field(default_factory=list)
    """The shortest way to the problem."""

    def told(self) -> str:
        """Write the counterexample for people."""
        lines = [f"{n:3}. {step}" for n, step in enumerate(self.steps, 1)]
        return "\n".join([*lines, f"  => {self.problem}"])


@dataclass
class Search:
    """One search: rules, bounds, and the states seen so far."""

    moves: Moves
    faults: Faults
    numbers: dict[State, int] = field(default_factory=dict)
    states: list[State] = field(default_factory=list)
    parents: "array[int]" = field(default_factory=lambda: array("l"))
    depths: "array[int]" = field(default_factory=lambda: array("l"))
    back: "list[array[int]]" = field(default_factory=list)
    """From where a state is reached without a fault."""

    def run(self) -> Found:
        """Look at every state; stop at the first that breaks a promise."""
        began = time.process_time()
        gc.disable()  # nothing here is garbage, and looking for some takes half of the time
        try:
            found = self._walk()
        finally:
            gc.enable()
        found.states, found.depth = len(self.states), self.depths[-1]
        found.seconds = time.process_time() - began
        return found

    def _walk(self) -> Found:
        properties, found = Properties(self.moves.book), Found()
        self._add(self.moves.start(self.faults), -1)
        for n, state in self._each():
            for move in self.moves.after(state):
                found.transitions += 1
                there = self.numbers.get(move.state)
                problem = properties.step_problem(state, move.state)
                if there is None:
                    there = self._add(move.state, n)
                    problem = problem or properties.state_problem(move.state)
                if not move.fault:
                    self.back[there].append(n)
                if problem:
                    found.problem, found.steps = problem, self._way_to(n, move)
                    break
            if found.problem:
                break
        else:
            self._look_for_dead_ends(properties, found)
        return found

    def _each(self) -> Iterator[tuple[int, State]]:
        n = 0
        while n < len(self.states):
            yield n, self.states[n]
            n += 1

    def _add(self, state: State, parent: int) -> int:
        n = self.numbers[state] = len(self.states)
        self.states.append(state)
        self.parents.append(parent)
        self.depths.append(self.depths[parent] + 1 if parent >= 0 else 0)
        self.back.append(array("l"))
        return n

    def _look_for_dead_ends(self, properties: Properties, found: Found) -> None:
        """Walk back from every settled state; who is not met has no way there."""
        waiting, met = [], bytearray(len(self.states))
        for n, state in enumerate(self.states):
            if ending := properties.ending(state):
                found.endings[ending] += 1
                waiting.append(n)
                met[n] = True
        while waiting:
            for before in self.back[waiting.pop()]:
                if not met[before]:
                    met[before] = True
                    waiting.append(before)
        if (stuck := met.find(0)) >= 0:
            found.problem, found.steps = DEAD_END, self._way_to(stuck)

    def _way_to(self, n: int, last: Move | None = None) -> list[str]:
        """Tell the steps from the start, with what each has added to the log."""
        way = [n]
        while (n := self.parents[n]) >= 0:
            way.append(n)
        states = [self.states[n] for n in reversed(way)]
        steps = []
        for before, after in zip(states, [*states[1:], last.state if last else None], strict=True):
            if after is not None:
                taken = next(move for move in self.moves.after(before) if move.state == after)
                steps.append(taken.what + self._added(before, after))
        return steps

    def _added(self, before: State, after: State) -> str:
        events = self.moves.book.events_of(after.log[len(before.log) :])
        return f" → {', '.join(map(_named, events))}" if events else ""


def _named(event: e.Event) -> str:
    call = getattr(event, "tool_use_id", event.id if isinstance(event, e.AgentToolUse) else "")
    return f"{event.type} {call.split('_')[0]}".rstrip()


def search(faults: Faults, rules: Rules | None = None, book: Book | None = None) -> Found:
    """Search everything within bounds."""
    return Search(Moves(book or Book(), rules or Rules()), faults).run()
