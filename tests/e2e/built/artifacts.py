"""The built functions and layers: made once, and again when a source has changed."""

import fcntl
import hashlib
import os
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

from tests import template

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / ".aws-sam/tests/build"
ARCHITECTURE = "arm64" if platform.machine() in ("aarch64", "arm64") else "x86_64"
SOURCES = ("layers", "functions", "template.yaml", "samconfig.toml", "scripts/build")
LAYERS = ("DepsLayer", "CoreLayer")
"""Those that every function has, besides the agents'."""


def do_without(reason: str) -> NoReturn:
    """Skip the test, but in CI: there it fails."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@cache
def built() -> Path:
    """Build for this machine unless that is done; return the folder."""
    if not template.SAM.exists():
        do_without("needs the SAM command line: make sam")
    stamp, wanted = FOLDER.with_name("sources"), _sources()
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with FOLDER.with_name("lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != wanted:
            stamp.unlink(missing_ok=True)
            command = ["sh", "scripts/build", str(FOLDER.relative_to(ROOT))]
            command += ["--parameter-overrides", f"Architecture={ARCHITECTURE}"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            stamp.write_text(wanted)
    return FOLDER


@cache
def interpreter() -> tuple[str, ...]:
    """Return the Python that Lambda runs; -S, so that it finds no package but those of the layers."""
    found = subprocess.run(["sh", "scripts/python313"], cwd=ROOT, capture_output=True, text=True, check=True)
    return (f"{found.stdout.strip()}/python3.13", "-S")


def layers(*agents: Path) -> list[Path]:
    """Return what is on a function's path; other `agents` take the place of the agent layer."""
    places = [built() / layer / "python" for layer in LAYERS]
    return [*places, *(agents or [built() / "AgentLayer/python"])]


def wrapper() -> Path:
    """Return the exec wrapper."""
    return built() / "RuntimeLayer/python/parley-runtime"


def _sources() -> str:
    digest = hashlib.sha256(ARCHITECTURE.encode())
    for source in SOURCES:
        place = ROOT / source
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_mode}\0".encode())
                digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()
