"""What a turn costs on DynamoDB: calls and capacity units, counted by an emulator, and where they go.

Every turn comes to a process that knows nothing, as separate Lambdas would: a new table, store, engine and app. It
comes by HTTP with an `Idempotency-Key`, makes one tool call, and moves 11 KB of prose.
"""

import statistics
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from parley import Agent
from parley.adapters.dynamodb import DynamoTable
from parley.adapters.files import FileBlobs
from parley.adapters.inline import InlineQueue
from parley.adapters.python_tools import PythonTools
from parley.adapters.system import SystemClock, UlidIds
from parley.api import execute
from parley.api.app import create_app
from parley.engine import Engine
from parley.runner import Runner
from parley.state import State
from parley.store import Ref, Store
from parley.wiring import PRINCIPAL

from benchmarks import emulator, librarian, servers
from benchmarks.agent import librarian as plain
from benchmarks.client import WrongAnswer
from benchmarks.meter import Meter, Spent
from benchmarks.report import Figure, Target, say

TABLE = "parley"
TURNS = 84
MIDDLE, END = slice(20, 40), slice(64, 84)
"""Turns 21–40 and 65–84."""

GROUP = "DynamoDB per turn of 11 KB"
READ_TARGET, WRITE_TARGET, GROWTH_TARGET = Target(11), Target(34), Target(1.1)
DOLLARS_PER_MILLION = {"write": 0.625, "read": 0.125, "put": 5.0, "get": 0.4}
"""On-demand units of DynamoDB, requests of S3."""


@dataclass(slots=True)
class CountedBlobs:
    """Blobs in a folder; every call is counted."""

    inner: FileBlobs
    calls: Counter[str] = field(default_factory=Counter)

    async def put(self, key: str, data: bytes) -> None:
        """Store."""
        self.calls["put"] += 1
        self.calls["put bytes"] += len(data)
        await self.inner.put(key, data)

    async def get(self, key: str) -> bytes | None:
        """Read."""
        self.calls["get"] += 1
        data = await self.inner.get(key)
        self.calls["get bytes"] += len(data or b"")
        return data

    async def delete(self, key: str) -> None:
        """Remove."""
        await self.inner.delete(key)

    async def delete_all(self, prefix: str) -> None:
        """Remove a folder."""
        await self.inner.delete_all(prefix)


async def measure() -> list[Figure]:
    """Hold one conversation, and tell what its turns cost."""
    say(f"{TURNS} turns on DynamoDB")
    try:
        with emulator.running() as endpoint, servers.data_folder() as folder:
            meter = Meter(endpoint)
            await prepare(meter)
            turns = await _talk(meter, folder)
    except emulator.NoEmulator as error:
        say(f"skipped: {error}")
        return []
    return _figures(turns)


async def prepare(meter: Meter) -> None:
    """Make the table, and see that the emulator counts as DynamoDB does."""
    table = DynamoTable(TABLE, SystemClock(), meter.client)
    await table.create_table_if_missing()
    await table.close()
    probe = meter.client()
    item: dict[str, Any] = {"PK": {"S": "probe"}, "SK": {"S": "1"}, "b": {"B": b"x" * 1500}}
    listed = item | {"list_pk": {"S": "T"}, "list_sk": {"S": "1"}}
    probe.put_item(TableName=TABLE, Item=item)
    probe.transact_write_items(TransactItems=[{"Put": {"TableName": TABLE, "Item": listed}}])
    probe.get_item(TableName=TABLE, Key={"PK": item["PK"], "SK": item["SK"]}, ConsistentRead=True)
    spent = meter.start()
    if (sum(spent.write.values()), sum(spent.read.values())) != (2 + 4 + 2, 1):
        raise emulator.NoEmulator(f"this dynoxide counts differently: {spent}")
    probe.delete_item(TableName=TABLE, Key={"PK": item["PK"], "SK": item["SK"]})
    probe.close()
    meter.start()


async def _talk(meter: Meter, folder: Path) -> list[Spent]:
    turns: list[Spent] = []
    session_id: str | None = None
    blobs = CountedBlobs(FileBlobs(folder / "blobs"))
    for number in range(1, TURNS + 1):
        session_id = await turn(meter, blobs, session_id, number)
        spent = meter.start()
        spent.blobs, blobs.calls = blobs.calls, Counter()
        turns.append(spent)
    return turns


async def turn(meter: Meter, blobs: CountedBlobs, session_id: str | None, number: int, agent: Agent = plain) -> str:
    """Hold one turn in a process that knows nothing; return the session's id."""
    clock, ids = SystemClock(), UlidIds()
    store = Store.over(DynamoTable(TABLE, clock, meter.client), blobs, clock, ids)
    agents = {agent.id: agent}
    engine = Engine(store, librarian.Librarian(number), PythonTools(), clock, ids)
    queue = InlineQueue(lambda tenant, session_id: runner.nudge(Ref(tenant, session_id)))
    runner = Runner(engine, agents, queue)
    app = create_app(State(store, agents, PRINCIPAL, runner, queue), [execute.router], keyless=True)
    body = {"input": librarian.message(number)} | ({"session_id": session_id} if session_id else {})
    headers = {"idempotency-key": f"turn-{number}"}
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://bench") as client:
        answer = await client.post(f"/v1/agents/{agent.id}/execute", json=body, headers=headers)
    await runner.close()
    await store.table.close()
    ended = answer.text.count("event: complete")
    if answer.status_code != 200 or ended != 1 or librarian.answer(number) not in answer.text:
        raise WrongAnswer(f"turn {number}: status {answer.status_code}: …{answer.text[-500:]}")
    return answer.headers["location"].rpartition("/")[2]


def _figures(turns: list[Spent]) -> list[Figure]:
    calls = [turn.calls.total() for turn in turns]
    reads = [sum(turn.read.values()) for turn in turns]
    writes = [sum(turn.write.values()) for turn in turns]
    figures = _at("calls", calls, None)
    figures += _at("WRU", writes, WRITE_TARGET)
    figures += _at("RRU", reads, READ_TARGET)
    end = turns[END]
    blobs = {name: sum(turn.blobs[name] for turn in end) / len(end) for name in ("put", "get", "put bytes")}
    figures += [
        Figure(
            GROUP, "S3 puts, mean of turns 65–84", blobs["put"], "", note=f"{blobs['put bytes'] / 1024:.1f} KB a turn"
        ),
        Figure(GROUP, "S3 gets, mean of turns 65–84", blobs["get"], ""),
        Figure(GROUP, "a million turns, as turns 65–84", _dollars(end, blobs), "$", note="requests only"),
    ]
    return figures + _where(end)


def _at(name: str, values: list[float] | list[int], target: Target | None) -> list[Figure]:
    middle, end = statistics.mean(values[MIDDLE]), statistics.mean(values[END])
    return [
        Figure(GROUP, f"{name}, turn 1", values[0], ""),
        Figure(GROUP, f"{name}, turn {TURNS}", values[-1], ""),
        Figure(GROUP, f"{name}, mean of turns 21–40", middle, "", target),
        Figure(GROUP, f"{name}, mean of turns 65–84", end, "", target),
        Figure(GROUP, f"{name}, 65–84 against 21–40", end / middle, "x", GROWTH_TARGET),
    ]


def _dollars(turns: list[Spent], blobs: dict[str, float]) -> float:
    used = {
        "write": sum(sum(turn.write.values()) for turn in turns) / len(turns),
        "read": sum(sum(turn.read.values()) for turn in turns) / len(turns),
        "put": blobs["put"],
        "get": blobs["get"],
    }
    return sum(DOLLARS_PER_MILLION[name] * count for name, count in used.items())


def _where(turns: list[Spent]) -> list[Figure]:
    """Tell where the units of some turns went, the largest first."""
    calls, units, sizes = Counter[str](), defaultdict[tuple[str, str, str], float](float), Counter[str]()
    for turn in turns:
        calls += turn.calls
        sizes += turn.bytes_put
        for unit, spent in (("WRU", turn.write), ("RRU", turn.read)):
            for (operation, item), used in spent.items():
                units[unit, operation, item] += used
    group = "where they go, turns 65–84"
    count = len(turns)
    figures = [Figure(group, operation, number / count, "calls") for operation, number in calls.most_common()]
    for (unit, operation, item), used in sorted(units.items(), key=lambda entry: -entry[1]):
        note = f"{sizes[item] / count:,.0f} bytes put a turn" if unit == "WRU" and sizes[item] else ""
        figures.append(Figure(group, f"{operation}: {item}", used / count, unit, note=note))
    return figures
