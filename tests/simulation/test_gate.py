"""No fault, wherever it strikes, breaks a promise; and every fault strikes somewhere."""

from collections import Counter
from collections.abc import Callable
from time import monotonic

import pytest

from tests.simulation.explore import Ran, by_chance, run, shrunk, singles
from tests.simulation.faults import KINDS
from tests.simulation.scenarios import SCENARIOS

pytestmark = pytest.mark.timeout(600)  # much work, and machines are slow at times

Record = Callable[[str, object], None]

CHANCE_SECONDS = 3.0
"""Of each of the shares in which schedules are tried by chance; seeds count up from the share's own."""


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_single_fault_breaks_a_promise(name: str, record_property: Record) -> None:
    whole, *faulty = singles(SCENARIOS[name])

    assert not whole.broken, whole.broken
    assert whole.finished or whole.failed or "expired" in name or "deleted" in name, "nothing has happened"
    assert all(len(ran.fired) == 1 for ran in faulty), "a fault that never fired"
    for ran in faulty:
        assert not ran.broken, told(ran)
    possible = sum(len(KINDS[point.port]) for point in whole.points)
    record_property("proof", _summary("singles", name, [whole, *faulty], possible))
    assert len(faulty) == possible


def test_every_fault_can_strike_somewhere() -> None:
    reached = {point.port for scenario in SCENARIOS.values() for point in run(scenario).points}

    assert reached == set(KINDS)


@pytest.mark.parametrize("share", range(1, 3))
def test_no_schedule_breaks_a_promise(share: int, record_property: Record) -> None:
    scenarios = list(SCENARIOS.values())
    lengths = {scenario.name: len(run(scenario).points) for scenario in scenarios}
    ends, seed, tried = monotonic() + CHANCE_SECONDS, share * 1_000_000, list[Ran]()

    while monotonic() < ends or len(tried) < len(scenarios):
        scenario = scenarios[seed % len(scenarios)]
        tried.append(by_chance(scenario, seed, lengths[scenario.name]))
        seed += 1
        assert not tried[-1].broken, told(shrunk(scenario, tried[-1]))

    assert sum(len(ran.fired) for ran in tried) > len(tried)
    for scenario in scenarios:
        record_property(
            "proof", _summary("by chance", scenario.name, [r for r in tried if r.scenario == scenario.name])
        )


def told(ran: Ran) -> str:
    """Say what broke, and how to see it again."""
    return "\n".join([*ran.broken, ran.replay])


def _summary(layer: str, scenario: str, runs: list[Ran], possible: int = 0) -> dict[str, object]:
    cells: Counter[str] = Counter()
    for ran in runs:
        for n, kind in ran.fired.items():
            cells[f"{ran.points[n - 1].port}|{ran.points[n - 1].place}|{kind}"] += 1
    names = ("finished", "failed", "took_over", "deaths", "effects")
    sums = {name: sum(getattr(ran, name) for ran in runs) for name in names}
    return {
        "layer": layer,
        "scenario": scenario,
        "runs": len(runs),
        "cells": dict(cells),
        "possible": possible,
        "recovery": max((ran.recovery for ran in runs), default=0.0),
        **sums,
    }
