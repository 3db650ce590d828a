"""Dynoxide: an emulator of DynamoDB that counts capacity. npm installs it into .tools/ when it is first needed."""

import platform
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from benchmarks.report import say
from benchmarks.servers import ROOT

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

VERSION: Final = "1.2.1"
FOLDER: Final = ROOT / ".tools" / "dynoxide"
START_SECONDS: Final = 15.0

_PLATFORMS = {
    ("Linux", "x86_64"): "linux-x64",
    ("Linux", "aarch64"): "linux-arm64",
    ("Darwin", "arm64"): "darwin-arm64",
}
_SESSION: Final = boto3.session.Session("test", "test", region_name="eu-central-1")


class NoEmulator(Exception):
    """It cannot be had here; the message says why."""


def client(endpoint: str) -> "DynamoDBClient":
    """Make a client that tries once."""
    once = Config(retries={"mode": "standard", "total_max_attempts": 1}, max_pool_connections=64)
    return _SESSION.client("dynamodb", endpoint_url=endpoint, config=once)


@contextmanager
def running() -> Iterator[str]:
    """Run it in memory on a free port, and give its address.

    Raises:
        NoEmulator: it is not installed and npm cannot install it.
    """
    program = _program()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(program), "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await_answer(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _program() -> Path:
    name = _PLATFORMS.get((platform.system(), platform.machine()))
    if name is None:
        raise NoEmulator(f"there is no dynoxide for {platform.system()} {platform.machine()}")
    package = FOLDER / "node_modules" / "@dynoxide" / name
    if not (package / "dynoxide").exists():
        say(f"npm installs dynoxide {VERSION} into {FOLDER}")
        FOLDER.mkdir(parents=True, exist_ok=True)
        flags = ["--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
        command = ["npm", "install", "--prefix", str(FOLDER), *flags, f"@dynoxide/{name}@{VERSION}"]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=120)
        except (OSError, subprocess.SubprocessError) as error:
            raise NoEmulator(f"npm could not install dynoxide: {error}") from error
    return package / "dynoxide"


def _await_answer(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    asking = client(endpoint)
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            asking.list_tables()
            break
        except BotoCoreError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise NoEmulator("dynoxide did not start") from None
            time.sleep(0.05)
    asking.close()


def units(answer: dict[str, Any]) -> tuple[float, dict[str, float]]:
    """Read an answer's consumed capacity: of the table, and of each index."""
    consumed = answer.get("ConsumedCapacity") or []
    table, indexes = 0.0, dict[str, float]()
    for part in consumed if isinstance(consumed, list) else [consumed]:
        table += part.get("Table", {}).get("CapacityUnits", 0.0)
        for name, index in part.get("GlobalSecondaryIndexes", {}).items():
            indexes[name] = indexes.get(name, 0.0) + index["CapacityUnits"]
    return table, indexes
