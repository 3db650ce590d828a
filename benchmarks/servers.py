"""Servers as real processes on this machine: the fake model, the floor, Parley.

On Linux the server under test has a core of its own, and the model shares another one with the client.
"""

import http.client
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

ROOT: Final = Path(__file__).resolve().parents[1]
READY_SECONDS: Final = 30.0

_CORES: Final = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
_PINNED: Final = len(_CORES) > 1
_URL: Final = re.compile(rb"http://127\.0\.0\.1:(\d+)")
_OURS: Final = ("PARLEY_", "ANTHROPIC_", "AWS_")


@dataclass(frozen=True, slots=True)
class Server:
    """A process that answers at `url`; `started_ms` from its start to its first answer."""

    url: str
    pid: int
    started_ms: float

    def cpu_ms(self) -> float:
        """Processor time that its threads have used so far."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        if nanoseconds := sum(int(task.read_text().split()[0]) for task in tasks):
            return nanoseconds / 1e6
        fields = _proc(self.pid, "stat").rpartition(")")[2].split()  # in ticks of 10 ms
        return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        """Memory that it holds now."""
        for line in _proc(self.pid, "status").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0


def prepare() -> None:
    """Give this process, and those it starts, all the files it may have, and the client's core."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS refuses what it calls unlimited
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if _PINNED:
        os.sched_setaffinity(0, {_CORES[0]})


def where() -> str:
    """Say which process runs where."""
    return f"server on core {_CORES[1]}, model and client on core {_CORES[0]}" if _PINNED else "not pinned"


@contextmanager
def model(*, flat: bool = False) -> Iterator[Server]:
    """Run the fake of the Messages API; `flat`: one whose own time hardly depends on what it is sent."""
    strict = ["tests/fakes/anthropic_server.py", "--port", "0"]
    command = [sys.executable, *(["-m", "benchmarks.flat_model"] if flat else strict)]
    with _running(command, {}, under_test=False) as server:
        yield server


@contextmanager
def floor(model_url: str) -> Iterator[Server]:
    """Run the floor."""
    command = [sys.executable, "-m", "benchmarks.floor"]
    with _running(command, _model(model_url), under_test=True) as server:
        yield server


@contextmanager
def parley(model_url: str, folder: Path, **settings: str) -> Iterator[Server]:
    """Run Parley's dev server over a data folder."""
    environment = {"PARLEY_DATA": str(folder), "PARLEY_PORT": "0", "PARLEY_AGENT": "benchmarks.agent:agent"}
    command = [sys.executable, "-m", "parley.dev"]
    with _running(command, environment | _model(model_url) | settings, under_test=True) as server:
        yield server


@contextmanager
def data_folder() -> Iterator[Path]:
    """Give an empty folder on a real disk (a commit is a flush), and remove it."""
    parent = ROOT / ".parley"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as folder:
        yield Path(folder)


def _model(url: str) -> dict[str, str]:
    return {"ANTHROPIC_API_KEY": "test", "ANTHROPIC_BASE_URL": url} if url else {}


@contextmanager
def _running(command: Sequence[str], settings: dict[str, str], *, under_test: bool) -> Iterator[Server]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # else every start compiles everything anew
    kept["PYTHONPYCACHEPREFIX"] = str(ROOT / ".parley" / "bench-bytecode")
    with tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=kept | settings, stdout=subprocess.PIPE, stderr=errors)
        try:
            if _PINNED and under_test:
                os.sched_setaffinity(process.pid, {_CORES[1]})
            port = _port(process, errors)
            _await_answer(port, process, errors)
            started_ms = (time.perf_counter() - began) * 1000
            yield Server(f"http://127.0.0.1:{port}", process.pid, started_ms)
        finally:
            _end(process)


def _port(process: subprocess.Popen[bytes], errors: IO[bytes]) -> int:
    """Read the port from what the server prints first."""
    assert process.stdout is not None, "it was opened as a pipe"
    for line in process.stdout:
        if found := _URL.search(line):
            return int(found[1])
    raise _failure(process, errors)


def _await_answer(port: int, process: subprocess.Popen[bytes], errors: IO[bytes]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.002)
        finally:
            connection.close()
    raise _failure(process, errors)


def _failure(process: subprocess.Popen[bytes], errors: IO[bytes]) -> RuntimeError:
    errors.seek(0)
    told = errors.read().decode(errors="replace")[-2000:]
    return RuntimeError(f"{process.args!r} did not start:\n{told}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout:
        process.stdout.close()


def _proc(pid: int, name: str) -> str:
    path = Path(f"/proc/{pid}/{name}")
    return path.read_text() if path.exists() else ") " + "0 " * 50
