"""A standard queue as SQS is: at least once, in no order, with a visibility time-out and dead letters."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.simulation.faults import DELAY_SECONDS
from tests.simulation.process import Nature, Process

MAX_RECEIVES = 4
RETRY_SECONDS = (5, 30, 120)
"""As `lambda_app.queue` asks for; a worker that died does not ask, and its message comes after `VISIBILITY_SECONDS`."""
VISIBILITY_SECONDS = 5400.0


@dataclass(slots=True)
class Message:
    """One message; `receives` counts how often it was given out."""

    id: str
    body: str
    visible_at: float
    receives: int = 0


class SimulatedQueue:
    """What is in the queue."""

    def __init__(self, nature: Nature) -> None:
        self._nature = nature
        self._count = 0
        self._news = asyncio.Event()
        self.messages: list[Message] = []
        self.dead_letters: list[Message] = []

    @property
    def busy(self) -> bool:
        """Whether a message is to be given out soon; one that died with its worker comes much later, and may."""
        return any(message.visible_at < self._nature.seconds + 2 * RETRY_SECONDS[-1] for message in self.messages)

    def put(self, body: str, after_seconds: float = 0.0) -> Message:
        """Put a message in, as any system may."""
        self._count += 1
        message = Message(f"message_{self._count:04d}", body, self._nature.seconds + after_seconds)
        self.messages.append(message)
        self._news.set()
        return message

    async def receive(self) -> Message:
        """Wait for a message that is visible, and hide it."""
        while True:
            now = self._nature.seconds
            visible = [message for message in self.messages if message.visible_at <= now]
            if visible:
                message = self._nature.random.choice(visible) if self._nature.seed else visible[0]
                message.visible_at = now + VISIBILITY_SECONDS
                message.receives += 1
                return message
            self._news.clear()
            soonest = min((message.visible_at for message in self.messages), default=None)
            try:
                async with asyncio.timeout(None if soonest is None else soonest - now):
                    await self._news.wait()
            except TimeoutError:
                pass

    def failed(self, message: Message) -> None:
        """Give a message out again soon, or give it up; one that was given out twice may be gone."""
        if message not in self.messages:
            return
        if message.receives >= MAX_RECEIVES:
            self.messages.remove(message)
            self.dead_letters.append(message)
        else:
            message.visible_at = self._nature.seconds + RETRY_SECONDS[message.receives - 1]
            self._news.set()

    def done(self, message: Message) -> None:
        """Take a message out; one that was given out twice may be gone."""
        if message in self.messages:
            self.messages.remove(message)

    def give_out_again(self) -> None:
        """Let the time be over for which messages that died with their workers stay hidden."""
        for message in self.messages:
            message.visible_at = self._nature.seconds
        self._news.set()

    def double(self, message: Message) -> None:
        """Give a message out a second time while the first is at work."""
        message.visible_at = self._nature.seconds
        self._news.set()


class SimulatedHints:
    """The `Queue` port of one process: as SQS's adapter, a hint that cannot be sent is lost and no error."""

    def __init__(self, process: Process, queue: SimulatedQueue) -> None:
        self.process = process
        self.queue = queue

    async def send(self, tenant: str, session_id: str) -> None:
        fault = await self.process.reach("hint", "")
        body = json.dumps({"hint": {"tenant": tenant, "session_id": session_id}})
        if fault == "late":
            self.process.nature.troubled_for(DELAY_SECONDS)
            self.queue.put(body, DELAY_SECONDS)
        elif fault != "lost":
            for _ in range(2 if fault == "doubled" else 1):
                self.queue.put(body)
        await self.process.leave(fault)


async def work(process: Process, queue: SimulatedQueue, take: Callable[[str, str, int], Awaitable[None]]) -> None:
    """Receive and take messages, one at a time, for as long as the process lives."""
    while True:
        await process.gate()
        message = await queue.receive()
        if process.dead.is_set():  # while it waited
            message.visible_at = 0.0
            message.receives -= 1
            return
        fault = await process.reach("delivery", "")
        if fault == "doubled":
            queue.double(message)
        if fault == "late":
            message.visible_at = process.nature.seconds + DELAY_SECONDS
            message.receives -= 1
            process.nature.troubled_for(DELAY_SECONDS)
            continue
        try:
            await take(message.body, message.id, message.receives)
        except Exception:  # noqa: BLE001 - as the edge on Lambda does: whatever it was, the message comes again
            queue.failed(message)
        else:
            queue.done(message)
