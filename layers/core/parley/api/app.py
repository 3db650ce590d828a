"""An app of one or more routers: the dev server has all of them, a function one."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp

from parley.api import problems
from parley.api.auth import SCHEMES, KeyRequired
from parley.api.problems import Problem
from parley.core.errors import TooLarge
from parley.settings import SettingsError
from parley.state import State
from parley.version import __version__

MAX_BODY_BYTES = 10 * 1024 * 1024
"""What API Gateway takes, too."""

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {"description": "A problem.", "content": {"application/problem+json": {}}, "model": Problem}
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

EXPOSED = ("request-id", "location", "content-location", "idempotent-replayed", "retry-after")
"""Headers of answers that a web page of another origin may read."""

DESCRIPTION = """Durable sessions for AI agents. Errors are RFC 9457 problems with a stable `code`.
Every POST takes an `Idempotency-Key`. Session and event shapes are those of the `anthropic` SDK's
`client.beta.sessions`, with fields added."""


class App(FastAPI):
    """The edges stand outside of everything, so that an answer to what nobody expected passes them, too."""

    def build_middleware_stack(self) -> ASGIApp:
        """Put the edges around what FastAPI has; the browser's questions are answered first and need no key."""
        state: State = self.state.parley
        edge = Edge(super().build_middleware_stack(), state.store.log.ids.new)
        if not state.cors_origin:
            return edge
        return CORSMiddleware(
            edge,
            allow_origins=[state.cors_origin],
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=EXPOSED,
        )

    def openapi(self) -> dict[str, Any]:
        """Describe the API; every operation takes a key."""
        described = super().openapi()
        described["components"]["securitySchemes"] = SCHEMES
        described["security"] = [{name: []} for name in SCHEMES]
        for operation in (operation for path in described["paths"].values() for operation in path.values()):
            for parameter in operation.get("parameters", ()):
                _leave_out_null(parameter["schema"])
        return described


def _leave_out_null(schema: dict[str, Any]) -> None:
    """Say of an optional parameter what it is when it is there; no text in a query or a header means null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        del schema["anyOf"]
        schema.update(kinds[0])


def bare_app(routers: Iterable[APIRouter]) -> App:
    """Mount routers over nothing: enough to describe them."""
    app = App(title="Parley", version=__version__, description=DESCRIPTION, docs_url=None, redoc_url=None)
    app.router.generate_unique_id_function = lambda route: route.name
    for router in routers:
        app.include_router(router, responses=PROBLEMS)
    return app


def create_app(state: State, routers: Iterable[APIRouter], *, keyless: bool = False) -> FastAPI:
    """Mount routers over the given parts; `keyless` if whoever can connect may do everything.

    Raises:
        SettingsError: there is no admin key, and nobody said that none is needed.
    """
    if state.admin_key is None and not keyless:
        raise SettingsError(
            "There is no admin key: set PARLEY_ADMIN_KEY_SECRET to the ARN of the secret that holds it."
        )
    app = bare_app(routers)
    app.state.parley = state
    problems.install(app)
    if state.admin_key:
        app.add_middleware(KeyRequired, key=state.admin_key)
    return app


class Edge:
    """Gives every request an id and refuses a body that is too large, before anything reads it."""

    def __init__(self, app: ASGIApp, new_id: Callable[[str], str]) -> None:
        self.app = app
        self.new_id = new_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        scope["request_id"] = self.new_id("req")
        names = (b"request-id", b"x-request-id")
        added = [(name, scope["request_id"].encode()) for name in names]

        async def send_with_id(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *added]
            await send(message)

        return await self.app(scope, _limited(scope, receive), send_with_id)


def _limited(scope: Scope, receive: Receive) -> Receive:
    """Count the body while it comes in; what it declares counts before the first byte."""
    declared = dict(scope["headers"]).get(b"content-length", b"0")
    taken = int(declared) if declared.isdigit() else 0
    counted = 0

    async def limited() -> MutableMapping[str, Any]:
        nonlocal counted
        if max(taken, counted) > MAX_BODY_BYTES:
            raise TooLarge(f"The body is larger than {MAX_BODY_BYTES:,} bytes.")
        message = await receive()
        counted += len(message.get("body", b""))
        return message

    return limited
