"""AWS's Runtime Interface Emulator, from the wheel of the SAM command line: Lambda's own state machine of what may
follow what. It starts the function itself and answers in one piece.

Source: the binary in aws-sam-cli 1.170.0, run 2026-11-20. Its usual mode ignores trailers. With
AWS_LAMBDA_MAX_CONCURRENCY it is the emulator of Lambda's managed instances, which reads them; then it insists on
starting /var/runtime/bootstrap in /var/task as uid 993, so it gets a /var of its own in a mount namespace, which only
root may make.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import httpx
import pytest

from tests.e2e.emulators.servers import free_port, serving
from tests.lambda_process import KEPT, RUNTIME_LAYER

TOOLS = Path(__file__).resolve().parents[3] / ".tools"
MACHINE = {"x86_64": "x86_64", "AMD64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}.get(platform.machine(), "none")
RIE = f"sam/lib/python3.*/site-packages/samcli/local/rapid/aws-lambda-rie-{MACHINE}"

PYTHON = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")

NAMESPACE = """
    set -eu
    mkdir "$PLACE/var"
    mount --rbind /var "$PLACE/var"
    mount -t tmpfs none /var
    for each in "$PLACE"/var/*; do ln -s "$each" /var/; done
    bind() { mkdir "/var/$2"; mount --rbind "$1" "/var/$2"; }
    bind "$TASK" task
    bind "$LAYER" layer
    bind "$PYTHON" lang
    mkdir /var/runtime
    printf '#!/bin/sh\\nexec env %s\\n' "$FUNCTION" >/var/runtime/bootstrap
    chmod 755 /var/runtime/bootstrap
    exec "$@"
"""
"""Makes the places of a Lambda; `$1` and on is run there. Nothing of it is seen outside."""


@dataclass(frozen=True)
class Rie:
    """An emulator that runs."""

    url: str
    log: Path

    def invoke(self, event: Any) -> httpx.Response:
        """Invoke its function, and wait for the whole answer."""
        return httpx.post(f"{self.url}/2015-03-31/functions/function/invocations", json=event, timeout=30)

    def output(self) -> str:
        """Read what emulator and function wrote."""
        return self.log.read_text(errors="replace")


@contextmanager
def running(
    folder: Path,
    *,
    layers: Sequence[Path] = (),
    environment: Mapping[str, str] | None = None,
    interpreter: Sequence[str] = (sys.executable,),
    wrapper: Path = RUNTIME_LAYER / "parley-runtime",
) -> Iterator[Rie]:
    """Run the function in `folder`, under the exec wrapper; `layers` are folders of Python packages."""
    given = {
        "LAMBDA_TASK_ROOT": str(folder),
        "PYTHONPATH": os.pathsep.join(map(str, layers)),
        **(environment or {}),
    }
    start = [*function(given), str(wrapper), *interpreter, "/var/runtime/bootstrap.py"]
    with started(["env", *start], {}) as rie:
        yield rie


@contextmanager
def reading_trailers(
    folder: Path,
    place: Path,
    *,
    layer: Path = RUNTIME_LAYER,
    environment: Mapping[str, str] | None = None,
    python: Path = PYTHON,
    wrapper: str = "parley-runtime",
) -> Iterator[Rie]:
    """Run the function in `folder` as on a managed instance; skips unless root.

    What it needs is under `layer`, for the function `/var/layer`; else it has the standard library alone.
    """
    allowed = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/var"]
    if not shutil.which("unshare") or subprocess.run(allowed, capture_output=True, check=False).returncode:
        pytest.skip("needs root, and the right to mount")
    given = function({"LAMBDA_TASK_ROOT": "/var/task", **(environment or {})})
    start = [*given, f"/var/layer/{wrapper}", f"/var/lang/bin/{python.name}", "-S", "/var/runtime/bootstrap.py"]
    surroundings = {
        "AWS_LAMBDA_MAX_CONCURRENCY": "1",
        "PLACE": str(place),
        "TASK": str(folder),
        "LAYER": str(layer),
        "PYTHON": str(python.parents[1]),
        "FUNCTION": " ".join(start),
    }
    with started(["bootstrap"], surroundings, within=["unshare", "--mount", "sh", "-c", dedent(NAMESPACE), "-"]) as rie:
        yield rie


def function(environment: Mapping[str, str]) -> list[str]:
    """Name the environment of a function, which the emulator does not set as Lambda does."""
    given = {"_HANDLER": "app.handler", "AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO", **environment}
    return [f"{name}={value}" for name, value in given.items()]


@contextmanager
def started(command: Sequence[str], surroundings: Mapping[str, str], within: Sequence[str] = ()) -> Iterator[Rie]:
    """Run the emulator until the block ends."""
    found = next(TOOLS.glob(RIE), None)
    if found is None:
        pytest.skip("needs the SAM command line: make sam")
    port, runtime_port = free_port(), free_port()
    listens = ["--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    serves = ["--runtime-api-address", f"127.0.0.1:{runtime_port}", "--log-level", "debug"]
    environment = {name: os.environ[name] for name in KEPT if name in os.environ} | dict(surroundings)
    with serving([*within, str(found), *listens, *serves, *command], port, environment=environment) as log:
        yield Rie(f"http://127.0.0.1:{port}", log)
