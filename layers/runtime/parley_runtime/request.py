"""An event of a REST API as an ASGI scope, in the shape that Mangum gives it.

Sources: "Input format of a Lambda function for proxy integration" (API Gateway Developer Guide); ASGI 3.0, "HTTP &
WebSocket message format". Read 2026-11-20. Where the app stands (stage, base path) is the app's to find in `aws.event`.
"""

import base64
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeGuard
from urllib.parse import unquote, urlencode

from parley_runtime.context import Context

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def is_request(event: object) -> TypeGuard[dict[str, Any]]:
    """Tell a REST API's event from whatever else a function may be invoked with."""
    return isinstance(event, dict) and {"httpMethod", "path", "resource", "requestContext"} <= event.keys()


def scope_of(event: dict[str, Any], context: Context) -> Message:
    """Describe a request; the gateway has decoded the query, and left the path encoded."""
    headers = _headers(event)
    schemes = [value.decode() for name, value in headers if name == b"x-forwarded-proto"]
    identity = event["requestContext"].get("identity") or {}
    query = event.get("multiValueQueryStringParameters") or event.get("queryStringParameters") or {}
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.0"},
        "http_version": "1.1",
        "method": event["httpMethod"],
        "scheme": schemes[0] if schemes else "https",
        "path": unquote(event["path"]),
        "root_path": "",
        "query_string": urlencode(query, doseq=True).encode(),
        "headers": headers,
        "client": (identity.get("sourceIp"), 0),
        "aws.event": event,
        "aws.context": context,
    }


def body_of(event: dict[str, Any]) -> bytes:
    """Return the body as it was sent."""
    body = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()


def _headers(event: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    """Every header with all its values; the console's test button sends none at all."""
    single = {name: [value] for name, value in (event.get("headers") or {}).items()}
    named = event.get("multiValueHeaders") or single
    pairs = [(name.lower().encode(), value.encode()) for name, values in named.items() for value in values]
    cookies = [value for name, value in pairs if name == b"cookie"]
    if len(cookies) > 1:  # HTTP/2 may send a cookie a line; ASGI wants one header
        pairs = [pair for pair in pairs if pair[0] != b"cookie"] + [(b"cookie", b"; ".join(cookies))]
    return pairs
