"""The loop on emulators that we did not write: pieces leave as they are made, and every invocation is legal."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.e2e.emulators import cargo_lambda, rie
from tests.e2e.emulators.cargo_lambda import CargoLambda
from tests.e2e.emulators.rie import Rie
from tests.lambda_process import LambdaProcess, started

pytestmark = pytest.mark.xdist_group("processes")

REQUEST: dict[str, Any] = json.loads((Path(__file__).parents[2] / "events/execute.json").read_text())
PIECES = 5
DELIMITER = bytes(8)

APP = """
    import asyncio, json, pathlib

    async def handler(scope, receive, send):
        wish = json.loads((await receive())["body"])
        if wish.get("fails") == "early":
            raise LookupError("early")
        headers = [(b"content-type", b"text/event-stream"), (b"x-twice", b"1"), (b"x-twice", b"2")]
        headers += [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
        await send({"type": "http.response.start", "status": 201, "headers": headers})
        for number in range(wish["pieces"]):
            while "permits" in wish and not pathlib.Path(wish["permits"], str(number)).exists():
                await asyncio.sleep(0.001)
            data = b"data: %d\\n\\n" % number
            await send({"type": "http.response.body", "body": data, "more_body": True})
        if wish.get("fails") == "late":
            raise LookupError("late")
        left = scope["aws.context"].get_remaining_time_in_millis()
        await send({"type": "http.response.body", "body": b": %d ms left\\n\\n" % left})
"""


def request(**wish: Any) -> dict[str, Any]:
    """Ask the probe for pieces; `permits` is a folder where a file appears for each that it may send."""
    return REQUEST | {"body": json.dumps({"pieces": PIECES} | wish)}


@pytest.fixture
def task(tmp_path: Path) -> Path:
    folder = tmp_path / "probe"
    folder.mkdir()
    (folder / "app.py").write_text(dedent(APP))
    return folder


@pytest.fixture
def emulator() -> Iterator[CargoLambda]:
    with cargo_lambda.running("probe", "other") as emulator:
        yield emulator


@pytest.fixture
def process(emulator: CargoLambda, task: Path) -> Iterator[LambdaProcess]:
    with started(task, emulator.runtime_api("probe")) as process:
        yield process


# cargo-lambda


def test_a_client_has_a_piece_before_the_next_is_made(
    emulator: CargoLambda, process: LambdaProcess, tmp_path: Path
) -> None:
    permits = tmp_path / "permits"
    permits.mkdir()
    (permits / "0").touch()

    received = []
    with emulator.invoke("probe", request(permits=str(permits))) as response:
        for piece in response.iter_raw():
            received.append(piece)
            (permits / str(len(received))).touch()

    assert [piece for piece in received if b"data" in piece] == [b"data: %d\n\n" % number for number in range(PIECES)]
    assert response.status_code == 201
    assert response.headers["content-type"] == "text/event-stream"
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]


def test_the_time_that_is_left_is_what_the_emulator_gives(emulator: CargoLambda, process: LambdaProcess) -> None:
    with emulator.invoke("probe", request(pieces=0)) as response:
        [left] = [int(word) for word in response.read().split() if word.isdigit()]

    assert 500_000 < left <= 600_000


def test_a_function_goes_on_when_its_client_leaves_and_takes_the_next(
    emulator: CargoLambda, process: LambdaProcess, tmp_path: Path
) -> None:
    permits = tmp_path / "permits"
    permits.mkdir()
    (permits / "0").touch()

    with emulator.invoke("probe", request(permits=str(permits))) as response:
        assert next(response.iter_raw()) == b"data: 0\n\n"
    for number in range(PIECES):
        (permits / str(number)).touch()
    with emulator.invoke("probe", request(pieces=1)) as following:
        body = following.read()

    assert body.startswith(b"data: 0\n\n")
    assert process.popen.poll() is None


def test_a_failure_before_the_first_byte_is_the_invocations(emulator: CargoLambda, process: LambdaProcess) -> None:
    with emulator.invoke("probe", request(fails="early")) as response:
        told = json.loads(response.read())

    assert told["errorType"] == "Function.LookupError"


def test_many_clients_are_served_one_after_the_other(emulator: CargoLambda, process: LambdaProcess) -> None:
    bodies: list[bytes] = []

    def ask() -> None:
        with emulator.invoke("probe", request()) as response:
            bodies.append(response.read())

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()

    assert len(bodies) == 8
    assert all(body.count(b"data: ") == PIECES for body in bodies)


# AWS's RIE


@pytest.fixture
def legal(task: Path) -> Iterator[Rie]:
    """Run the emulator; at its end neither it nor the loop may have met anything that is not allowed."""
    with rie.running(task) as emulator:
        yield emulator
        assert not refusals(emulator)


def refusals(emulator: Rie) -> list[str]:
    wrong = ("answer_refused", "InvalidStateTransition", "State transition", "Traceback", "InvalidInvokeId")
    return [line for line in emulator.output().splitlines() if any(each in line for each in wrong)]


def test_an_invocation_is_legal(legal: Rie) -> None:
    answers = [legal.invoke(request()) for _ in range(3)]

    for answer in answers:
        prelude, _, body = answer.content.partition(DELIMITER)
        assert json.loads(prelude) == {
            "statusCode": 201,
            "headers": {"content-type": "text/event-stream"},
            "multiValueHeaders": {"x-twice": ["1", "2"]},
            "cookies": ["a=1", "b=2"],
        }
        assert body.startswith(b"".join(b"data: %d\n\n" % number for number in range(PIECES)))
    assert legal.output().count("INVOKE RTDONE(status: success") == 3


def test_a_late_failure_is_legal_and_the_next_invocation_works(legal: Rie) -> None:
    late, after = legal.invoke(request(fails="late")), legal.invoke(request())

    assert late.content.endswith(b"data: 4\n\n")
    assert after.content.endswith(b" ms left\n\n")


def test_an_early_failure_is_legal_and_the_next_invocation_works(legal: Rie) -> None:
    early, after = legal.invoke(request(fails="early")), legal.invoke(request())

    assert early.json()["errorType"] == "Function.LookupError"
    assert after.content.endswith(b" ms left\n\n")


def test_an_event_that_is_no_request_is_legal(legal: Rie) -> None:
    answer = legal.invoke({"ping": True})

    assert json.loads(answer.content.removesuffix(DELIMITER))["statusCode"] == 200


def test_a_function_that_cannot_start_tells_the_emulator(task: Path) -> None:
    (task / "app.py").write_text("import no_such_module")

    with rie.running(task) as emulator:
        answer = emulator.invoke(request())

    assert answer.json() == {
        "errorType": "Runtime.ModuleNotFoundError",
        "errorMessage": "No module named 'no_such_module'",
        "stackTrace": [],
    }


def test_trailers_are_read_as_an_error_of_the_function(task: Path, tmp_path: Path) -> None:
    with rie.reading_trailers(task, tmp_path) as emulator:
        whole, late = emulator.invoke(request()), emulator.invoke(request(fails="late"))
        after = emulator.invoke(request())

    assert "Error-Type" not in whole.headers
    assert late.headers["Error-Type"] == late.json()["errorType"] == "Function.LookupError"
    assert after.content.endswith(b" ms left\n\n")
