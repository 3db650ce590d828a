"""Everything that can happen next: one operation on the table, or one effect in the world, by one of those who act."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.model_check.decisions import Book
from tests.model_check.driving import Driving
from tests.model_check.others import Others
from tests.model_check.table import Rules
from tests.model_check.world import FIRST, Driver, Faults, Lock, Move, State, Write


@dataclass
class Moves:
    """The moves that rules allow."""

    book: Book = field(default_factory=Book)
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        self.driving, self.others = Driving(self.book, self.rules), Others(self.book, self.rules)

    def start(self, faults: Faults) -> State:
        """Begin with an empty session, and a client whose first message has just reached process A."""
        entry = self.book.claim("A", 1, None, (), FIRST)
        begin = Write("claim", 0, entry, 1, "run_1", seen=Lock())
        return State((), Lock(), (Driver("writing", write=begin), Driver()), faults)

    def after(self, state: State) -> Iterator[Move]:
        """Yield every move."""
        yield from self.driving.after(state, 0)
        yield from self.driving.after(state, 1)
        yield from self.others.after(state)
