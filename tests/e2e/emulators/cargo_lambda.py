"""cargo-lambda's emulator: it serves the Runtime API, and passes on what a function says while it says it.

Source: cargo-lambda 1.9.2, run 2026-11-20. `POST /2015-03-31/functions/<name>/invocations` takes any event, a REST
API's as well, and turns a streamed answer into HTTP: status and headers from the prelude, then the body. It is made for
Rust and asks `cargo metadata` which functions there are; a script says what it wants to hear.
"""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.emulators.servers import free_port, serving

COMMAND = Path(__file__).resolve().parents[3] / ".tools/emulators/bin/cargo-lambda"


@dataclass(frozen=True)
class CargoLambda:
    """An emulator that runs."""

    address: str
    log: Path

    def runtime_api(self, function: str) -> str:
        """Say what a function's AWS_LAMBDA_RUNTIME_API is."""
        return f"{self.address}/.rt/{function}"

    @contextmanager
    def invoke(self, function: str, event: Any, timeout: float = 30) -> Iterator[httpx.Response]:
        """Invoke a function; `iter_raw` of the answer gives pieces as they come."""
        url = f"http://{self.address}/2015-03-31/functions/{function}/invocations"
        with httpx.Client(timeout=timeout) as client, client.stream("POST", url, json=event) as response:
            yield response


@contextmanager
def running(*functions: str) -> Iterator[CargoLambda]:
    """Run the emulator for these functions; who handles their events is started apart."""
    if not COMMAND.exists():
        pytest.skip("needs cargo-lambda: sh scripts/setup emulators")
    port = free_port()
    with tempfile.TemporaryDirectory() as place:
        cargo = Path(place) / "cargo"
        cargo.write_text(f"#!/bin/sh\ncat {place}/metadata.json\n")
        cargo.chmod(0o755)
        (Path(place) / "metadata.json").write_text(json.dumps(metadata(place, functions)))
        options = ("--only-lambda-apis", "--ignore-changes", "-A", "127.0.0.1", "-P", str(port))
        command = [str(COMMAND), "lambda", "watch", *options]
        environment = {"PATH": f"{place}{os.pathsep}{os.defpath}", "HOME": place}
        with serving(command, port, environment=environment, cwd=Path(place)) as log:
            yield CargoLambda(f"127.0.0.1:{port}", log)


def metadata(place: str, functions: tuple[str, ...]) -> dict[str, Any]:
    """Describe a package with a binary per function, as `cargo metadata --format-version 1` does."""
    kind = {"kind": ["bin"], "crate_types": ["bin"], "src_path": f"{place}/main.rs", "edition": "2021"}
    package: dict[str, Any] = {
        **{"name": "functions", "version": "0.0.0", "id": "functions 0.0.0", "edition": "2021"},
        **{"source": None, "dependencies": [], "features": {}, "manifest_path": f"{place}/Cargo.toml"},
        "targets": [{"name": name, **kind} for name in functions],
    }
    return {
        **{"packages": [package], "workspace_members": [package["id"]], "resolve": None, "version": 1},
        **{"target_directory": f"{place}/target", "workspace_root": place, "metadata": None},
    }
