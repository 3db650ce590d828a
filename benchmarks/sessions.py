"""Sessions as rows: creating one, and listing 20 of many against 20 of few."""

import asyncio
import statistics
from pathlib import Path
from typing import Any

import orjson
from parley.adapters.files import FileBlobs
from parley.adapters.sqlite import SqliteTable
from parley.adapters.system import SystemClock, UlidIds
from parley.store import Head, Ref, Store
from parley.wiring import PRINCIPAL

from benchmarks import servers
from benchmarks.client import Answer, Connection, WrongAnswer, get, post
from benchmarks.report import Figure, Target, median_of, percentile, say
from benchmarks.servers import Server

CREATES = 200
MANY, FEW = 10_000, 100
BLOCKS, LISTS = 8, 20
_NOVEMBER_2026_MS = 1_793_500_000_000


async def measure() -> list[Figure]:
    """Measure both."""
    return [*await _create(), *await _list()]


async def _create() -> list[Figure]:
    say(f"create {CREATES} sessions")
    group = "create a session"
    with servers.data_folder() as folder, servers.parley("", folder) as server:
        request = post(server.url, "/v1/sessions", {"agent": "bench"})
        answers = await _ask(server, request, CREATES)
    ids = {_json(answer)["id"] for answer in answers}
    if len(ids) != CREATES:
        raise WrongAnswer(f"{CREATES} creates made {len(ids)} sessions")
    times = [answer.ms for answer in answers]
    return [
        Figure(group, "p50", percentile(times, 50), "ms"),
        Figure(group, "p95", percentile(times, 95), "ms"),
        Figure(group, f"slowest of {CREATES}", max(times), "ms", Target(100)),
    ]


async def _list() -> list[Figure]:
    say(f"list 20 of {MANY:,} and of {FEW} sessions")
    group = "list 20 sessions"
    many_ms: list[float] = []
    few_ms: list[float] = []
    with servers.data_folder() as many, servers.data_folder() as few:
        await seed(many, MANY)
        await seed(few, FEW)
        with servers.parley("", many) as many_server, servers.parley("", few) as few_server:
            sides = [(many_server, many_ms), (few_server, few_ms)]
            for block in range(-1, BLOCKS):
                for server, into in sides if block % 2 == 0 else sides[::-1]:
                    found = await _list_block(server)
                    if block >= 0:
                        into.append(found)
    ratios = [many / few for many, few in zip(many_ms, few_ms, strict=True)]
    return [
        median_of(group, f"of {MANY:,}, x of {FEW}", ratios, "", Target(1.5)),
        median_of(group, f"of {MANY:,}", many_ms, "ms"),
        median_of(group, f"of {FEW}", few_ms, "ms"),
    ]


async def _list_block(server: Server) -> float:
    """List again and again; return the median in milliseconds."""
    answers = await _ask(server, get(server.url, "/v1/sessions?limit=20"), LISTS)
    for answer in answers:
        page = _json(answer)
        moments = [row["updated_at"] for row in page["data"]]
        if len(moments) != 20 or moments != sorted(moments, reverse=True) or not page["has_more"]:
            raise WrongAnswer(f"a page of {len(moments)} rows, or out of order")
    return statistics.median(answer.ms for answer in answers)


async def seed(folder: Path, count: int) -> None:
    """Put sessions into a data folder, through the store and not through HTTP."""
    clock, ids = SystemClock(), UlidIds()
    table = SqliteTable(folder / "parley.db", clock)
    store = Store.over(table, FileBlobs(folder / "blobs"), clock, ids)

    async def create(number: int) -> None:
        ref, at = Ref(PRINCIPAL.tenant, ids.new("sesn")), _NOVEMBER_2026_MS + number * 1000
        await store.sessions.create(ref, Head(ref.id, "bench", PRINCIPAL.owner, at, at, title=f"Session {number}"))

    for start in range(0, count, 500):
        await asyncio.gather(*map(create, range(start, min(count, start + 500))))
    await table.close()


async def _ask(server: Server, request: bytes, times: int) -> list[Answer]:
    async with Connection(server.url) as connection:
        return [await connection.ask(request) for _ in range(times)]


def _json(answer: Answer) -> dict[str, Any]:
    if answer.status >= 300:
        raise WrongAnswer(f"status {answer.status}: {answer.body[:500].decode(errors='replace')}")
    found: dict[str, Any] = orjson.loads(answer.body)
    return found
