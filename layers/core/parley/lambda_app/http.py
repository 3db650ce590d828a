"""API Gateway's edge: routers and state become a handler; buffered through Mangum, streamed by `layers/runtime`.

Decides what an event says about where the app stands, and that nothing is left running when the answer is given.
Source: "Input format of a Lambda function for proxy integration" (API Gateway Developer Guide, read 2026-11-20).
"""

import asyncio
import re
from collections.abc import Callable, MutableMapping
from typing import Any

from fastapi import APIRouter
from mangum import Mangum
from mangum.types import LambdaContext

from parley.api.app import Receive, Scope, Send, create_app
from parley.lambda_app import logs
from parley.state import State

Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]

TEXT_TYPES = ["text/", "application/json", "application/problem+json"]
"""What is answered as it is; Mangum answers anything else in base64, which the gateway would pass on undecoded."""

_SUBJECT = re.compile(r"/v1/sessions/(?P<session_id>\w+)(?:/runs/(?P<run_id>\w+))?")


def buffered(state: State, *routers: APIRouter) -> Handler:
    """Answer API Gateway's events with these routers, each answer as a whole."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    adapted = Mangum(streamed(state, *routers), lifespan="off", text_mime_types=TEXT_TYPES)

    def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        asyncio.set_event_loop(loop)
        answer: dict[str, Any] = adapted(event, context)
        return answer

    return handle


def streamed(state: State, *routers: APIRouter) -> "OnLambda":
    """Answer API Gateway's events with these routers as an ASGI app, for the runtime that streams."""
    return OnLambda(state, routers)


class OnLambda:
    """The app on Lambda: told where it stands in public and how long it may go on, and not left before its runs end."""

    def __init__(self, state: State, routers: tuple[APIRouter, ...]) -> None:
        self.app = create_app(state, routers)
        self.state = state
        self.logger = logs.logger()
        self.counted = None
        if state.runner:
            from parley.lambda_app.metrics import Counted

            self.counted = Counted()
            self.counted.observe(state.runner)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; a Lambda is frozen once it has answered, so its runs end first, or are handed over."""
        event, context = scope["aws.event"], scope["aws.context"]
        logs.invocation(
            self.logger,
            context,
            correlation_id=event["requestContext"].get("requestId"),
            **(event.get("pathParameters") or {}),
        )
        self.state.deadline.is_in(context.get_remaining_time_in_millis)
        _place(scope, event)
        told: dict[str, Any] = {}

        async def send_and_note(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                told.update(_summary(message))
            await send(message)

        answering = asyncio.create_task(self.app(scope, receive, send_and_note))
        try:
            await self._cut(answering)
            await answering
        finally:
            if self.state.runner:
                await self.state.runner.close(max(0.0, self.state.deadline.seconds_left()))
            self.logger.info("request_answered", method=scope["method"], resource=event["resource"], **told)
            if self.counted:
                self.counted.flush()

    async def _cut(self, answering: "asyncio.Task[None]") -> None:
        """Hand over what is still at work when the time is up; who listens to it hears that the stream rotates."""
        if self.state.runner:
            await asyncio.wait({answering}, timeout=max(0.0, self.state.deadline.seconds_left()))
            if not answering.done():
                await self.state.runner.close(0)


def _place(scope: Scope, event: dict[str, Any]) -> None:
    """Set `root_path` to what stands before the route: a stage (`/prod`), or a custom domain's base path.

    `resource` is the route as the template spells it; only `requestContext.path` shows the stage, and both paths show
    a base path.
    """
    segments = event["resource"].count("/")
    base = event["path"].rstrip("/").rsplit("/", segments)[0]
    root = event["requestContext"]["path"].rstrip("/").rsplit("/", segments)[0]
    scope["root_path"] = root
    scope["path"] = root + scope["path"].rstrip("/").removeprefix(base)


def _summary(start: MutableMapping[str, Any]) -> dict[str, Any]:
    """Describe an answer in keys: ids and numbers, never contents."""
    headers = {name.decode(): value.decode("latin-1") for name, value in start.get("headers", [])}
    subject = _SUBJECT.search(headers.get("content-location") or headers.get("location") or "")
    return {
        "status": start["status"],
        "request_id": headers.get("request-id"),
        **(subject.groupdict() if subject else {}),
    }
