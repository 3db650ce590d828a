"""The claim protocol, exhaustively: no order of two drivers, faults and people breaks a promise; every bug is found."""

from collections.abc import Callable
from operator import le

import pytest

from tests.model_check.bounds import GATE, NOTHING
from tests.model_check.bugs import BUGS
from tests.model_check.properties import PROPERTIES
from tests.model_check.search import search
from tests.model_check.table import Rules
from tests.model_check.world import Faults

pytestmark = pytest.mark.timeout(300)  # a search is much work, and machines are slow at times

Record = Callable[[str, object], None]

ENOUGH = 10_000
"""States of the smallest bound; a search that sees less has lost something."""

ENDINGS = {
    "a crash and a frozen driver": {"finished", "parked", "poisoned"},
    "a frozen driver and a delete": {"finished", "parked", "deleted"},
    "a frozen driver and a lost answer": {"finished", "parked"},
    "a time-out, a person's word and a renewal": {"finished", "parked"},
    "a hand-over and a renewal": {"finished"},
    "a busy model and a delete": {"finished", "deleted"},
    "a late write and a delete": {"finished", "deleted"},
    "a time-out and an interrupt": {"finished", "parked", "interrupted"},
}
"""What must be reached, or a search has seen nothing of it."""

SHORT = 15
"""Steps of a counterexample that a person can follow."""


@pytest.mark.parametrize("name", GATE)
def test_no_order_of_events_breaks_a_promise(name: str, record_property: Record) -> None:
    found = search(GATE[name])

    assert found.problem is None, found.told()
    assert found.states > ENOUGH
    assert found.endings.keys() >= ENDINGS[name]
    record_property(
        "proof",
        {
            "layer": "model check",
            "bound": name,
            "states": found.states,
            "transitions": found.transitions,
            "depth": found.depth,
            "seconds": round(found.seconds, 1),
            "properties": len(PROPERTIES),
        },
    )


def test_the_bounds_try_every_fault() -> None:
    tried = {fault for faults in GATE.values() for fault, times in faults._asdict().items() if times}

    assert tried == set(Faults._fields)


@pytest.mark.parametrize("name", BUGS)
def test_a_bug_of_the_mechanism_is_found(name: str, record_property: Record) -> None:
    bug = BUGS[name]

    found = search(bug.faults, bug.rules, bug.book())

    assert found.problem is not None
    assert found.problem.startswith(bug.breaks), found.told()
    assert len(found.steps) <= SHORT, found.told()
    record_property("proof", {"layer": "model check", "bugs found": [name], "steps": len(found.steps)})


@pytest.mark.parametrize("name", BUGS)
def test_without_the_bug_the_same_faults_are_searched_in_vain(name: str) -> None:
    """Else it would be the faults that are found."""
    faults = BUGS[name].faults

    assert any(all(map(le, faults, searched)) for searched in GATE.values())


def test_the_slot_alone_guards_a_settlement_and_the_epoch_is_a_second_guard() -> None:
    """A claim takes the slot that a stalled driver would settle at; so this bug cannot be seen, and is none yet."""
    found = search(NOTHING._replace(lapses=1), Rules(settle_checks_epoch=False))

    assert found.problem is None, found.told()
