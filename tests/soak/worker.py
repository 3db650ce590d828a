"""A process that does what Lambda does between the queue and the worker function, with the function's own handler.

It receives a batch, hands it over with an invocation's time, and deletes what was done. What is hidden, delivered again
and given up is the queue's to decide. An invocation is short, so that long runs are handed over.
"""

from contextlib import suppress
from typing import Any

import boto3
from parley import wiring
from parley.core.event import Event, RunClaimed
from parley.lambda_app import queue
from parley.settings import load

from tests.fakes.invocation import Invocation

INVOCATION_SECONDS = 9.0
BATCH_SIZE = 5


def main() -> None:
    """Take batches until killed."""
    settings = load()
    worker, retry_later = wiring.worker(settings)
    handle = queue.handler(worker, retry_later)
    counted = worker.runner.on_event

    def on_event(event: Event) -> None:
        counted(event)
        if isinstance(event, RunClaimed):
            print(f"run_claimed run_id={event.run_id} seq={event.seq}", flush=True)

    worker.runner.on_event = on_event
    sqs = boto3.client("sqs", region_name=settings.aws_region)
    print("worker is ready", flush=True)
    while True:
        batch = sqs.receive_message(
            QueueUrl=settings.queue_url,
            MaxNumberOfMessages=BATCH_SIZE,
            WaitTimeSeconds=1,
            MessageSystemAttributeNames=["All"],
        )
        records = [_record(dict(message)) for message in batch.get("Messages", [])]
        if not records:
            continue
        failed = {each["itemIdentifier"] for each in handle({"Records": records}, _invocation())["batchItemFailures"]}
        for record in records:
            if record["messageId"] not in failed:
                with suppress(sqs.exceptions.ReceiptHandleIsInvalid):  # frozen for so long that somebody else has it
                    sqs.delete_message(QueueUrl=settings.queue_url, ReceiptHandle=record["receiptHandle"])


def _invocation() -> Any:
    return Invocation(INVOCATION_SECONDS)


def _record(message: dict[str, Any]) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
    }
