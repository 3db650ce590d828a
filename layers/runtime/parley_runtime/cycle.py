"""One request and its answer, between an ASGI app and Lambda.

Source: ASGI 3.0, "HTTP & WebSocket message format" (read 2026-11-20).
"""

import asyncio

from parley_runtime.log import log
from parley_runtime.request import App, Message
from parley_runtime.response import Buffered, Streamed
from parley_runtime.runtime_api import failure

START, BODY = "http.response.start", "http.response.body"


class Cycle:
    """What an app receives and sends while it handles one request; `due` is what it must send next."""

    def __init__(self, body: bytes, response: Streamed | Buffered) -> None:
        self.response = response
        self.due: str | None = START
        self._requests: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive(self) -> Message:
        """Give the request, and `http.disconnect` when it is answered, or its listener is known to have left."""
        if self._requests:
            return self._requests.pop()
        await self.response.over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Pass on a piece of the answer.

        Raises:
            RuntimeError: the app sent something that is not due.
        """
        if message["type"] != self.due:
            raise RuntimeError(f"{message['type']} came, {self.due or 'nothing'} was due")
        if message["type"] == START:
            await self.response.begin(message["status"], message.get("headers", ()))
            self.due = BODY
            return
        await self.response.write(message.get("body", b""))
        if not message.get("more_body", False):
            self.due = None
            await self.response.end()


async def answer(app: App, scope: Message, body: bytes, response: Streamed | Buffered) -> None:
    """Run an app; what it raises when its answer has begun is told in the trailers.

    Raises:
        Exception: the app failed, and nothing of its answer has left.
    """
    cycle = Cycle(body, response)
    try:
        await app(scope, cycle.receive, cycle.send)
        if cycle.due:
            raise RuntimeError(f"the app returned, {cycle.due} was due")
    except (Exception, asyncio.CancelledError) as error:
        if cycle.due and not response.begun:
            raise
        log.exception("app_failed", extra={"invocation": scope["aws.context"].aws_request_id})
        if cycle.due:
            await response.end(failure("Function", error))
