"""What Lambda does between a queue and a function: it polls, invokes, and deletes what was done.

Source: "Using Lambda with Amazon SQS" and "Handling errors for an SQS event source" (Lambda Developer Guide, read
2026-11-20). No emulator of Lambda does it. What is hidden, delivered again and given up, and when, is the queue's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests import template
from tests.integration.stack import Stack

[SOURCE] = (each for each in template.resources("AWS::Lambda::EventSourceMapping").values() if "ScalingConfig" in each)


@dataclass
class Pump:
    """Polls the queue of a stack for the worker."""

    stack: Stack
    arn: str
    """Of the queue."""
    delivered: list[dict[str, Any]] = field(default_factory=list)
    """Every record that was handed out, oldest first."""

    def __post_init__(self) -> None:
        self.sqs = self.stack.client("sqs")
        self.url = self.stack.resource("Queue")

    def send(self, body: str) -> str:
        """Put a message into the queue; return its id."""
        return str(self.sqs.send_message(QueueUrl=self.url, MessageBody=body)["MessageId"])

    def poll(self) -> list[dict[str, Any]]:
        """Take a batch from the queue, as the records of an event."""
        batch = self.sqs.receive_message(
            QueueUrl=self.url, MaxNumberOfMessages=SOURCE["BatchSize"], MessageSystemAttributeNames=["All"]
        )
        records = [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message["Attributes"],
                "messageAttributes": {},
                "md5OfBody": message["MD5OfBody"],
                "eventSource": "aws:sqs",
                "eventSourceARN": self.arn,
                "awsRegion": "eu-central-1",
            }
            for message in batch.get("Messages", [])
        ]
        self.delivered += records
        return records

    def pump(self, invoke: Callable[[Any], Any]) -> list[str]:
        """Hand a batch to the function and delete what it did; return the ids of what comes again."""
        records = self.poll()
        if not records:
            return []
        answer = invoke({"Records": records})
        assert answer.keys() == {"batchItemFailures"}, answer
        failed = [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]
        for record in records:
            if record["messageId"] not in failed:
                self.sqs.delete_message(QueueUrl=self.url, ReceiptHandle=record["receiptHandle"])
        return failed

    def receives(self, message_id: str) -> list[int]:
        """Return the counts with which a message was delivered."""
        found = [record for record in self.delivered if record["messageId"] == message_id]
        return [int(record["attributes"]["ApproximateReceiveCount"]) for record in found]

    def let_time_pass(self, message_id: str) -> None:
        """End the time for which the newest delivery of a message hides it."""
        handle = [record["receiptHandle"] for record in self.delivered if record["messageId"] == message_id][-1]
        self.sqs.change_message_visibility(QueueUrl=self.url, ReceiptHandle=handle, VisibilityTimeout=0)

    def counted(self, name: str = "Queue") -> tuple[int, int]:
        """Count the messages of a queue that can be received, and those that are hidden."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = self.sqs.get_queue_attributes(QueueUrl=self.stack.resource(name), AttributeNames=names)["Attributes"]
        return int(found[names[0]]), int(found[names[1]])
