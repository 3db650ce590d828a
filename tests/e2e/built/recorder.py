"""Stands between the functions and the emulator of AWS, and writes down who asked for what.

A function shows who it is as it does on AWS: by its credentials. Here their id is the function's name.
"""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

from tests.integration.permissions import Call

CREDENTIAL = re.compile(r"Credential=(?P<function>\w+)/\d+/[\w-]+/(?P<service>\w+)/aws4_request")

S3_OPERATIONS = {
    ("GET", "key"): "GetObject",
    ("PUT", "key"): "PutObject",
    ("DELETE", "key"): "DeleteObject",
    ("GET", "list-type"): "ListObjectsV2",
    ("POST", "delete"): "DeleteObjects",
}
"""By method, and what the address says besides the bucket. What is missing is no call of ours."""

NONSENSE = b'{"Items": [{"PK": {}}]}'
"""A value of no type: what no code expects of DynamoDB."""


@dataclass
class Recorder:
    """What was asked for so far."""

    url: str
    calls: list[Call] = field(default_factory=list)
    garbled: set[str] = field(default_factory=set)
    """Functions to which AWS talks nonsense for now."""

    def of(self, function: str, operation: str) -> list[Call]:
        """Return a function's calls of an operation."""
        return [call for call in self.calls if (call.function, call.operation) == (function, operation)]


def call_of(method: str, address: str, headers: Message, body: bytes) -> Call:
    """Read a request as the call that it is: JSON services name it in a header, S3 by method and address."""
    credential = CREDENTIAL.search(headers["Authorization"])
    assert credential, headers["Authorization"]
    function, service = credential["function"], credential["service"]
    if target := headers.get("X-Amz-Target"):
        return Call(service, target.partition(".")[2], json.loads(body), function)
    parts = urlsplit(address)
    bucket, _, key = parts.path.removeprefix("/").partition("/")
    said = ["key"] if key else list(parse_qs(parts.query, keep_blank_values=True))
    [operation] = {S3_OPERATIONS[method, word] for word in said if (method, word) in S3_OPERATIONS}
    return Call(service, operation, {"Bucket": bucket} | ({"Key": unquote(key)} if key else {}), function)


@contextmanager
def recording(endpoint: str) -> Iterator[Recorder]:
    """Pass everything on to an endpoint, until the block ends."""
    place = urlsplit(endpoint).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            call = call_of(self.command, self.path, self.headers, body)
            recorder.calls.append(call)
            if call.function in recorder.garbled:
                self.answer(200, {}, NONSENSE)
                return
            with closing(HTTPConnection(place, timeout=30)) as connection:
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                self.answer(answer.status, dict(answer.headers), answer.read())

        do_GET = do_PUT = do_POST = do_DELETE = forward  # noqa: N815 - the names that http.server looks for

        def answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        disable_nagle_algorithm = True
        block_on_close = False  # a function that waits for its next event keeps its connections

    with Server(("127.0.0.1", 0), Handler) as server:
        recorder = Recorder(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join()
