"""The fake Runtime API refuses what breaks the protocol: a runtime that passes it has kept the rules."""

import json
import socket
import time
from contextlib import closing

import pytest

from tests.fakes.runtime_api import Exchange, FakeRuntimeApi, serving

PRELUDE = json.dumps({"statusCode": 200, "headers": {}, "multiValueHeaders": {}, "cookies": []}).encode()
DELIMITER = bytes(8)
HEAD = {
    "Content-Type": "application/vnd.awslambda.http-integration-response",
    "Lambda-Runtime-Function-Response-Mode": "streaming",
    "Transfer-Encoding": "chunked",
    "Trailer": "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
    "Connection": "close",
}


def call(api: FakeRuntimeApi, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> int:
    """Send one request on a connection of its own; return the status."""
    host, _, port = api.address.partition(":")
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    with closing(socket.create_connection((host, int(port)))) as connection:
        connection.sendall(f"{method} /2018-06-01/runtime{path} HTTP/1.1\r\n{head}\r\n".encode() + body)
        return int(connection.recv(65536).split()[1])


def running(api: FakeRuntimeApi) -> Exchange:
    exchange = api.invoke({})
    assert call(api, "GET", "/invocation/next", {}) == 200
    return exchange


def chunks(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + end


def respond(api: FakeRuntimeApi, exchange: Exchange, body: bytes, **changes: str | None) -> int:
    """Answer an invocation; `changes` replace headers or, with None, leave them out."""
    named = {name.replace("_", "-"): value for name, value in changes.items()}
    headers = {"Lambda-Runtime-Invocation-Id": f"opaque-{exchange.id}", **HEAD, **named}
    kept = {name: value for name, value in headers.items() if value is not None}
    return call(api, "POST", f"/invocation/{exchange.id}/response", kept, body)


def noted(problems: list[str]) -> list[str]:
    """Wait for what is noted after the answer."""
    deadline = time.monotonic() + 5
    while not problems and time.monotonic() < deadline:
        time.sleep(0.01)
    taken = list(problems)
    problems.clear()
    return taken


def test_what_keeps_the_rules_is_taken() -> None:
    with serving() as api:
        exchange = running(api)
        trailers = b"0\r\nLambda-Runtime-Function-Error-Type: a\r\nLambda-Runtime-Function-Error-Body: b\r\n\r\n"

        status = respond(api, exchange, chunks(PRELUDE, DELIMITER, b"body", end=trailers))

        assert (status, exchange.body()) == (202, b"body")
        assert set(exchange.trailers.values()) == {"a", "b"}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param(chunks(PRELUDE, DELIMITER, b"", b"body"), "bytes after the end", id="a chunk of no bytes"),
        pytest.param(chunks(PRELUDE, b"body"), "no delimiter", id="no delimiter"),
        pytest.param(chunks(PRELUDE, bytes(7)), "no delimiter", id="a short delimiter"),
        pytest.param(chunks(PRELUDE + DELIMITER), "Extra data", id="the delimiter in the prelude's chunk"),
        pytest.param(chunks(b'{"statusCode": 200}', DELIMITER), "no prelude", id="a prelude without cookies"),
        pytest.param(chunks(PRELUDE + b" " * 16_384, DELIMITER), "no delimiter", id="a delimiter too late"),
        pytest.param(b"4\r\nbodies\r\n", "longer than it says", id="a wrong size"),
        pytest.param(b"no size\r\n", "no chunk size", id="no size"),
        pytest.param(
            chunks(PRELUDE, DELIMITER, end=b"0\r\nX-Other: 1\r\n\r\n"), "were announced", id="an unannounced trailer"
        ),
        pytest.param(chunks(PRELUDE, DELIMITER) + b"GET", "bytes after the end", id="a second request"),
    ],
)
def test_a_body_that_breaks_a_rule_is_a_problem(body: bytes, problem: str) -> None:
    with serving() as api:
        respond(api, running(api), body)

        [noticed] = noted(api.problems)

    assert problem in noticed


@pytest.mark.parametrize(
    "changes",
    [
        {"Transfer_Encoding": None},
        {"Content_Type": "application/json"},
        {"Connection": None},
        {"Content_Length": "12"},
        {"Lambda_Runtime_Invocation_Id": None},
    ],
    ids=str,
)
def test_a_head_that_breaks_a_rule_is_a_problem(changes: dict[str, str | None]) -> None:
    with serving() as api:
        status = respond(api, running(api), chunks(PRELUDE, DELIMITER), **changes)

        assert status == 400
        assert noted(api.problems)


def test_a_second_answer_is_a_problem() -> None:
    with serving() as api:
        exchange = running(api)

        statuses = [respond(api, exchange, chunks(PRELUDE, DELIMITER)) for _ in range(2)]

        assert statuses == [202, 400]
        assert noted(api.problems) == [f"{exchange.id} is done"]


def test_asking_for_the_next_event_before_the_answer_is_a_problem() -> None:
    with serving() as api:
        running(api)

        assert call(api, "GET", "/invocation/next", {}) == 400
        assert noted(api.problems)


def test_asking_for_the_next_event_on_an_unclosed_answer_is_a_problem() -> None:
    with serving() as api:
        exchange = running(api)
        host, _, port = api.address.partition(":")
        told = f"Lambda-Runtime-Invocation-Id: opaque-{exchange.id}\r\nContent-Length: 2\r\n\r\n{{}}"
        with closing(socket.create_connection((host, int(port)))) as connection:
            connection.sendall(
                f"POST /2018-06-01/runtime/invocation/{exchange.id}/response HTTP/1.1\r\n{told}".encode()
            )
            assert connection.recv(65536).startswith(b"HTTP/1.1 202 ")

            assert call(api, "GET", "/invocation/next", {}) == 400

        assert "was closed" in noted(api.problems)[0]


@pytest.mark.parametrize("kind", ["", "ValueError", "Function.value_error"])
def test_an_error_without_a_type_of_lambdas_form_is_a_problem(kind: str) -> None:
    with serving() as api:
        told = json.dumps({"errorType": kind, "errorMessage": "", "stackTrace": []}).encode()
        headers = {"Content-Length": str(len(told)), "Lambda-Runtime-Function-Error-Type": kind}

        assert call(api, "POST", "/init/error", headers, told) == 400
        assert noted(api.problems)


def test_a_broken_rule_fails_the_test_that_it_was_broken_in() -> None:
    def break_a_rule() -> None:
        with serving() as api:
            call(api, "GET", "/invocation/last", {})

    with pytest.raises(AssertionError, match="no such call"):
        break_a_rule()


def test_when_nothing_comes_the_answer_is_204() -> None:
    with serving() as api:
        assert call(api, "GET", "/invocation/next", {}) == 204
