"""Real processes for the end-to-end tests: the dev server, and the fake Anthropic server that stands alone."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
START_SECONDS = 30.0


@dataclass
class Process:
    """A server that runs; `url` is where."""

    popen: "subprocess.Popen[str]"
    url: str
    reader: threading.Thread
    output: list[str] = field(default_factory=list)

    def kill(self) -> None:
        """End it the hard way, as a power cut does."""
        self.popen.send_signal(signal.SIGKILL)
        self.popen.wait()
        self.reader.join()

    def stop(self) -> None:
        """End it the way an operator does; it has some seconds."""
        self.popen.terminate()
        try:
            self.popen.wait(15)
            self.reader.join()
        except subprocess.TimeoutExpired:
            self.kill()


def start(arguments: list[str], pattern: str, environment: dict[str, str]) -> Process:
    """Start a server and wait for the line that tells its address."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PARLEY_", "ANTHROPIC_", "AWS_"))}
    popen = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=kept | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    output: list[str] = []
    ready = threading.Event()
    address: list[str] = []

    def read() -> None:
        with popen:
            for line in popen.stdout or ():
                output.append(line)
                if not address and (match := re.search(pattern, line)):
                    address.append(match.group(1))
                    ready.set()
        ready.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    if not ready.wait(START_SECONDS) or not address:
        popen.kill()
        raise RuntimeError(f"{arguments} did not start:\n{''.join(output)}")
    return Process(popen, address[0], reader, output)


@contextmanager
def running(make: Callable[[], Process]) -> Iterator[Process]:
    """Run a server for the length of a block."""
    process = make()
    try:
        yield process
    finally:
        process.stop()


def fake_anthropic() -> Process:
    """Start the strict fake of the Messages API."""
    return start(["tests/fakes/anthropic_server.py", "--port", "0"], r"listening on (http://\S+)", {})


def parley(data: Path, **environment: str) -> Process:
    """Start the dev server on a free port over a data folder."""
    defaults = {
        "PARLEY_PORT": "0",
        "PARLEY_DATA": str(data),
        "WALLET_LEDGER": str(data / "ledger.jsonl"),
        "PARLEY_AGENT": "agent:agent,tests.e2e.desk:agent",
        "PARLEY_SCRIPTED_DELAY_SECONDS": "0",
    }
    return start(["-m", "parley.dev"], r"ready on (http://\S+)", defaults | environment)


def with_claude(fake: Process) -> dict[str, str]:
    """Settings that make the server call the fake."""
    return {"ANTHROPIC_API_KEY": "test-key", "ANTHROPIC_BASE_URL": fake.url}


def client(process: Process) -> httpx.Client:
    """Make an HTTP client."""
    return httpx.Client(base_url=process.url, timeout=30)
