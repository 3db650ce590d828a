"""Turns against the floor: plain ones, ones whose deltas come singly, and ones with three tools.

Blocks of both servers follow one another closely and in changing order, so that what else the machine does hits both;
a ratio is the median over pairs of neighbouring blocks.
"""

import statistics
import time
from dataclasses import dataclass, field

from benchmarks import routes, servers
from benchmarks.client import Answer, Route, check, load
from benchmarks.report import Figure, Target, median_of, say
from benchmarks.servers import Server

PLAIN_TARGET = Target(1.0)
TOOLS_TARGET = Target(1.0)


@dataclass(slots=True)
class Blocks:
    """What the blocks of one server showed."""

    turn_ms: list[float] = field(default_factory=list)
    first_ms: list[float] = field(default_factory=list)
    per_second: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Pair:
    """Both servers, over the same model."""

    floor: tuple[Route, Server]
    parley: tuple[Route, Server]


@dataclass(frozen=True, slots=True)
class Compared:
    """Both servers' blocks, position by position neighbours."""

    floor: Blocks
    parley: Blocks

    def ratios(self, name: str) -> list[float]:
        """Divide Parley's figure of each block by the floor's."""
        ours, theirs = getattr(self.parley, name), getattr(self.floor, name)
        return [mine / other for mine, other in zip(ours, theirs, strict=True)]


async def compare(pair: Pair, message: str, *, blocks: int, turns: int, concurrency: int) -> Compared:
    """Run blocks in the order AB BA AB …, after one turn of each that does not count."""
    found = Compared(Blocks(), Blocks())
    sides = [(pair.floor, found.floor), (pair.parley, found.parley)]
    for (route, server), _ in sides:
        await _block(route, server, message, concurrency, concurrency, Blocks())
    for number in range(blocks):
        for (route, server), into in sides if number % 2 == 0 else sides[::-1]:
            await _block(route, server, message, turns, concurrency, into)
    return found


async def _block(route: Route, server: Server, message: str, turns: int, concurrency: int, into: Blocks) -> None:
    cpu, began = server.cpu_ms(), time.perf_counter()
    answers = await load(route, [message] * turns, concurrency)
    seconds = max(answer.ended for answer in answers) - began
    into.cpu_ms.append((server.cpu_ms() - cpu) / turns)
    into.per_second.append(turns / seconds)
    into.turn_ms.append(_median_ms(answers))
    into.first_ms.append(statistics.median(answer.first_ms for answer in answers))
    for answer in answers:
        check(route, answer, routes.PLAIN_TEXT)


def _median_ms(answers: list[Answer]) -> float:
    return statistics.median(answer.ms for answer in answers)


async def measure() -> list[Figure]:
    """Measure all kinds of turns."""
    with (
        servers.data_folder() as folder,
        servers.model() as model,
        servers.floor(model.url) as floor,
        servers.parley(model.url, folder) as parley,
    ):
        pair = Pair((routes.floor(floor.url), floor), (routes.parley(parley.url), parley))
        return [
            *await _plain(pair),
            *await _shape(pair, "plain turn, deltas singly", routes.SINGLE, turns=30),
            *await _shape(pair, "three-tool turn", routes.TOOLS, turns=30, target=TOOLS_TARGET),
        ]


async def _plain(pair: Pair) -> list[Figure]:
    figures = await _shape(pair, "plain turn", routes.PLAIN, turns=40, target=PLAIN_TARGET)
    for concurrency, turns in ((16, 160), (64, 256)):
        say(f"plain turn, {concurrency} at a time")
        found = await compare(pair, routes.PLAIN, blocks=8, turns=turns, concurrency=concurrency)
        group = f"plain turn, {concurrency} at a time"
        figures.append(median_of(group, "turns/s, x floor", found.ratios("per_second"), "", Target(1.0, ">=")))
        figures += _both(group, "turns/s", found, "per_second", "")
        figures.append(median_of(group, "CPU per turn, x floor", found.ratios("cpu_ms"), "", Target(1.0)))
        figures += _both(group, "CPU per turn", found, "cpu_ms", "ms")
    return figures


async def _shape(pair: Pair, group: str, message: str, *, turns: int, target: Target | None = None) -> list[Figure]:
    """Measure one kind of turn, one at a time."""
    say(group)
    found = await compare(pair, message, blocks=14, turns=turns, concurrency=1)
    return [
        median_of(group, "turn, x floor", found.ratios("turn_ms"), "", target),
        *_both(group, "turn", found, "turn_ms", "ms"),
        median_of(group, "first delta, x floor", found.ratios("first_ms"), "", Target(1.2)),
        *_both(group, "first delta", found, "first_ms", "ms"),
        *_both(group, "turns/s, one at a time", found, "per_second", ""),
    ]


def _both(group: str, what: str, found: Compared, name: str, unit: str) -> list[Figure]:
    return [
        median_of(group, f"{what}, {side}", getattr(blocks, name), unit)
        for side, blocks in (("Parley", found.parley), ("floor", found.floor))
    ]
