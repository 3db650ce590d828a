"""The key that every request shows, compared in constant time before its body is read or its route is chosen.

A middleware, not a dependency: no route can forget it, and what is no route asks for it, too.
"""

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from parley.api import problems
from parley.core.errors import ParleyError, Unauthorized

HOW = "Send the key as `x-api-key: <key>` or as `Authorization: Bearer <key>`."

SCHEMES: dict[str, dict[str, Any]] = {
    "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    "bearer": {"type": "http", "scheme": "bearer"},
}
"""Both ways, as OpenAPI says it. A dev server takes requests without any."""


class KeyRequired:
    """Lets a request pass that shows the key, and answers every other with 401."""

    def __init__(self, app: ASGIApp, key: Callable[[], Awaitable[str]]) -> None:
        self.app = app
        self.key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "lifespan":
            try:
                await self._check(scope["headers"])
            except ParleyError as error:
                return await problems.answer_to(Request(scope), error)(scope, receive, send)
        return await self.app(scope, receive, send)

    async def _check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        shown = _shown(dict(headers))
        if not shown:
            raise Unauthorized(f"This API needs a key. {HOW}")
        if not hmac.compare_digest(_digest(shown), _digest((await self.key()).encode())):
            raise Unauthorized(f"That is not the key of this API. {HOW}")


def _shown(headers: dict[bytes, bytes]) -> bytes:
    """Find the key, or nothing; the `anthropic` SDK sends it as either, as it is told."""
    scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
    return headers.get(b"x-api-key", b"").strip() or (token.strip() if scheme.lower() == b"bearer" else b"")


def _digest(key: bytes) -> bytes:
    """Make keys equally long: the comparison would tell how long the right one is."""
    return hashlib.sha256(key).digest()
