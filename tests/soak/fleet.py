"""The two arrangements: one server on SQLite; two servers and two workers over an emulator of DynamoDB, SQS and S3."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from parley.store.claims import CLOCK_MARGIN_MS
from parley.sweeper import PATIENCE_MS

from tests.contract.backends import create_table_of_the_template, dynamodb_client, emulator, free_port, s3_client
from tests.contract.backends import sqs_client as connect
from tests.e2e.processes import Process, with_claude
from tests.soak import ledger
from tests.soak.member import Member

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

Kind = Literal["sqlite", "dynamodb"]

LEASE_SECONDS = 3.0
SWEEP_SECONDS = 1.0
RESTART_PAUSE_SECONDS = 0.5
"""The longest for which a killed process stays away."""
MACHINE_SECONDS = 5.0
"""For hints and requests to travel on a machine that is busy with starting processes."""
HIDDEN_SECONDS = 6
"""For which SQS hides a message that was received; a deployment has 90 minutes."""
MAX_RECEIVES = 4
"""As in the template."""


@dataclass
class Jobs:
    """The queue that other systems put jobs into."""

    sqs: "SQSClient"
    url: str
    dead_url: str

    def put(self, body: str) -> None:
        """Put a job; it is accepted when this returns."""
        self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def waiting(self) -> int:
        """Count the messages that were not done yet."""
        return sum(self._counts(self.url))

    def dead(self) -> int:
        """Count the dead letters."""
        return sum(self._counts(self.dead_url))

    def _counts(self, url: str) -> tuple[int, int]:
        found = self.sqs.get_queue_attributes(
            QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        )["Attributes"]
        return int(found["ApproximateNumberOfMessages"]), int(found["ApproximateNumberOfMessagesNotVisible"])


@dataclass
class Fleet:
    """The processes of an arrangement."""

    kind: Kind
    members: Sequence[Member]
    jobs: Jobs | None
    folder: Path

    @property
    def servers(self) -> list[Member]:
        """Those that speak HTTP."""
        return [member for member in self.members if member.role == "server"]

    @property
    def recovery_bound(self) -> float:
        """Seconds in which a run that was hit must be in other hands.

        A lease, the margin that it has for clocks, a round of the sweeper and one more if its hint went to somebody
        who was killed; on SQLite a start, which does not wait for the lease, and is done when all is taken over.
        """
        if self.kind == "sqlite":
            return RESTART_PAUSE_SECONDS + max(member.slowest_start for member in self.members) + 1
        return LEASE_SECONDS + CLOCK_MARGIN_MS / 1000 + 2 * SWEEP_SECONDS + MACHINE_SECONDS

    @property
    def drain_seconds(self) -> float:
        """Seconds after the last fault in which all must come to rest: a lost hint of a message is the slowest."""
        return self.recovery_bound + PATIENCE_MS / 1000 + SWEEP_SECONDS + 2 * MACHINE_SECONDS

    def taken_over(self) -> int:
        """Count the runs that were taken over, by what the processes have written so far."""
        return sum(output.read_bytes().count(b"run_taken_over") for output in self.folder.glob("*.log"))

    def of_life(self, life: str) -> Member:
        """Return whose life it is."""
        return next(member for member in self.members if member.name == life.rpartition(".")[0])


def _server(name: str, folder: Path, environment: dict[str, str]) -> Member:
    port = free_port()
    own = {"PARLEY_PORT": str(port), "PARLEY_DATA": str(folder / name)}
    return Member("server", name, environment | own, folder, f"http://127.0.0.1:{port}")


def _environment(folder: Path, model: Process) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    return with_claude(model) | {
        ledger.VARIABLE: str(folder / "ledger.jsonl"),
        "PARLEY_AGENT": "tests.soak.agent:agent",
        "PARLEY_LEASE_SECONDS": str(LEASE_SECONDS),
        "PARLEY_RECOVER_SECONDS": str(SWEEP_SECONDS),
    }


@asynccontextmanager
async def arrangement(kind: Kind, folder: Path, model: Process) -> AsyncIterator[Fleet]:
    """Start an arrangement, and end every process of it with the block."""
    environment = _environment(folder, model)
    if kind == "sqlite":
        async with _started(Fleet(kind, [_server("server", folder, environment)], None, folder)) as fleet:
            yield fleet
        return
    with emulator("ministack", folder) as endpoint:
        jobs = _prepared(endpoint)
        environment |= {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_REGION": "eu-central-1",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "PARLEY_STORE": "dynamodb",
            "PARLEY_BUCKET": "parley-soak",
            "PARLEY_QUEUE_URL": jobs.url,
            "PARLEY_QUEUE_MAX_RECEIVES": str(MAX_RECEIVES),
        }
        servers = [_server(f"server-{name}", folder, environment) for name in "ab"]
        workers = [Member("worker", f"worker-{name}", environment, folder) for name in "ab"]
        async with _started(Fleet(kind, [*servers, *workers], jobs, folder)) as fleet:
            yield fleet


def _prepared(endpoint: str) -> Jobs:
    """Make table, bucket and queues as a deployment would."""
    with closing(dynamodb_client(endpoint)) as dynamodb, closing(s3_client(endpoint)) as s3:
        create_table_of_the_template(dynamodb, "parley")
        s3.create_bucket(Bucket="parley-soak", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    sqs = connect(endpoint)
    dead = sqs.create_queue(QueueName="dead")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": {MAX_RECEIVES}}}'
    attributes = {"VisibilityTimeout": str(HIDDEN_SECONDS), "RedrivePolicy": redrive}
    return Jobs(sqs, sqs.create_queue(QueueName="jobs", Attributes=attributes)["QueueUrl"], dead)  # type: ignore[arg-type]


@asynccontextmanager
async def _started(fleet: Fleet) -> AsyncIterator[Fleet]:
    try:
        await asyncio.gather(*(member.start() for member in fleet.members))
        for member in fleet.members:
            member.slowest_start = 0.0  # all that is imported was imported meanwhile
        yield fleet
    finally:
        for member in fleet.members:
            member.end()
        if fleet.jobs:
            fleet.jobs.sqs.close()
