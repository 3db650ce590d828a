"""A function as a process of its own, started as Lambda starts it: by the exec wrapper, with a command line and an
environment, on a Runtime API that somebody else serves.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RUNTIME_LAYER = Path(__file__).resolve().parents[1] / "layers/runtime"
KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "PYENV_VERSION")
"""Of the tests' own environment; all else is what Lambda sets, or what the test gives."""


@dataclass
class LambdaProcess:
    """A function that runs, and what it wrote."""

    popen: "subprocess.Popen[bytes]"
    log: Path

    def output(self) -> str:
        """Read what it wrote so far, standard output and error together."""
        return self.log.read_text(errors="replace")

    def kill(self) -> None:
        """End it as Lambda does: at once."""
        self.popen.kill()
        self.popen.wait()


@contextmanager
def started(
    folder: Path,
    runtime_api: str,
    *,
    layers: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
    interpreter: Sequence[str] = (sys.executable,),
    wrapper: Path = RUNTIME_LAYER / "parley-runtime",
) -> Iterator[LambdaProcess]:
    """Start the function in `folder` for as long as the block runs; `layers` are folders of Python packages.

    An error that leaves the block carries the function's output as a note.
    """
    given = {
        **{name: os.environ[name] for name in KEPT if name in os.environ},
        "AWS_LAMBDA_RUNTIME_API": runtime_api,
        "AWS_LAMBDA_FUNCTION_NAME": folder.name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": "INFO",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "LAMBDA_TASK_ROOT": str(folder),
        "_HANDLER": "app.handler",
        "PYTHONPATH": os.pathsep.join(map(str, layers)),
        "PYTHONDONTWRITEBYTECODE": "1",
        **(environment or {}),
    }
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "output"
        with log.open("wb") as output:
            command = [str(wrapper), *interpreter, "/var/runtime/bootstrap.py"]
            popen = subprocess.Popen(command, cwd=folder, env=given, stdout=output, stderr=subprocess.STDOUT)
        process = LambdaProcess(popen, log)
        try:
            yield process
        except BaseException as error:
            error.add_note(f"{folder.name} wrote:\n{process.output()}")
            raise
        finally:
            process.kill()
