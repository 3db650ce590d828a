"""What an app answers, on its way to Lambda: piece by piece, or in one.

Sources: "Implementing response streaming in a custom runtime" (Lambda Developer Guide) for the wire; "Set up a Lambda
proxy integration with payload response streaming" (API Gateway Developer Guide) for what is in it. Read 2026-11-20.
"""

import asyncio
import base64
import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from parley_runtime.log import log
from parley_runtime.runtime_api import Failure, Invocation, RuntimeApi

Headers = Iterable[tuple[bytes, bytes]]

DELIMITER = bytes(8)
"""Parts the prelude from the body."""

PRELUDE_BYTES = 16 * 1024
"""Within so many the gateway must find the delimiter, or it answers 502."""

_TRAILERS = ("Lambda-Runtime-Function-Error-Type", "Lambda-Runtime-Function-Error-Body")


class Streamed:
    """Sends every piece at once, on a connection of its own.

    A listener that left is no error: what is said is dropped from then on, and the app goes on to its end.
    """

    def __init__(self, api: RuntimeApi, invocation: Invocation) -> None:
        self.api = api
        self.invocation = invocation
        self.begun = False
        self.over = asyncio.Event()
        """Set when the answer has ended, or nobody listens any more."""
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def begin(self, status: int, headers: Headers) -> None:
        """Send the head of the request, the prelude and the delimiter.

        Raises:
            ValueError: the headers are too long for the gateway.
        """
        prelude = json.dumps({"statusCode": status, **_prelude_headers(headers)}).encode()
        if len(prelude) + len(DELIMITER) > PRELUDE_BYTES:
            raise ValueError(f"a prelude of {len(prelude)} bytes is too long")
        self.begun = True
        try:
            self._connection = await asyncio.open_connection(self.api.host, self.api.port)  # asyncio sets TCP_NODELAY
        except OSError:
            self._lose()
        # cargo-lambda 1.9 takes the first chunk for the prelude and drops the second, whatever is in it.
        await self._send(self._head() + _chunk(prelude) + _chunk(DELIMITER))

    async def write(self, data: bytes) -> None:
        """Send a piece, and wait while Lambda takes no more; a chunk of no bytes would end the body."""
        if data:
            await self._send(_chunk(data))

    async def end(self, failed: Failure | None = None) -> None:
        """Send the last chunk, with trailers after a failure, and read what Lambda says."""
        values = (failed.kind, base64.b64encode(failed.body()).decode()) if failed else ()
        trailers = "".join(f"{name}: {value}\r\n" for name, value in zip(_TRAILERS, values, strict=False))
        await self._send(f"0\r\n{trailers}\r\n".encode())
        if self._connection:
            reader, writer = self._connection
            try:
                status = (await reader.readline()).partition(b" ")[2][:3].decode()
            except OSError:
                status = "none"
            writer.close()  # "close the underlying connection after it has successfully written the response"
            if not status.startswith("2"):
                log.error("answer_refused", extra={"status": status, "invocation": self.invocation.id})
        self.over.set()

    def _head(self) -> bytes:
        lines = {
            "Host": self.api.authority,
            "Content-Type": "application/vnd.awslambda.http-integration-response",
            "Lambda-Runtime-Function-Response-Mode": "streaming",
            "Transfer-Encoding": "chunked",
            "Trailer": ", ".join(_TRAILERS),  # announced always: a failure is not known yet
            "Connection": "close",
            **self.invocation.echoed,
        }
        start = f"POST {self.api.path}/invocation/{self.invocation.id}/response HTTP/1.1\r\n"
        return (start + "".join(f"{name}: {value}\r\n" for name, value in lines.items()) + "\r\n").encode()

    async def _send(self, data: bytes) -> None:
        if self._connection:
            _, writer = self._connection
            try:
                writer.write(data)
                await writer.drain()
            except OSError:
                writer.close()
                self._lose()

    def _lose(self) -> None:
        self._connection = None
        self.over.set()
        log.info("listener_left", extra={"invocation": self.invocation.id})


class Buffered:
    """Keeps an answer until it is whole: SAM's local server cannot parse a streamed one.

    Source: `samcli/local/apigw` of aws-sam-cli 1.170, which refuses keys it does not know (read 2026-11-20).
    """

    begun = False  # whatever was kept, a failure can still take its place

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self._start: dict[str, Any] = {}
        self._body = bytearray()

    async def begin(self, status: int, headers: Headers) -> None:
        """Keep status and headers."""
        self._start = {"statusCode": status, "multiValueHeaders": _named(headers)}

    async def write(self, data: bytes) -> None:
        """Keep a piece of the body."""
        self._body += data

    async def end(self, failed: Failure | None = None) -> None:
        """Say that it is whole; `proxy_answer` is asked for what there is."""
        self.over.set()

    def proxy_answer(self) -> bytes:
        """Write the answer as a buffered proxy integration has it, in base64 if it is no text."""
        try:
            body, encoded = self._body.decode(), False
        except UnicodeDecodeError:
            body, encoded = base64.b64encode(self._body).decode(), True
        return json.dumps({**self._start, "body": body, "isBase64Encoded": encoded}).encode()


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _named(headers: Headers) -> dict[str, list[str]]:
    named: dict[str, list[str]] = defaultdict(list)
    for name, value in headers:
        named[name.decode("latin-1").lower()].append(value.decode("latin-1"))
    return named


def _prelude_headers(headers: Headers) -> dict[str, Any]:
    named = _named(headers)
    return {
        "cookies": named.pop("set-cookie", []),  # kept when empty: cargo-lambda 1.9 wants the key
        "headers": {name: values[0] for name, values in named.items() if len(values) == 1},
        "multiValueHeaders": {name: values for name, values in named.items() if len(values) > 1},
    }
