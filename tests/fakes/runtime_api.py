"""A strict fake of the Lambda Runtime API on raw sockets, so that every byte counts.

Sources: "Using the Lambda runtime API" and "Building a custom runtime" (Lambda Developer Guide), "Set up a Lambda proxy
integration with payload response streaming" (API Gateway Developer Guide); read 2026-11-20. What breaks a rule is
answered with 400 and noted in `problems`.
"""

import itertools
import json
import queue
import re
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import BufferedIOBase
from typing import Any

ERROR_TYPE = "lambda-runtime-function-error-type"
ERROR_BODY = "lambda-runtime-function-error-body"
PRELUDE = {"statusCode", "headers", "multiValueHeaders", "cookies"}
PRELUDE_BYTES = 16 * 1024
QUIET_SECONDS = 0.05
"""How long `next` waits before it answers 204."""

_numbers = itertools.count(1)


class Refused(Exception):
    """A rule of the protocol was broken."""


@dataclass
class Exchange:
    """One invocation, as the one who invoked sees it."""

    event: Any
    hangs_up: bool = False
    """Drop the connection after the first piece of the body."""
    id: str = field(default_factory=lambda: f"8476a536-e9f4-11e8-9739-{next(_numbers):012}")
    prelude: dict[str, Any] | None = None
    trailers: dict[str, str] = field(default_factory=dict)
    answer: Any = None
    """What came in one piece."""
    error: dict[str, Any] | None = None
    _pieces: "queue.Queue[bytes | None]" = field(default_factory=queue.Queue)
    closed: threading.Event = field(default_factory=threading.Event)
    """The connection that brought the answer is closed."""
    state: str = "waiting"
    """`waiting`, `running`, `answering`, `done`."""

    def take(self, piece: bytes | None) -> None:
        """Take a piece of the answer's body, or its end."""
        self._pieces.put(piece)

    def piece(self, timeout: float = 10) -> bytes | None:
        """Wait for the next piece; None is the end."""
        return self._pieces.get(timeout=timeout)

    def body(self) -> bytes:
        """Wait for the end and return all that had not been taken yet."""
        return b"".join(iter(self.piece, None))


@dataclass
class FakeRuntimeApi:
    """The API of one function. Use `serving`."""

    address: str = ""
    prefix: str = ""
    deadline_ms: int = field(default_factory=lambda: int(time.time() * 1000) + 30_000)
    problems: list[str] = field(default_factory=list)
    exchanges: dict[str, Exchange] = field(default_factory=dict)
    init_errors: "queue.Queue[dict[str, Any]]" = field(default_factory=queue.Queue)
    restore_errors: "queue.Queue[dict[str, Any]]" = field(default_factory=queue.Queue)
    restored: int = 0
    closed: bool = False
    _waiting: "queue.Queue[Exchange]" = field(default_factory=queue.Queue)

    def invoke(self, event: Any, *, hangs_up: bool = False) -> Exchange:
        """Queue an event."""
        exchange = Exchange(event, hangs_up)
        self.exchanges[exchange.id] = exchange
        self._waiting.put(exchange)
        return exchange

    def handle(
        self, method: str, path: str, headers: dict[str, str], stream: BufferedIOBase
    ) -> tuple[int, dict[str, str], bytes]:
        """Answer one request: status, headers, body."""
        base = f"{self.prefix}/2018-06-01/runtime"
        if not path.startswith(base):
            raise Refused(f"no such path: {path}")
        match method, path.removeprefix(base).split("/")[1:]:
            case "GET", ["invocation", "next"]:
                return self._next()
            case "POST", ["invocation", id, "response"]:
                self._respond(self._running(id, headers), headers, stream)
            case "POST", ["invocation", id, "error"]:
                exchange = self._running(id, headers)
                exchange.error = read_error(headers, stream)
                self._end(exchange)
            case "POST", ["init", "error"]:
                self.init_errors.put(read_error(headers, stream))
            case "GET", ["restore", "next"]:
                self.restored += 1
                return 200, {}, b""
            case "POST", ["restore", "error"]:
                self.restore_errors.put(read_error(headers, stream))
            case _:
                raise Refused(f"no such call: {method} {path}")
        return 202, {"Content-Type": "application/json"}, b'{"status":"OK"}\n'

    def _next(self) -> tuple[int, dict[str, str], bytes]:
        if [each for each in self.exchanges.values() if each.state in ("running", "answering")]:
            raise Refused("asked for the next event before the last was answered")
        if [each for each in self.exchanges.values() if each.state == "done" and not each.closed.wait(1)]:
            raise Refused("asked for the next event before the connection of the last answer was closed")
        if self.closed:
            return 500, {}, b""
        try:
            exchange = self._waiting.get(timeout=QUIET_SECONDS)
        except queue.Empty:
            return 204, {}, b""
        exchange.state = "running"
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": exchange.id,
            "Lambda-Runtime-Deadline-Ms": str(self.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-central-1:123456789012:function:probe",
            "Lambda-Runtime-Trace-Id": f"Root=1-673da5e8-{exchange.id[-12:]}",
            "Lambda-Runtime-Invocation-Id": f"opaque-{exchange.id}",
        }
        return 200, headers, json.dumps(exchange.event).encode()

    def _running(self, id: str, headers: dict[str, str]) -> Exchange:
        exchange = self.exchanges.get(id)
        if exchange is None or exchange.state != "running":
            raise Refused(f"{id} is {exchange.state if exchange else 'unknown'}")
        if headers.get("lambda-runtime-invocation-id") != f"opaque-{id}":
            raise Refused("the invocation id was not echoed")
        return exchange

    def _respond(self, exchange: Exchange, headers: dict[str, str], stream: BufferedIOBase) -> None:
        exchange.state = "answering"
        try:
            if headers.get("lambda-runtime-function-response-mode") == "streaming":
                self._take_stream(exchange, headers, stream)
            else:
                exchange.answer = json.loads(stream.read(int(headers["content-length"])))
        finally:
            self._end(exchange)

    def _take_stream(self, exchange: Exchange, headers: dict[str, str], stream: BufferedIOBase) -> None:
        check_head(headers)
        chunks = read_chunks(stream, exchange.trailers)
        first, second = next(chunks, b""), next(chunks, b"")
        exchange.prelude = json.loads(first)
        if exchange.prelude is None or exchange.prelude.keys() != PRELUDE:
            raise Refused(f"no prelude: {first[:80]!r}")
        if second != bytes(8) or len(first) + 8 > PRELUDE_BYTES:
            raise Refused(f"after {len(first)} bytes of prelude no delimiter: {second[:80]!r}")
        for chunk in chunks:
            exchange.take(chunk)
            if exchange.hangs_up:
                raise ConnectionAbortedError
        announced = {name.strip().lower() for name in headers.get("trailer", "").split(",")}
        if exchange.trailers and exchange.trailers.keys() != announced:
            raise Refused(f"trailers {set(exchange.trailers)}, {announced} were announced")

    @staticmethod
    def _end(exchange: Exchange) -> None:
        exchange.state = "done"
        exchange.take(None)


def check_head(headers: dict[str, str]) -> None:
    """Hold the head of a streamed answer against the rules."""
    wanted = {
        "transfer-encoding": "chunked",
        "content-type": "application/vnd.awslambda.http-integration-response",
        "connection": "close",
    }
    wrong = {name: headers.get(name) for name, value in wanted.items() if headers.get(name) != value}
    if wrong or "content-length" in headers:
        raise Refused(f"head of a streamed answer: {wrong}")


def read_chunks(stream: BufferedIOBase, trailers: dict[str, str]) -> Iterator[bytes]:
    """Read a chunked body, piece by piece as it was sent; a chunk of no bytes is its end, meant or not."""
    while True:
        size = stream.readline()
        if not re.fullmatch(rb"[0-9a-f]+\r\n", size):
            raise Refused(f"no chunk size: {size[:80]!r}")
        if int(size, 16) == 0:
            trailers.update(read_headers(stream))
            return
        data = stream.read(int(size, 16))
        if stream.read(2) != b"\r\n":
            raise Refused("a chunk is longer than it says")
        yield data


def read_error(headers: dict[str, str], stream: BufferedIOBase) -> dict[str, Any]:
    """Read what a runtime tells of an error."""
    error: dict[str, Any] = json.loads(stream.read(int(headers["content-length"])))
    if not re.fullmatch(r"(Runtime|Function)\.[A-Z][A-Za-z]+", headers.get(ERROR_TYPE, "")):
        raise Refused(f"error type {headers.get(ERROR_TYPE)}")
    if error.keys() != {"errorType", "errorMessage", "stackTrace"}:
        raise Refused(f"error of {set(error)}")
    return error


def read_headers(stream: BufferedIOBase) -> dict[str, str]:
    """Read header lines up to the empty one."""
    headers: dict[str, str] = {}
    while (line := stream.readline()) != b"\r\n":
        name, colon, value = line.decode().rstrip("\r\n").partition(": ")
        if not colon or not line.endswith(b"\r\n"):
            raise Refused(f"no header: {line[:80]!r}")
        headers[name.lower()] = value
    return headers


class _Connection(socketserver.StreamRequestHandler):
    server: "_Server"

    def handle(self) -> None:
        api = self.server.api
        line = self.rfile.readline()
        if not line:  # a process was ended before it asked
            return
        try:
            method, path, _ = line.decode().split(" ")
            status, headers, body = api.handle(method, path, read_headers(self.rfile), self.rfile)
        except (Refused, KeyError, ValueError) as problem:  # the last two: what is no JSON, or has no length
            api.problems.append(str(problem) or repr(problem))
            status, headers, body = 400, {}, b""
        except ConnectionAbortedError:
            self.close(path)
            return
        lines = {"Content-Length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.wfile.write(f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode() + body)
        if status == 202:
            with suppress(ConnectionResetError):  # a process was ended before it read the answer
                if self.rfile.read(1):
                    api.problems.append("bytes after the end, or a second request on the connection")
            self.close(path)

    def close(self, path: str) -> None:
        for exchange in self.server.api.exchanges.values():
            if exchange.id in path:
                exchange.closed.set()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = True

    def __init__(self, api: FakeRuntimeApi) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.api = api


@contextmanager
def serving(prefix: str = "") -> Iterator[FakeRuntimeApi]:
    """Serve for as long as the block runs; afterwards no rule may have been broken."""
    api = FakeRuntimeApi(prefix=prefix)
    with _Server(api) as server:
        api.address = f"127.0.0.1:{server.server_address[1]}{prefix}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield api
        finally:
            api.closed = True
            server.shutdown()
            thread.join()
    assert not api.problems, api.problems
