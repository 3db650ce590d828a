"""Runs scenarios: without faults, with every single one, with pairs, by chance; and shrinks what fails."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

from parley.core import control as c
from parley.core import event as e

from tests.fakes.clock import NOON
from tests.simulation import loop, promises
from tests.simulation.faults import KINDS, Point
from tests.simulation.world import Errors, Setting, World, new

Play = Callable[[World], Awaitable[None]]
Plan = Mapping[int, str | int]

SCENARIO_SECONDS = 300_000.0
"""Of virtual time, after which a scenario that has not ended is stuck."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something that happens: a setting, and what people do in it."""

    name: str
    setting: Setting
    play: Play


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of a scenario, and what came of it."""

    scenario: str
    seed: int
    fired: Mapping[int, str]
    """The faults that struck, by the number of the point."""
    broken: list[str]
    points: list[Point] = field(default_factory=list)
    finished: int = 0
    failed: int = 0
    took_over: int = 0
    deaths: int = 0
    effects: int = 0
    recovery: float = 0.0
    """Seconds from the end of the last fault to the end of the last run that was accepted before."""

    @property
    def replay(self) -> str:
        """The line that runs it again."""
        faults = ",".join(f"{n}:{kind}" for n, kind in sorted(self.fired.items()))
        return f"python -m tests.simulation replay '{self.scenario}' --seed {self.seed} --faults '{faults}'"


def run(scenario: Scenario, plan: Plan | None = None, seed: int = 0) -> Ran:
    """Run a scenario with these faults."""
    logger = logging.getLogger("parley")
    before = logger.level, logger.propagate, logger.handlers
    logger.setLevel(logging.ERROR)
    logger.propagate, logger.handlers = False, []
    try:
        return loop.run(_played(scenario, dict(plan or {}), seed, logger))
    finally:
        logger.setLevel(before[0])
        _, logger.propagate, logger.handlers = before


async def _played(scenario: Scenario, plan: Plan, seed: int, logger: logging.Logger) -> Ran:
    world = new(scenario.setting, plan, seed)
    handler = Errors(world.surprises)
    logger.addHandler(handler)
    try:
        world.open()
        broken = await _broken(world, scenario)
    finally:
        logger.removeHandler(handler)
        world.nature.ending = True
    logs = [each for session_id in world.sessions() for each in world.log(session_id)]
    return Ran(
        scenario.name,
        seed,
        world.nature.faults.fired,
        broken,
        world.nature.faults.points,
        finished=sum(isinstance(each, e.RunFinished) for each in logs),
        failed=sum(isinstance(each, e.RunFailed) for each in logs),
        took_over=sum(isinstance(each, e.StatusRescheduled) and each.reason == "taken_over" for each in logs),
        deaths=len(world.graves),
        effects=len(world.ledger),
        recovery=_recovery(logs, world.nature.quiet_from),
    )


def _recovery(logs: list[e.Event], quiet_from: float) -> float:
    """Say how long it took; a run that has waited for a person, or for money, does not count."""
    quiet = NOON + timedelta(seconds=quiet_from)
    accepted = {each.run_id: each.created_at for each in logs if isinstance(each, e.UserMessage)}
    waited = {
        each.run_id for each in logs if isinstance(each, e.ToolOutcomeUnknown | c.ApprovalRequested | c.BudgetReached)
    }
    ended = {each.run_id: each.created_at for each in logs if isinstance(each, promises.CLOSED)}
    late = [ended[run_id] for run_id, at in accepted.items() if at <= quiet and run_id in ended.keys() - waited]
    return max([0.0, *((at - quiet).total_seconds() for at in late)])


async def _broken(world: World, scenario: Scenario) -> list[str]:
    try:
        async with asyncio.timeout(SCENARIO_SECONDS):
            await scenario.play(world)
            found = await promises.healed(world)
            found += await promises.seen(world)
            world.nature.faults.over = True
            if not found:
                await promises.redelivered(world)
                await promises.settled(world)
                found = await promises.healed(world)
            return found or await promises.broken(world)
    except TimeoutError:
        return [*world.witness.broken, "P10 the scenario does not end"]


def singles(scenario: Scenario, ports: Collection[str] = tuple(KINDS)) -> Iterator[Ran]:
    """Run without faults, then with every fault at every point, one at a time."""
    whole = run(scenario)
    yield whole
    for plan in one_more(whole, ports):
        yield run(scenario, plan)


def pairs(scenario: Scenario, first: Plan) -> Iterator[Ran]:
    """Run with one fault, then with it and every fault at every point that comes behind it."""
    ran = run(scenario, first)
    yield ran
    for plan in one_more(ran):
        yield run(scenario, plan)


def one_more(ran: Ran, ports: Collection[str] = tuple(KINDS)) -> Iterator[dict[int, str]]:
    """Plan one fault more, at each point behind those that struck."""
    last = max(ran.fired, default=0)
    for point in ran.points[last:]:
        for kind in KINDS[point.port] if point.port in ports else ():
            yield {**ran.fired, point.n: kind}


def by_chance(scenario: Scenario, seed: int, points: int) -> Ran:
    """Run with two to five faults, anywhere in the scenario or a bit behind it, on another schedule."""
    chance = Random(seed)
    places = chance.sample(range(1, points + points // 2 + 6), k=chance.randint(2, 5))
    return run(scenario, {n: chance.randrange(1000) for n in places}, seed)


def shrunk(scenario: Scenario, ran: Ran) -> Ran:
    """Leave out of a failing run whatever it fails without."""
    for seed in {0, ran.seed}:
        for n in (None, *ran.fired):
            plan = {place: kind for place, kind in ran.fired.items() if place != n}
            smaller = run(scenario, plan, seed)
            if smaller.broken and (len(smaller.fired) < len(ran.fired) or (seed == 0 < ran.seed)):
                return shrunk(scenario, smaller)
    return ran
