"""The edge of a buffered function: routers and state become a Lambda handler through Mangum.

Decides what an API Gateway event says about where the app stands, what is logged, and that nothing is left running when
the answer is given. Sources: "Input format of a Lambda function for proxy integration" (API Gateway Developer Guide);
"Log-level filtering" (Lambda Developer Guide): JSON lines with `level` and an RFC 3339 `timestamp`. Read 2026-11-20.
"""

import asyncio
import logging
import re
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from fastapi import APIRouter
from mangum import Mangum
from mangum.types import LambdaContext

from parley.api.app import Receive, Scope, Send, create_app
from parley.state import State

Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

TEXT_TYPES = ["text/", "application/json", "application/problem+json"]
"""What is answered as it is; Mangum answers anything else in base64, which the gateway would pass on undecoded."""

MARGIN_SECONDS = 2.0
"""Of a function's time, kept for its answer."""

_SUBJECT = re.compile(r"/v1/sessions/(?P<session_id>\w+)(?:/runs/(?P<run_id>\w+))?")


def handler(state: State, *routers: APIRouter) -> Handler:
    """Answer API Gateway events with these routers."""
    logger = _logger()
    loop = asyncio.new_event_loop()  # one for the life of the process: clients belong to the loop they were used on
    asyncio.set_event_loop(loop)
    adapted = Mangum(_OnLambda(state, routers), lifespan="off", text_mime_types=TEXT_TYPES)

    @logger.inject_lambda_context(correlation_id_path="requestContext.requestId", clear_state=True, log_event=False)
    def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        logger.append_keys(**(event.get("pathParameters") or {}))
        asyncio.set_event_loop(loop)
        answer: dict[str, Any] = adapted(event, context)
        logger.info("request_answered", extra=_summary(event, answer))
        return answer

    return handle


class _OnLambda:
    """The app on Lambda: told where it stands in public, and not left before its runs have ended."""

    def __init__(self, state: State, routers: tuple[APIRouter, ...]) -> None:
        self.app = create_app(state, routers)
        self.runner = state.runner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; a Lambda is frozen once it has answered, so its runs end first."""
        _place(scope, scope["aws.event"])
        try:
            await self.app(scope, receive, send)
        finally:
            if self.runner:
                left = scope["aws.context"].get_remaining_time_in_millis() / 1000
                await self.runner.close(max(0.0, left - MARGIN_SECONDS))


def _place(scope: Scope, event: dict[str, Any]) -> None:
    """Set `root_path` to what stands before the route: a stage (`/prod`), or a custom domain's base path.

    `resource` is the route as the template spells it; only `requestContext.path` shows the stage, and both paths show
    a base path.
    """
    segments = event["resource"].count("/")
    base = event["path"].rsplit("/", segments)[0]
    root = event["requestContext"]["path"].rsplit("/", segments)[0]
    scope["root_path"] = root
    scope["path"] = root + scope["path"].removeprefix(base)


def _summary(event: dict[str, Any], answer: dict[str, Any]) -> dict[str, Any]:
    """Describe a request in keys: ids and numbers, never contents."""
    headers = answer["headers"]
    subject = _SUBJECT.search(headers.get("content-location") or headers.get("location") or "")
    return {
        "method": event["httpMethod"],
        "resource": event["resource"],
        "status": answer["statusCode"],
        "request_id": headers.get("request-id"),
        **(subject.groupdict() if subject else {}),
    }


class _Lines(LambdaPowertoolsFormatter):
    """JSON lines; of an exception the types and the places, because a message may quote what somebody said."""

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - logging's own hook
        """Write an exception and what caused it, the last first."""
        lines: list[str] = []
        error: BaseException | None = ei[1]
        while error is not None:
            lines += [f"{type(error).__qualname__} at\n", *traceback.format_tb(error.__traceback__)]
            error = error.__cause__ or error.__context__
        return "".join(lines)


def _logger() -> Logger:
    """Configure the package's logger, and let Mangum's errors leave through it, too."""
    lines = _Lines(utc=True, use_rfc3339=True, serialize_stacktrace=False)
    logger = Logger(service="parley", logger_formatter=lines)
    mangum = logging.getLogger("mangum")
    mangum.handlers, mangum.propagate = [logger.registered_handler], False
    mangum.setLevel(logging.ERROR)
    return logger
