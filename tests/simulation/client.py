"""People and programs that use the servers over HTTP. They do not give up: what was not answered is asked again."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from parley.core.binding import approval_id

from tests.simulation.connection import Dropped, Exchange, Server, answer
from tests.simulation.process import Nature
from tests.simulation.stream import Stream

PAUSE_SECONDS = 1.0
"""Between two tries."""

MAX_PAUSE_SECONDS = 20.0

PATIENCE_SECONDS = 2000.0

QUIET = ("completed", "completed_with_errors", "error", "interrupted", "waiting_approval")


@dataclass(frozen=True, slots=True)
class Told:
    """What a client knows of a message that was accepted."""

    session_id: str
    run_id: str | None = None


@dataclass(slots=True)
class Record:
    """What clients were told: what the promises are held against."""

    accepted: dict[str, str] = field(default_factory=dict)
    """Session ids by the message's text, which no other message has."""
    refused: set[str] = field(default_factory=set)
    """Texts of messages that were refused for good."""
    doomed: set[str] = field(default_factory=set)
    """Texts of jobs that cannot be done."""
    deleted: set[str] = field(default_factory=set)
    in_order: list[list[str]] = field(default_factory=list)
    """Texts that one client has sent, one after the other."""
    streams: list[tuple[str, Stream]] = field(default_factory=list)
    """What was streamed in answer to messages, by the run's id."""
    effects: dict[str, str] = field(default_factory=dict)
    """What came of the first answer to a request, by the key that it carried."""
    retries_said: list[str] = field(default_factory=list)
    """Call ids for which a person said: try again."""
    wrong: list[str] = field(default_factory=list)
    """Answers that no client should ever get."""


@dataclass(slots=True)
class Client:
    """One client; `servers` says who is there now."""

    nature: Nature
    servers: Callable[[], Sequence[Server]]
    record: Record
    count: int = 0
    sent: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.record.in_order.append(self.sent)

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Exchange:
        """Ask until there is an answer that is not "try again"."""
        while True:
            try:
                answer = await self.once(method, path, body, **headers)
            except Dropped:
                answer = None
            if answer and answer.status not in (503, 504):
                if answer.status >= 500:
                    self.record.wrong.append(f"P1 {method} {path} → {answer.status} {bytes(answer.body)[:200]!r}")
                return answer
            await asyncio.sleep(PAUSE_SECONDS)

    async def once(self, method: str, path: str, body: Any = None, **headers: str) -> Exchange:
        """Ask once, and take the whole answer.

        Raises:
            Dropped: the connection ended first.
        """
        key = headers.get("idempotency-key", "")
        before = self.record.effects.get(key)
        exchange, server, fault = await self.begin(method, path, body, **headers)
        try:
            while not exchange.over:
                if fault == "cut" and exchange.body:
                    raise Dropped
                await exchange.more(server)
            if fault == "answer lost":
                raise Dropped
            return exchange
        finally:
            exchange.left.set()
            if key and exchange.status == 200:
                self._answered(key, exchange, before)

    def _answered(self, key: str, exchange: Exchange, before: str | None) -> None:
        """Keep what came of a request; asked again, it must be the same (P2)."""
        effect = exchange.headers.get("content-location", "")
        self.record.effects.setdefault(key, effect)
        if before is not None and (before != effect or exchange.headers.get("idempotent-replayed") != "true"):
            self.record.wrong.append(f"P2 '{key}' was asked again, and is not answered as before: {exchange.headers}")
        if effect:
            stream = Stream()
            stream.read(exchange.body)
            self.record.streams.append((effect.rsplit("/", 1)[1], stream))

    async def begin(self, method: str, path: str, body: Any, **headers: str) -> tuple[Exchange, Server, str | None]:
        """Send a request to whichever server is next."""
        fault = self.nature.faults.strike("http", f"{method} {_route(path)}")
        if fault:
            self.nature.troubled_for(0)
        await asyncio.sleep(self.nature.latency())
        if fault == "request lost" or not self.servers():
            raise Dropped
        self.count += 1
        server = self.servers()[self.count % len(self.servers())]
        exchange = Exchange()
        server.process.spawn(answer(server, exchange, method, path, body, headers))
        return exchange, server, fault

    # What people do.

    async def execute(
        self, text: str, session_id: str | None = None, *, images: Sequence[str] = (), patient: bool = True
    ) -> Told | None:
        """Send a message and follow its run; `None` when it was refused. Who is `patient` waits while it is busy."""
        shown = [{"type": "image", "source": _png(data)} for data in images]
        body: dict[str, Any] = {"input": [{"type": "text", "text": text}, *shown]}
        body |= {"session_id": session_id} if session_id else {}
        key, pause = f"execute {text[:40]}", PAUSE_SECONDS
        while True:
            answer = await self.ask("POST", "/v1/agents/bank/execute?vocab=native", body, **{"idempotency-key": key})
            if answer.status == 409 and patient and answer.json["code"] == "session_busy":
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_PAUSE_SECONDS)
                continue
            if answer.status != 200:
                self._refused(text, answer)
                return None
            session_id = answer.headers["location"].rsplit("/", 1)[1]
            return self._accepted(text, session_id, answer.headers["content-location"].rsplit("/", 1)[1])

    async def send(self, session_id: str, *texts: str, on_busy: str = "queue") -> bool:
        """Send messages, which wait for their turn or do not; say whether they were accepted."""
        events = [{"type": "user.message", "content": [{"type": "text", "text": text}]} for text in texts]
        key, path = f"send {[text[:40] for text in texts]}", f"/v1/sessions/{session_id}/events?on_busy={on_busy}"
        answer = await self.ask("POST", path, {"events": events}, **{"idempotency-key": key})
        for text in texts:
            if answer.status == 200:
                self.sent.append(text)
                self._accepted(text, session_id)
            else:
                self._refused(text, answer)
        return answer.status == 200

    async def create(self, **settings: Any) -> str:
        """Make a session that says nothing yet."""
        self.count += 1
        body = {"agent": "bank", **settings}
        answer = await self.ask("POST", "/v1/sessions", body, **{"idempotency-key": f"create {self.count}"})
        return str(answer.json["id"])

    async def change(self, session_id: str, what: str = "", **settings: Any) -> int:
        """Change a session's settings, or suspend it, or let it go on."""
        key = {"idempotency-key": f"{what} {settings}"}
        path = f"/v1/sessions/{session_id}/{what}".rstrip("/")
        return (await self.ask("POST", path, settings or None, **key)).status

    async def decide(self, session_id: str, call_id: str, word: dict[str, Any]) -> int:
        """Say what came of a call; return the status of the answer."""
        key = f"{call_id} {word}"
        path = f"/v1/sessions/{session_id}/tool_calls/{call_id}/outcome"
        if word["outcome"] == "retry":
            self.record.retries_said.append(call_id)  # heard or not: from here on it may be
        return (await self.ask("POST", path, word, **{"idempotency-key": key})).status

    async def approve(self, session_id: str, call_id: str, decision: str = "approve", **said: Any) -> int:
        """Decide on a call that waits; return the status of the answer."""
        path = f"/v1/approvals/{approval_id(session_id, call_id)}/decision"
        body = {"decision": decision, **said}
        return (await self.ask("POST", path, body, **{"idempotency-key": f"{call_id} {body}"})).status

    async def interrupt(self, session_id: str) -> int:
        """Stop what is at work."""
        self.count += 1
        body = {"events": [{"type": "user.interrupt"}]}
        key = f"interrupt {self.count}"
        return (await self.ask("POST", f"/v1/sessions/{session_id}/events", body, **{"idempotency-key": key})).status

    async def delete(self, session_id: str) -> int:
        """Delete a session; a repeated delete finds nothing."""
        answer = await self.ask("DELETE", f"/v1/sessions/{session_id}")
        if answer.status in (200, 404):
            self.record.deleted.add(session_id)
        return answer.status

    async def status(self, session_id: str) -> str:
        """Ask what happened last."""
        answer = await self.ask("GET", f"/v1/sessions/{session_id}")
        return str(answer.json.get("run_status") or "none") if answer.status == 200 else "gone"

    async def until(self, session_id: str, *statuses: str) -> str:
        """Wait for one of these statuses, or until nothing goes on any more."""
        ends, pause = self.nature.seconds + PATIENCE_SECONDS, PAUSE_SECONDS
        while (status := await self.status(session_id)) not in (*(statuses or QUIET), "gone"):
            if self.nature.seconds > ends:
                self.record.wrong.append(f"P10 {session_id} is still {status}")
                break
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)
        return status

    def _refused(self, text: str, answer: Exchange) -> None:
        if answer.status != 404:  # the session is gone, and what it had been sent before with it
            self.record.refused.add(text)

    def _accepted(self, text: str, session_id: str, run_id: str | None = None) -> Told:
        before = self.record.accepted.setdefault(text, session_id)
        if before != session_id:
            self.record.wrong.append(f"P1 '{text}' was accepted into {before} and into {session_id}")
        return Told(session_id, run_id)


def _png(data: str) -> dict[str, str]:
    return {"type": "base64", "media_type": "image/png", "data": data}


def _route(path: str) -> str:
    """Name a path without the ids in it."""
    parts = path.partition("?")[0].split("/")
    return "/".join("…" if "_" in part and any(c.isdigit() for c in part) else part for part in parts)
