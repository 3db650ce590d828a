"""A server as a process, for as long as a block runs."""

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 15.0


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def serving(
    command: Sequence[str], port: int, *, environment: Mapping[str, str], cwd: Path | None = None
) -> Iterator[Path]:
    """Run a server until the block ends, which begins when it listens; yields the file of its output.

    An error that leaves the block carries the output as a note.
    """
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "output"
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=cwd, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            wait_for(process, port)
            yield log
        except BaseException as error:
            error.add_note(f"{Path(command[0]).name} wrote:\n{log.read_text(errors='replace')[-20_000:]}")
            raise
        finally:
            end(process)


def wait_for(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise TimeoutError(f"nobody listens on {port}")


def end(process: "subprocess.Popen[bytes]") -> None:
    """Ask a process to end, so that it ends its own; after some seconds, end it."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
