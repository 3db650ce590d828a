"""The Runtime API, but for streamed answers: what to do next, and how it went.

Source: "Using the Lambda runtime API for custom runtimes" (Lambda Developer Guide, read 2026-11-20). Every call has a
connection of its own: the process may have been frozen for hours since the last.
"""

import json
import re
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPMessage
from typing import Any


@dataclass(frozen=True, slots=True)
class Invocation:
    """One event to handle."""

    id: str
    headers: HTTPMessage
    event: Any

    @property
    def echoed(self) -> dict[str, str]:
        """Name what goes back with the answer as it came; `awslambdaric` 4.2.2 does so, AWS's RIE sends it."""
        name = "Lambda-Runtime-Invocation-Id"
        return {name: self.headers[name]} if name in self.headers else {}


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as Lambda wants it told."""

    kind: str
    message: str

    def body(self) -> bytes:
        """Write the error; no stack, because Lambda hands this to whoever invoked the function."""
        return json.dumps({"errorType": self.kind, "errorMessage": self.message, "stackTrace": []}).encode()


def failure(side: str, error: BaseException, message: str = "The function failed; its log says where.") -> Failure:
    """Tell an error of one side, `Runtime` or `Function`, by its type: its message may quote a request.

    AWS's RIE renames what does not match `(Runtime|Function).[A-Z][A-Za-z]+` (run 2026-11-20).
    """
    name = type(error).__name__
    return Failure(f"{side}.{name if re.fullmatch('[A-Z][A-Za-z]+', name) else 'Error'}", message)


class RuntimeApi:
    """A client of the Runtime API at an address as AWS_LAMBDA_RUNTIME_API has it."""

    def __init__(self, address: str) -> None:
        # Lambda gives host:port; cargo-lambda's emulator, which serves many functions, host:port/.rt/name.
        self.authority, slash, prefix = address.partition("/")
        self.path = f"{slash}{prefix.rstrip('/')}/2018-06-01/runtime"
        parsed = HTTPConnection(self.authority)
        self.host, self.port = parsed.host, parsed.port

    def next(self) -> Invocation:
        """Wait for an event, without end: the process is frozen while it waits.

        Raises:
            RuntimeError: the answer is an error, after which a runtime is to end.
        """
        while (answer := self._call("GET", "/invocation/next"))[0] == 204:
            pass  # nothing came while the API was willing to wait
        status, headers, body = answer
        if status != 200:
            raise RuntimeError(f"next invocation: status {status}")
        return Invocation(headers["Lambda-Runtime-Aws-Request-Id"], headers, json.loads(body))

    def respond(self, invocation: Invocation, answer: bytes) -> int:
        """Answer in one piece of JSON; return the status."""
        headers = {"Content-Type": "application/json", **invocation.echoed}
        return self._call("POST", f"/invocation/{invocation.id}/response", answer, headers)[0]

    def fail(self, path: str, failed: Failure, echoed: dict[str, str] | None = None) -> int:
        """Tell a failure to where it belongs; return the status."""
        kind = {"Lambda-Runtime-Function-Error-Type": failed.kind}
        headers = {"Content-Type": "application/vnd.aws.lambda.error+json", **kind, **(echoed or {})}
        return self._call("POST", path, failed.body(), headers)[0]

    def wait_for_restore(self) -> None:
        """Let the snapshot be taken; every process that is restored from it goes on from here.

        Raises:
            RuntimeError: the answer is an error.
        """
        status, _, _ = self._call("GET", "/restore/next")
        if status != 200:
            raise RuntimeError(f"restore: status {status}")

    def _call(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, HTTPMessage, bytes]:
        connection = HTTPConnection(self.authority)
        try:
            connection.request(method, self.path + path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()
