"""Every deliberate bug breaks a promise in some run: what proves nothing would let one live."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.simulation.mutants import MUTANTS, Mutant

README = Path(__file__).parents[2] / "README.md"


def test_every_promise_that_the_readme_makes_has_a_mutant_and_tests_that_are_there() -> None:
    rows = re.findall(r"^\| (P\d+) \|.*\| (.*) \|$", README.read_text(), re.MULTILINE)

    assert {promise for promise, _ in rows} == {mutant.promise for mutant in MUTANTS}
    for _, tests in rows:
        assert re.findall(r"`(tests/\S+)`", tests)
        assert all((README.parent / path).exists() for path in re.findall(r"`(tests/\S+)`", tests))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_dies(mutant: Mutant, record_property: Callable[[str, object], None]) -> None:
    ran = mutant.caught()

    assert ran is not None, f"nothing proves: {mutant.mechanism}"
    how = {"layer": "mutants", "promise": mutant.promise, "name": mutant.name, "mechanism": mutant.mechanism}
    record_property("proof", how | {"broken": ran.broken[0], "replay": ran.replay})
