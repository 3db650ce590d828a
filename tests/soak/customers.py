"""Those who use Parley while it is under siege: each goes from session to session, and through every door."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx

from tests.soak.asking import Asking, GaveUp, asks_to_come_again
from tests.soak.book import Book, Stream
from tests.soak.fleet import Fleet
from tests.soak.streams import Frame, follow, read

AGENT = "clerk"

SCRIPTS = (
    "[[text 20x8 delay=0.02]]",
    '[[tool charge {"seconds": %s}]]',
    '[[tool charge {"seconds": %s}]][[then tool look {"seconds": 0.05}]][[then text 10x8 delay=0.02]]',
    '[[tool book {"seconds": %s}]]',
    '[[tool look {"seconds": %s}]]',
    '[[tool look {"seconds": 0.1}]][[tool book {"seconds": %s}]][[tool charge {"seconds": 0.3}]]',
    '[[tool charge {"seconds": %s}]][[tool charge {"seconds": 0.1}]][[then tool book {"seconds": 0.1}]]',
)
"""What a message makes the model do; the number is how long a tool takes."""

MODEL_FAULTS = ("529 times=2", "429 retry_after=1 times=1", "500 times=1", "cut times=1", "error_event times=1")


@dataclass
class Customer:
    """One who asks, watches, and sometimes deletes."""

    name: str
    asking: Asking
    random: Random
    leaving: asyncio.Event
    """From when on nobody begins anything new."""
    numbers: int = 0
    jobs_in: set[str] = field(default_factory=set)
    """Sessions with jobs: a job whose session was deleted is tried for minutes."""
    beside: list["asyncio.Task[None]"] = field(default_factory=list)
    """Watching, and what a delete is to interrupt."""

    @property
    def book(self) -> Book:
        """Where promises are written down."""
        return self.asking.book

    @property
    def fleet(self) -> Fleet:
        """Who is asked."""
        return self.asking.fleet

    async def visit(self) -> None:
        """Use one session after another."""
        try:
            while not self.leaving.is_set():
                await self._use_a_session()
        except GaveUp:
            self.book.complain("not accepted", None, f"{self.name}: a request was not answered after the siege")
        finally:
            for task in self.beside:
                task.cancel()

    async def _use_a_session(self) -> None:
        session_id = await self._create()
        done = asyncio.Event()
        if watches := self.random.random() < 0.6:
            self._beside(self._watch(session_id, done))
        for _ in range(self.random.randint(2, 5)):
            if not self.leaving.is_set():
                await self._say(session_id)
        if self.random.random() < 0.2 and session_id not in self.jobs_in:
            await self._delete(session_id)
        elif not watches and self.fleet.jobs and self.random.random() < 0.5:
            await self._put_job(self.fleet.jobs.put, None)  # begins a session of its own
        done.set()
        await asyncio.gather(*self.beside)
        self.beside.clear()

    def _beside(self, work: Coroutine[Any, Any, None]) -> None:
        self.beside.append(asyncio.create_task(work))

    async def _say(self, session_id: str) -> None:
        doors = [self._execute, self._execute, self._send]
        if self.fleet.jobs:
            put = self.fleet.jobs.put
            doors.append(lambda session_id: self._put_job(put, session_id))
        await self.random.choice(doors)(session_id)

    def _message(self) -> tuple[str, str]:
        """Write a message that exists once; the script stands behind its token."""
        self.numbers += 1
        token = f"{self.name}-{self.numbers}"
        script = self.random.choice(SCRIPTS).replace("%s", f"{self.random.uniform(0.05, 0.6):.2f}")
        if self.random.random() < 0.15:
            kind, _, rest = self.random.choice(MODEL_FAULTS).partition(" ")
            script += f"[[fault {kind} {rest} key={token}]]"
        return token, f"<{token}> {script}"

    def _times(self) -> int:
        return 2 if self.random.random() < 0.2 else 1

    async def _create(self) -> str:
        self.numbers += 1
        key = f"{self.name}-{self.numbers}"
        answer = await self.asking.insist("POST", "/v1/sessions", key, json={"agent": AGENT})
        session_id = str(answer.json()["id"])
        self.book.sessions.add(session_id)
        return session_id

    async def _execute(self, session_id: str) -> None:
        """Send a message and follow its run, whatever becomes of the connection."""
        token, text = self._message()
        while True:
            stream = Stream(session_id)
            self.book.streams.append(stream)
            try:
                if await self._begin(token, text, stream):
                    return
            except httpx.TransportError:
                stream.cuts += 1
            if stream.frames and self.random.random() < 0.5:
                break  # goes on behind what it has seen; else it asks again with the same key, and sees all anew
            await self.asking.again()
        await follow(self.asking, stream, _ends_run)

    async def _begin(self, token: str, text: str, stream: Stream) -> bool:
        """Ask once; say whether there is nothing more to follow."""
        body = {"input": text, "session_id": stream.session_id}
        path = f"/v1/agents/{AGENT}/execute?vocab=native"
        async with self.asking.stream("POST", path, {"idempotency-key": token}, json=body) as (server, answer):
            life = server.life
            if answer.status_code == 200:
                self.book.accept(token, "execute", stream.session_id)
                if "idempotent-replayed" not in answer.headers:
                    self.book.begun_by[answer.headers["content-location"].rpartition("/")[2]] = life
                return await read(answer, stream, _ends_run)
            await answer.aread()
            if asks_to_come_again(answer):
                return False
            if answer.status_code != 404 or stream.session_id not in self.book.deleted:
                self.book.complain("execute refused", stream.session_id, answer.text)
            return True

    async def _send(self, session_id: str) -> None:
        """Send messages that wait for their turn; now and then twice, with the same key."""
        messages = [self._message() for _ in range(self.random.randint(1, 2))]
        events = [{"type": "user.message", "content": [{"type": "text", "text": text}]} for _, text in messages]
        path = f"/v1/sessions/{session_id}/events"
        for _ in range(self._times()):
            answer = await self.asking.insist("POST", path, messages[0][0], json={"events": events})
        if answer.status_code != 200:
            self.book.complain("events refused", session_id, answer.text)
            return
        for token, _ in messages:
            self.book.accept(token, "events", session_id)

    async def _put_job(self, put: Callable[[str], None], session_id: str | None) -> None:
        """Put a job on the queue, now and then twice, as those must who did not hear that it was taken."""
        token, text = self._message()
        job = {"agent_id": AGENT, "input": text, "idempotency_key": token}
        body = json.dumps(job | ({"session_id": session_id} if session_id else {}))
        for _ in range(self._times()):
            await asyncio.to_thread(put, body)
        self.book.accept(token, "job", session_id)
        self.jobs_in |= {session_id} if session_id else set()

    async def _watch(self, session_id: str, done: asyncio.Event) -> None:
        """See all of a session, from its first event until its customer is done and nothing runs or waits."""
        stream = Stream(session_id)
        self.book.streams.append(stream)
        following = asyncio.create_task(follow(self.asking, stream, lambda _: False))
        waiting = asyncio.create_task(done.wait())
        await asyncio.wait({following, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if following.done():
            await following  # the session is gone
            return
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        stream.whole = await follow(self.asking, stream, lambda _: False, until_idle=True)

    async def _delete(self, session_id: str) -> None:
        """Delete the session, half of the times while a run is at work."""
        if self.random.random() < 0.5:
            self._beside(self._execute(session_id))
            await asyncio.sleep(self.random.uniform(0, 0.5))
        self.book.deleted.add(session_id)  # from now on: an answer may be lost
        answer = await self.asking.insist("DELETE", f"/v1/sessions/{session_id}")
        if answer.status_code not in (200, 404):
            self.book.complain("delete refused", session_id, answer.text)


def _ends_run(frame: Frame) -> bool:
    """Say whether a run has ended, waits for a person, or went with its session."""
    return frame.event in ("session.status_idle", "session.deleted")
