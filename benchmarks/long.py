"""Turn 1,000 against turn 10 of one session: its DynamoDB units, its blobs, its CPU and its time.

Twice each: never compacted, so that the context only grows, and compacted again and again. On DynamoDB every turn comes
to a process that knows nothing, as in `capacity`; on SQLite all come to one dev server, as in `growth`.
"""

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parley import Agent
from parley.adapters.files import FileBlobs

from benchmarks import capacity, emulator, servers
from benchmarks.agent import forgetful_librarian, librarian
from benchmarks.capacity import CountedBlobs
from benchmarks.client import Connection
from benchmarks.growth import Talk
from benchmarks.meter import Meter
from benchmarks.report import Figure, Target, say

TURNS = 1_000
EARLY, LATE = slice(4, 24), slice(TURNS - 20, TURNS)
"""Turns 5–24 and 981–1,000: a snapshot is written every ten or so."""

WARM_UP = 50
"""Turns of another session: a new process is slower."""

AS_MUCH = Target(1.1)
LITTLE_MORE = Target(1.3)
FILLED = Target(2.0)
"""In turns 5–24 the context is half as long, on average, as it becomes before it is compacted for the first time."""

Costs = dict[str, float]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of a turn, told early and late; `target` is for late against early."""

    name: str
    unit: str = ""
    target: Target | None = None


async def measure() -> list[Figure]:
    """Hold four long conversations."""
    figures: list[Figure] = []
    for name, agent in (("never compacted", librarian), ("compacted at 50,000 tokens", forgetful_librarian)):
        figures += await _cold(name, agent)
    for name, attribute in (("never compacted", "untouched"), ("compacted at 20,000 tokens", "forgetful")):
        figures += await _warm(name, attribute)
    return figures


async def _cold(name: str, agent: Agent) -> list[Figure]:
    say(f"{TURNS} turns on DynamoDB, {name}")
    try:
        with emulator.running() as endpoint, servers.data_folder() as folder:
            meter = Meter(endpoint)
            await capacity.prepare(meter)
            costs = await _talk(meter, agent, folder)
    except emulator.NoEmulator as error:
        say(f"skipped: {error}")
        return []
    compacts = agent.limits.compact_at_tokens > 0
    rows = [
        Row("WRU", target=AS_MUCH),
        Row("RRU", target=AS_MUCH),
        Row("KB put into blobs", "KB", FILLED if compacts else None),
        Row("KB got from blobs", "KB", FILLED if compacts else None),
        Row("CPU of the process", "ms", LITTLE_MORE if compacts else None),
        Row("time", "ms"),
    ]
    return _figures(f"a turn of 11 KB on DynamoDB, {name}", rows, costs)


async def _talk(meter: Meter, agent: Agent, folder: Path) -> list[Costs]:
    costs: list[Costs] = []
    session_id: str | None = None
    blobs = CountedBlobs(FileBlobs(folder / "blobs"))
    for number in range(1, TURNS + 1):
        cpu, began = time.process_time(), time.perf_counter()
        session_id = await capacity.turn(meter, blobs, session_id, number, agent)
        ended = time.perf_counter()
        spent = meter.start()
        costs.append(
            {
                "WRU": sum(spent.write.values()),
                "RRU": sum(spent.read.values()),
                "KB put into blobs": blobs.calls["put bytes"] / 1024,
                "KB got from blobs": blobs.calls["get bytes"] / 1024,
                "CPU of the process": (time.process_time() - cpu) * 1000,
                "time": (ended - began) * 1000,
            }
        )
        blobs.calls = Counter()
    return costs


async def _warm(name: str, attribute: str) -> list[Figure]:
    say(f"{TURNS} turns on a dev server, {name}")
    costs: list[Costs] = []
    agent = f"benchmarks.agent:{attribute}"
    with (
        servers.model(flat=True) as model,
        servers.data_folder() as folder,
        servers.parley(model.url, folder, PARLEY_AGENT=agent) as parley,
    ):
        async with Connection(parley.url) as connection:
            other = await Talk.begin(parley, connection)
            for _ in range(WARM_UP):
                await other.turn()
            talk = await Talk.begin(parley, connection)
            for _ in range(TURNS):
                cpu = parley.cpu_ms()
                answer = await talk.turn()
                costs.append({"time": answer.ms, "CPU": parley.cpu_ms() - cpu})
    target = LITTLE_MORE if attribute == "forgetful" else None
    rows = [Row("CPU", "ms", target), Row("time", "ms", target)]
    return _figures(f"a turn on a dev server, {name}", rows, costs)


def _figures(group: str, rows: Sequence[Row], costs: Sequence[Costs]) -> list[Figure]:
    figures: list[Figure] = []
    for row in rows:
        mean = {name: statistics.mean(each[row.name] for each in costs[part]) for name, part in _PARTS.items()}
        figures += [Figure(group, f"{row.name}, {name}", value, row.unit) for name, value in mean.items()]
        early, late = mean.values()
        if early:
            figures.append(Figure(group, f"{row.name}, late against early", late / early, "x", row.target))
    return figures


_PARTS = {"mean of turns 5–24": EARLY, f"mean of turns {TURNS - 19}–{TURNS:,}": LATE}
