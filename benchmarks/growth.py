"""A session that grows: its late turns against its early ones, and a long one after a restart.

The model here hardly looks at what it is sent. What it and the client still take for a long conversation is seen by
sending the same histories to the model alone and to the floor, between the turns that they are compared with.
"""

import statistics
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from benchmarks import flat_model, routes, servers
from benchmarks.client import Answer, Connection, Route, check, post
from benchmarks.report import Figure, Target, median_of, say
from benchmarks.routes import Message
from benchmarks.servers import Server

EARLY_TURNS, LATE_TURN, ROUNDS = 10, 500, 3
"""Turns 2–11 of three new sessions, each beside one of the long session's turns 500–529."""
LONG = 250
"""Turns, of two messages each."""
RESTARTS = 4


@dataclass(slots=True)
class Talk:
    """One conversation: the session that Parley keeps, or what a client has to send where nothing is kept."""

    server: Server
    connection: Connection
    session_id: str
    turns: int = 0
    history: list[Message] = field(default_factory=list)

    @classmethod
    async def begin(cls, server: Server, connection: Connection) -> "Talk":
        """Create the session."""
        answer = await connection.ask(post(server.url, "/v1/sessions", {"agent": "bench"}))
        return cls(server, connection, orjson.loads(answer.body)["id"])

    async def turn(self) -> Answer:
        """Send the next message; the answer is prose that nobody has said before."""
        self.turns += 1
        seed = f"{self.session_id}-{self.turns}"
        said, message = flat_model.said(seed), f"[[prose {seed}]]"
        answer = await _ask(self.connection, routes.parley(self.server.url, self.session_id), message, said)
        self.history += [routes.user(message), {"role": "assistant", "content": said}]
        return answer


async def _ask(connection: Connection, route: Route, message: str, expected: str) -> Answer:
    answer = await connection.ask(route.request(message), route.delta)
    check(route, answer, expected)
    return answer


async def measure() -> list[Figure]:
    """Measure both on one server."""
    with servers.model(flat=True) as model, servers.floor(model.url) as floor, servers.data_folder() as folder:
        with servers.parley(model.url, folder) as parley:
            async with Connection(parley.url) as connection:
                long = await Talk.begin(parley, connection)
                for _ in range(LONG):
                    await long.turn()
                warm = await _warm(long)
                figures = await _late_and_early(long, model, floor)
                session_id = await _long_again(parley, connection)
        cold = await _restarted(folder, model, session_id)
    return [*figures, *warm, *cold]


async def _warm(long: Talk) -> list[Figure]:
    say(f"first delta of a session of {2 * LONG} messages")
    times = [(await long.turn()).first_ms for _ in range(10)]
    return [median_of("500 messages to first delta", "server warm", times, "ms", Target(200))]


async def _long_again(parley: Server, connection: Connection) -> str:
    """Make another session of 500 messages: the first one has grown beyond."""
    talk = await Talk.begin(parley, connection)
    for _ in range(LONG):
        await talk.turn()
    return talk.session_id


async def _restarted(folder: Path, model: Server, session_id: str) -> list[Figure]:
    """Measure the first request that a fresh process gets; a new session tells what is the process's own."""
    say("the same after a restart")
    group = "500 messages to first delta"
    long_ms: list[float] = []
    new_ms: list[float] = []
    for into, of in [(long_ms, session_id), (new_ms, None)] * RESTARTS:
        with servers.parley(model.url, folder) as server:
            async with Connection(server.url) as connection:
                answer = await _ask(
                    connection, routes.parley(server.url, of), "[[prose back]]", flat_model.said("back")
                )
                into.append(answer.first_ms)
    return [
        median_of(group, "first request after a restart", long_ms, "ms", Target(200)),
        median_of(group, "the same, but a new session", new_ms, "ms"),
    ]


async def _late_and_early(long: Talk, model: Server, floor: Server) -> list[Figure]:
    """Grow the session to its 499th turn; then its turns alternate with the first ones of new sessions."""
    say(f"turns {LATE_TURN}–{LATE_TURN + ROUNDS * EARLY_TURNS - 1} beside turns 2–{1 + EARLY_TURNS}")
    while long.turns < LATE_TURN - 1:
        await long.turn()
    times: dict[str, list[float]] = {}
    async with Connection(model.url) as to_model, Connection(floor.url) as to_floor:
        for _ in range(ROUNDS):
            short = await Talk.begin(long.server, long.connection)
            await short.turn()
            for _ in range(EARLY_TURNS):
                for age, talk in (("early", short), ("late", long)):
                    history = tuple(talk.history)
                    others = (
                        (routes.model(model.url, history), to_model),
                        (routes.floor(floor.url, history), to_floor),
                    )
                    for route, connection in others:
                        answer = await _ask(connection, route, "[[prose well]]", flat_model.said("well"))
                        times.setdefault(f"{route.name}, {age} turns", []).append(answer.ms)
                    before = long.server.cpu_ms()
                    times.setdefault(f"Parley, {age} turns", []).append((await talk.turn()).ms)
                    times.setdefault(f"Parley's CPU, {age} turns", []).append(long.server.cpu_ms() - before)
    return _growth_figures(times)


def _growth_figures(times: dict[str, list[float]]) -> list[Figure]:
    group = f"turn {LATE_TURN} against turn 1"
    median = {name: statistics.median(values) for name, values in times.items()}

    def ratio(name: str, of: str, target: Target | None = None) -> Figure:
        return Figure(group, name, median[f"{of}, late turns"] / median[f"{of}, early turns"], "x", target)

    own = {age: median[f"Parley, {age} turns"] - median[f"model, {age} turns"] for age in ("early", "late")}
    return [
        ratio("Parley", "Parley", Target(1.3)),
        ratio("Parley, CPU", "Parley's CPU"),
        Figure(group, "Parley without the model's own time", own["late"] / own["early"], "x"),
        ratio("floor, its history sent by the client", "floor"),
        ratio("the model alone", "model"),
        *(median_of(group, name, values, "ms") for name, values in sorted(times.items())),
    ]
