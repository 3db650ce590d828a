"""A DynamoDB that answers what a test tells it to: no emulator ever conflicts, throttles or loses an answer."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Answer:
    """One answer; `lost` closes the connection in its place, `slow` waits first."""

    status: int = 200
    body: dict[str, Any] = field(default_factory=dict)
    lost: bool = False
    slow_seconds: float = 0


def refusal(code: str, message: str = "", status: int = 400, **more: Any) -> Answer:
    """Build an error as DynamoDB words it."""
    return Answer(status, {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": message, **more})


def cancelled(*reasons: str | dict[str, Any]) -> Answer:
    """Build a cancelled transaction, with one reason for each of its ops."""
    written = [{"Code": reason} if isinstance(reason, str) else reason for reason in reasons]
    return refusal("TransactionCanceledException", "Transaction cancelled", CancellationReasons=written)


@dataclass
class Endpoint:
    """Gives its answers in order, then empty ones; keeps what it was asked."""

    url: str
    answers: list[Answer] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def tokens(self) -> list[str]:
        """Return the token of each transaction."""
        return [body["ClientRequestToken"] for _, body in self.calls]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    endpoint: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.endpoint.calls.append((self.headers["X-Amz-Target"].partition(".")[2], body))
        answer = self.endpoint.answers.pop(0) if self.endpoint.answers else Answer()
        if answer.slow_seconds:
            self.endpoint.over.wait(answer.slow_seconds)
        if answer.lost or answer.slow_seconds:
            self.close_connection = True
            return
        written = json.dumps(answer.body).encode()
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.send_header("Content-Length", str(len(written)))
        self.end_headers()
        self.wfile.write(written)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[Endpoint]:
    """Listen on a free port of this machine."""

    class Handler(_Handler):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Handler.endpoint = endpoint = Endpoint(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield endpoint
        finally:
            endpoint.over.set()
            server.shutdown()
            thread.join()
