"""The report of the proof, as the test run prints it at its end: what was tried, and what each promise rests on.

Tests that prove something by numbers say so with `record_property("proof", …)`: a line of text, or a dictionary with
the `layer` that it belongs to. What came of the same layer in many tests, on many workers, is put together here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

Told = Mapping[str, Any]

RUNS = {"singles": "every single fault at every point", "by chance": "two to five faults, on any schedule"}


def report(told: Iterable[object]) -> Iterator[str]:
    """Write the lines."""
    said = list(told)
    layers: dict[str, list[Told]] = {}
    for each in said:
        if isinstance(each, Mapping):
            layers.setdefault(str(each["layer"]), []).append(each)
    for layer, what in RUNS.items():
        yield from _runs(layer, what, layers.get(layer, []))
    yield from _mutants(layers.get("mutants", []))
    yield from _searches(layers.get("model check", []))
    yield from sorted(each for each in said if isinstance(each, str))


def _runs(layer: str, what: str, told: list[Told]) -> Iterator[str]:
    if not told:
        return
    cells: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    for each in told:
        cells.update(each["cells"])
        sums.update({name: count for name, count in each.items() if isinstance(count, int)})
    count = len({each["scenario"] for each in told})
    yield f"{layer} ({what}): {count} scenarios, {sums['runs']:,} times, {cells.total():,} faults, 0 broken promises"
    yield (
        f"  {sums['finished']:,} runs finished, {sums['failed']:,} failed visibly, {sums['took_over']:,} were "
        f"taken over; {sums['deaths']:,} processes died; {sums['effects']:,} effects of tools"
    )
    slowest = max(told, key=lambda each: float(each["recovery"]))
    yield f"  recovered at most {slowest['recovery']:.0f} s after the last fault, in '{slowest['scenario']}'"
    if layer == "singles":
        yield from _cells(cells, sums["possible"])


def _cells(cells: Counter[str], possible: int) -> Iterator[str]:
    """Say for each port at how many places how many kinds of fault struck."""
    ports: dict[str, tuple[set[str], set[str], Counter[str]]] = {}
    for cell, times in cells.items():
        port, place, kind = cell.split("|")
        places, kinds, struck = ports.setdefault(port, (set(), set(), Counter()))
        places.add(place)
        kinds.add(kind)
        struck[kind] += times
    yield f"  {'port':<12} places kinds cells faults"
    for port, (places, kinds, struck) in sorted(ports.items()):
        count = sum(cell.startswith(f"{port}|") for cell in cells)
        yield f"  {port:<12} {len(places):>6} {len(kinds):>5} {count:>5} {struck.total():>6}"
    yield f"  {len(cells):,} cells (place x kind); {cells.total():,} of the {possible:,} faults that can strike have"


def _mutants(told: list[Told]) -> Iterator[str]:
    if not told:
        return
    yield f"mutants: {len(told)} of {len(told)} died   (promise, mechanism | the bug that takes it out | what broke)"
    for each in sorted(told, key=lambda each: (int(each["promise"][1:]), each["name"])):
        yield f"  {each['promise']:<4} {each['mechanism']} | {each['name']} | {each['broken'][:110]}"


def _searches(told: list[Told]) -> Iterator[str]:
    searches = [each for each in told if "states" in each]
    if not searches:
        return
    states, moves = (sum(each[name] for each in searches) for name in ("states", "transitions"))
    bugs = sum(len(each.get("bugs found", ())) for each in told)
    walks = sum(each.get("walks replayed on production", 0) for each in told)
    yield (
        f"model check: {states:,} states and {moves:,} moves within {len(searches)} bounds, 0 properties broken; "
        f"{bugs} seeded bugs found; {walks} walks replayed on the production store"
    )
