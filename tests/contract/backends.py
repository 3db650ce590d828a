"""The stores behind the ports, as tests start them."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from tests import template

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

SESSION = boto3.session.Session("test", "test", region_name="eu-central-1")


@dataclass
class ManualClock:
    """A clock that a test moves; sleeping moves it, too. It starts at the real time: emulators have their own."""

    moment: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return self.moment

    def seconds(self) -> int:
        return int(self.moment.timestamp())

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(seconds)


def dynamodb_client(endpoint: str | None = None, **config: Any) -> "DynamoDBClient":
    """Make a client that tries once and is patient with a slow machine."""
    settings = Config(retries={"mode": "standard", "total_max_attempts": 1}, read_timeout=20).merge(Config(**config))
    return SESSION.client("dynamodb", endpoint_url=endpoint, config=settings)


def s3_client(endpoint: str | None = None) -> "S3Client":
    """Make a client that tries once."""
    settings = Config(retries={"mode": "standard", "total_max_attempts": 1}, s3={"addressing_style": "path"})
    return SESSION.client("s3", endpoint_url=endpoint, config=settings)


def sqs_client(endpoint: str | None = None) -> "SQSClient":
    """Make a client that tries once."""
    settings = Config(retries={"mode": "standard", "total_max_attempts": 1})
    return SESSION.client("sqs", endpoint_url=endpoint, config=settings)


def secrets_client(endpoint: str | None = None) -> "SecretsManagerClient":
    """Make a client that tries once."""
    settings = Config(retries={"mode": "standard", "total_max_attempts": 1})
    return SESSION.client("secretsmanager", endpoint_url=endpoint, config=settings)


def create_table_of_the_template(client: "DynamoDBClient", name: str) -> None:
    """Make the table exactly as a deployment would."""
    properties = template.table_properties()
    taken = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    request: dict[str, Any] = {key: properties[key] for key in taken}
    client.create_table(TableName=name, **request)
    client.update_time_to_live(TableName=name, TimeToLiveSpecification=properties["TimeToLiveSpecification"])


def installed_emulators() -> list[str]:
    """Name the emulators at hand: ministack is a dependency of the tests, dynoxide is taken when it is on PATH."""
    return ["ministack", *(["dynoxide"] if shutil.which("dynoxide") else [])]


@contextmanager
def emulator(kind: str, folder: Path) -> Iterator[str]:
    """Run an emulator of DynamoDB on a free port of this machine, for as long as the block lasts."""
    port = str(free_port())
    command = {
        "ministack": [sys.executable, "-m", "ministack"],
        "dynoxide": ["dynoxide", "--host", "127.0.0.1", "--port", port],
    }[kind]
    surroundings = {"BIND_HOST": "127.0.0.1", "GATEWAY_PORT": port, "LOG_LEVEL": "ERROR", "TMPDIR": str(folder)}
    surroundings |= {"S3_DATA_DIR": str(folder / "s3")}
    log = folder / f"{kind}.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, env=os.environ | surroundings, stdout=output, stderr=subprocess.STDOUT) as process,
    ):
        try:
            endpoint = f"http://127.0.0.1:{port}"
            _await_answer(endpoint, process, log)
            yield endpoint
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _await_answer(endpoint: str, process: subprocess.Popen[bytes], log: Path) -> None:
    client = dynamodb_client(endpoint)
    deadline = time.monotonic() + 20
    while True:
        try:
            client.list_tables()
            break
        except BotoCoreError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text(errors="replace")) from None
            time.sleep(0.05)
    client.close()
