"""Looking for longer: every single fault, every pair, then schedules by chance, on all cores, until the time is up."""

import itertools
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from time import monotonic

from tests.simulation.explore import Plan, Ran, by_chance, one_more, pairs, run, shrunk, singles
from tests.simulation.scenarios import SCENARIOS

REPORT_SECONDS = 15.0
SEEDS_AT_ONCE = 50
MOST_FAILURES = 3
"""Of one piece of work; one bug breaks many runs."""

Work = tuple[str, str, int, Plan]
"""What to run: singles, pairs or chance; of which scenario; from which seed, or behind which first fault."""


def prove(minutes: float, jobs: int, seed: int) -> bool:
    """Look until the time is up, say so as it goes, and say whether nothing was found."""
    began, done, broken = monotonic(), Counter[str](), 0
    ends, reported = began + 60 * minutes, began
    work = _work(seed)
    with ProcessPoolExecutor(jobs) as pool:
        running = {pool.submit(_ran, each) for each in itertools.islice(work, 2 * jobs)}
        while monotonic() < ends:
            finished, running = wait(running, timeout=REPORT_SECONDS, return_when=FIRST_COMPLETED)
            running |= {pool.submit(_ran, each) for each in itertools.islice(work, len(finished))}
            for layer, count, faults, failed in (each.result() for each in finished):
                done.update({layer: count, "faults": faults})
                broken += len(failed)
                print("".join(f"{line}\n" for ran in failed for line in (*ran.broken, ran.replay)), end="", flush=True)
            if monotonic() - reported > REPORT_SECONDS:
                reported = monotonic()
                print(_told(done, broken, reported - began), flush=True)
        pool.shutdown(cancel_futures=True)
    print(_told(done, broken, monotonic() - began))
    return not broken


def _told(done: Counter[str], broken: int, seconds: float) -> str:
    runs = ", ".join(f"{done[layer]:,} {layer}" for layer in ("singles", "pairs", "chance"))
    return f"{seconds:6.0f} s   {runs}   {done['faults']:,} faults   {broken} runs broke a promise"


def _work(seed: int) -> Iterator[Work]:
    """All singles; then pairs, scenario by scenario from the shortest, with as many schedules by chance in between."""
    yield from (("singles", name, 0, {}) for name in SCENARIOS)
    chance: Iterator[Work] = (
        ("chance", name, seed, {}) for seed in itertools.count(seed, SEEDS_AT_ONCE) for name in SCENARIOS
    )
    for name in sorted(SCENARIOS, key=lambda name: len(run(SCENARIOS[name]).points)):
        for first in one_more(run(SCENARIOS[name])):
            yield ("pairs", name, 0, first)
            yield next(chance)
    yield from chance


def _ran(work: Work) -> tuple[str, int, int, list[Ran]]:
    """Run a piece of work; return how many runs it was, how many faults struck, and those that failed, shrunk."""
    layer, name, seed, first = work
    scenario = SCENARIOS[name]
    match layer:
        case "singles":
            runs = singles(scenario)
        case "pairs":
            runs = pairs(scenario, first)
        case _:
            points = len(run(scenario).points)
            runs = (by_chance(scenario, n, points) for n in range(seed, seed + SEEDS_AT_ONCE))
    count = faults = 0
    failed: list[Ran] = []
    for ran in runs:
        count += 1
        faults += len(ran.fired)
        if ran.broken and len(failed) < MOST_FAILURES:
            failed.append(shrunk(scenario, ran))
    return layer, count, faults, failed
