"""Two at once, the same twice, a thousand at once: over real sockets."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.e2e.processes import Process, client, fake_anthropic, parley, running, with_claude
from tests.e2e.streams import Frame, execute, frames, ids_of, text_of

pytestmark = pytest.mark.xdist_group("processes")

MANY = 1000
OVERLAP_SECONDS = 5.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with (
        running(fake_anthropic) as fake,
        running(lambda: parley(tmp_path_factory.mktemp("streams"), **with_claude(fake))) as process,
    ):
        yield process


def test_of_two_executes_at_once_one_runs_and_the_other_is_refused(server: Process) -> None:
    with client(server) as http:
        session_id = execute(http, "desk", "hello")[-1].data["session_id"]
        body = {"input": "[[text 20x8 delay=0.05]]", "session_id": session_id, "stream": False}
        answers: list[httpx.Response] = []
        threads = [
            threading.Thread(target=lambda: answers.append(http.post("/v1/agents/desk/execute", json=body)))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        runs = http.get(f"/v1/sessions/{session_id}/runs").json()["data"]

    assert sorted(answer.status_code for answer in answers) == [200, 409]
    refusal = next(answer for answer in answers if answer.status_code == 409)
    assert refusal.json()["code"] == "session_busy"
    assert len(runs) == 2


def test_the_same_execute_sent_twice_is_one_run_with_two_equal_streams(server: Process) -> None:
    said: dict[int, list[Frame]] = {}

    def send(place: int) -> None:
        with client(server) as http:
            said[place] = execute(http, "desk", '[[text 20x8 delay=0.05]] [[tool look {"seconds": 0.2}]]', key="once")

    threads = [threading.Thread(target=send, args=(place,)) for place in range(2)]
    threads[0].start()
    time.sleep(0.3)
    threads[1].start()
    for thread in threads:
        thread.join()
    send(2)

    assert ids_of(said[0]) == ids_of(said[1]) == ids_of(said[2])
    assert text_of(said[0]) == text_of(said[1]) == text_of(said[2])
    assert len(text_of(said[0])) > 160
    assert len({frame.data["run_id"] for frame in said[0] + said[1] + said[2]}) == 1


@dataclass
class Watch:
    """One client of many."""

    first: float = 0.0
    last: float = 0.0
    frames: list[Frame] = field(default_factory=list)


@pytest.mark.timeout(240)
def test_a_thousand_sessions_stream_at_once(server: Process) -> None:
    watches = asyncio.run(_watch_many(server.url))

    begun, ended = max(watch.first for watch in watches), min(watch.last for watch in watches)
    assert ended - begun >= OVERLAP_SECONDS
    with client(server) as http:
        for watch in watches:
            session_id = watch.frames[-1].data["session_id"]
            log = http.get(f"/v1/sessions/{session_id}/events", params={"limit": 100}).json()["data"]
            messages = [event["content"][0]["text"] for event in log if event["type"] == "agent.message"]
            assert text_of(watch.frames) == "".join(messages)
            assert set(ids_of(watch.frames)) <= {event["seq"] for event in log}
            assert ids_of(watch.frames) == sorted(ids_of(watch.frames))
            assert [event["seq"] for event in log] == list(range(1, len(log) + 1))


async def _watch_many(url: str) -> list[Watch]:
    port = int(url.rsplit(":", 1)[1])
    return await asyncio.gather(*(_watch(port, n) for n in range(MANY)))


async def _watch(port: int, n: int) -> Watch:
    """Read one stream over a plain socket: a thousand HTTP clients would be the slowest part."""
    watch = Watch()
    body = json.dumps({"input": f"[[say client {n}]] [[text 20x8 delay=0.6]]"}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /v1/agents/desk/execute HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    )
    lines: list[str] = []
    while raw := await reader.readline():
        line = raw.decode().rstrip("\r\n")
        lines.append(line)
        if line == "event: text":
            watch.first = watch.first or time.monotonic()
            watch.last = time.monotonic()
    writer.close()
    assert lines[0].startswith("HTTP/1.1 200"), lines[0]
    watch.frames = list(frames(line for line in lines if not _is_chunk_size(line)))
    return watch


def _is_chunk_size(line: str) -> bool:
    return bool(line) and all(character in "0123456789abcdef" for character in line)


def test_the_data_folder_has_what_was_said(server: Process, tmp_path: Path) -> None:
    with running(lambda: parley(tmp_path)) as other, client(other) as http:
        said = execute(http, "wallet", "What is my balance?")

    assert said[-1].event == "complete"
    assert (tmp_path / "parley.db").stat().st_size > 0
