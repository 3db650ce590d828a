"""Many sessions that stream at once on one dev server; every stream is then held against its session's log."""

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson

from benchmarks import routes, servers
from benchmarks.client import Answer, Connection, Route, WrongAnswer, get
from benchmarks.report import Figure, Target, percentile, say
from benchmarks.servers import Server

STREAMS = 1_000
DELTAS, SECONDS_APART = 24, 0.6
MESSAGE = f"[[text {DELTAS}x8 delay={SECONDS_APART}]]"
GROUP = f"{STREAMS:,} streams at once"


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a stream."""

    id: int | None
    event: str
    data: dict[str, Any]


async def measure() -> list[Figure]:
    """Stream, then compare."""
    say(f"{STREAMS:,} streams of {DELTAS * SECONDS_APART:.0f} s")
    with servers.model() as model, servers.data_folder() as folder, servers.parley(model.url, folder) as server:
        rss: list[float] = []
        watch = asyncio.create_task(_watch_rss(server, rss))
        cpu = server.cpu_ms()
        answers = await asyncio.gather(*(_stream(_route(server)) for _ in range(STREAMS)))
        cpu = server.cpu_ms() - cpu
        watch.cancel()
        say("holding every stream against its log")
        async with Connection(server.url) as connection:
            for answer in answers:
                await _compare(server, connection, answer)
    return _figures(answers, cpu, max(rss))


def _route(server: Server) -> Route:
    plain = routes.parley(server.url)
    delta = b"event: event_delta\n"
    return Route("Parley", plain.url, f"{plain.path}?vocab=native", plain.body, delta, b"event: run.finished\n")


async def _stream(route: Route) -> Answer:
    async with Connection(route.url) as connection:
        return await connection.ask(route.request(MESSAGE), route.delta)


async def _watch_rss(server: Server, into: list[float]) -> None:
    while True:
        into.append(server.rss_mb())
        await asyncio.sleep(0.5)


def _figures(answers: list[Answer], cpu: float, rss: float) -> list[Figure]:
    first = [answer.first_ms for answer in answers]
    overlap = min(answer.ended for answer in answers) - max(answer.first for answer in answers)
    began, ended = min(answer.began for answer in answers), max(answer.ended for answer in answers)
    late = [answer.ended - answer.first - (DELTAS - 1) * SECONDS_APART for answer in answers]
    return [
        Figure(GROUP, "streams equal to their logs", len(answers), "", Target(STREAMS, ">=")),
        Figure(GROUP, "all of them streaming", overlap, "s", Target(5.0, ">=")),
        Figure(GROUP, "first delta, p50", percentile(first, 50), "ms", note="all begin at the same moment"),
        Figure(GROUP, "first delta, p99", percentile(first, 99), "ms"),
        Figure(GROUP, "later than the model's own pace, p99", percentile(late, 99) * 1000, "ms"),
        Figure(GROUP, "RSS, highest", rss, "MB"),
        Figure(GROUP, "CPU of a core, mean", cpu / (ended - began) / 10, "%"),
    ]


async def _compare(server: Server, connection: Connection, answer: Answer) -> None:
    """Compare one stream with its log: the ids, the events, and the deltas with the message they became.

    Raises:
        WrongAnswer: they differ.
    """
    if answer.status != 200:
        raise WrongAnswer(f"status {answer.status}: {answer.body[:300].decode(errors='replace')}")
    frames = [frame for part in answer.body.split(b"\n\n") if (frame := _frame(part))]
    stored = [frame for frame in frames if frame.id is not None]
    path = f"{answer.location}/events?limit=100"
    page = orjson.loads((await connection.ask(get(server.url, path))).body)
    log = page["data"]
    if page["has_more"] or [event["seq"] for event in log] != list(range(1, len(log) + 1)):
        raise WrongAnswer(f"{path}: the log has gaps, or more than a page")
    told = [(frame.id, frame.event, frame.data["id"]) for frame in stored]
    if told != [(event["seq"], event["type"], event["id"]) for event in log]:
        raise WrongAnswer(f"{path}: the stream's events are not the log's")
    deltas = [frame.data for frame in frames if frame.event == "event_delta"]
    text = "".join(delta["delta"]["content"]["text"] for delta in deltas)
    messages = [event for event in log if event["type"] == "agent.message"]
    said = [(message["id"], message["content"][0]["text"]) for message in messages]
    if len(deltas) < 2 or said != [(deltas[0]["event_id"], text)] or len(text) != DELTAS * 8:
        raise WrongAnswer(f"{path}: the deltas are not the message")


def _frame(part: bytes) -> Frame | None:
    fields = dict(line.split(b": ", 1) for line in part.split(b"\n") if line and not line.startswith(b":"))
    if b"data" not in fields:
        return None
    number = int(fields[b"id"]) if b"id" in fields else None
    return Frame(number, fields[b"event"].decode(), orjson.loads(fields[b"data"]))
