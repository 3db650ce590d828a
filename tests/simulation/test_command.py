import argparse

import pytest

from tests.simulation.__main__ import idle, plan
from tests.simulation.explore import Ran, run
from tests.simulation.faults import KINDS
from tests.simulation.scenarios import SCENARIOS

ALL = sorted({kind for kinds in KINDS.values() for kind in kinds})


def test_the_line_that_runs_it_again_says_every_kind_of_fault() -> None:
    fired = dict(enumerate(ALL, start=1))

    line = Ran("plain", 0, fired, []).replay

    assert plan(line.split("'")[-2]) == fired


@pytest.mark.parametrize("words", ["x:y", "4", "4:", ":lost", "-1:lost", "4:lost,4:lost"])
def test_what_is_no_fault_is_refused_with_an_example_or_a_reason(words: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"4:lost|one fault"):
        plan(words)


def test_faults_that_could_not_strike_are_told() -> None:
    faults = plan("3:lost,5:unavailable,999:lost")

    told = idle(run(SCENARIOS["plain"], faults), faults)

    assert len(told) == 2
    assert "point 3, which is: model" in told[0]
    assert "overloaded" in told[0]
    assert "no point 999" in told[1]
