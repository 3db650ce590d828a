"""What a process does that has no run: it looks for one and claims it, as `parley.store.claims` does."""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.model_check.decisions import Book
from tests.model_check.table import Rules
from tests.model_check.world import LAPSED, SECOND, Driver, Lock, Move, State, Write, name_of, with_driver


@dataclass(frozen=True)
class Looking:
    """The moves of an idle process."""

    book: Book
    rules: Rules

    def look(self, state: State, n: int) -> Iterator[Move]:
        """Read the lock: is there something to do?"""
        lock, faults = state.lock, state.faults
        if lock.deleted:
            return
        looks = f"{name_of(n)} reads the lock: "
        found = Driver("looking", seen=lock)
        if lock.run is None:
            if state.message == "waiting":
                yield Move(f"{looks}no run is open, and a message waits", with_driver(state, n, found), ("look", n))
        elif lock.lease is not None and self.rules.runs_are_taken_over:
            driven = lock.lease != LAPSED and any(_holds(driver, lock) for driver in state.drivers)
            if not driven:
                yield Move(f"{looks}nobody drives {lock.run}", with_driver(state, n, found), ("look", n))
            elif faults.lapses:
                spent = faults._replace(lapses=faults.lapses - 1)
                yield Move(
                    f"{looks}the lease has lapsed", with_driver(state, n, found, faults=spent), ("look", n), fault=True
                )

    def plan_claim(self, state: State, n: int) -> Iterator[Move]:
        """Read the log behind the lock, and write the claim."""
        seen, log = state.drivers[n].seen, state.log
        assert seen is not None
        run = self.book.session(log).run
        if seen.run and (run is None or run.parked):
            yield Move(
                f"{name_of(n)} reads the log: nothing to take over", with_driver(state, n, Driver()), ("plan", n)
            )
            return
        epoch = seen.epoch + 1
        entry = self.book.claim(name_of(n), epoch, seen.run, log, SECOND)
        claim = Write("claim", len(log), entry, epoch, seen.run or f"run_{epoch}", seen, takes_message=not seen.run)
        planned = Driver("writing", view=log, write=claim)
        yield Move(
            f"{name_of(n)} reads the log, and decides to claim {claim.run}", with_driver(state, n, planned), ("plan", n)
        )


def _holds(driver: Driver, lock: Lock) -> bool:
    """Say whether a process has the claim that the lock names, or may learn that it has."""
    return lock.epoch in (driver.epoch, driver.write.epoch if driver.write else 0)
