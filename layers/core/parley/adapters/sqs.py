"""The `Queue` port on SQS: a hint as one message of the queue that template.yaml makes.

A hint that cannot be sent is lost, with a warning, and nobody's request fails of it: what it points at is stored
already, and the sweeper gives the hint again.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = logging.getLogger("parley")


def connect(region: str | None = None) -> "SQSClient":
    """Make the client, with credentials, and the region if none is given, from the surroundings."""
    config = Config(
        connect_timeout=1,
        read_timeout=2,  # somebody waits for an answer meanwhile
        retries={"mode": "standard", "total_max_attempts": 2},
        tcp_keepalive=True,
    )
    return boto3.client("sqs", region_name=region, config=config)


class SqsQueue:
    """Sends hints; a worker receives them, and jobs that other systems have put there."""

    def __init__(self, url: str, client: Callable[[], "SQSClient"] = connect) -> None:
        self._url = url
        self._client = client()

    async def send(self, tenant: str, session_id: str) -> None:
        """Ask for the session's open run to be driven on, by whoever receives it."""
        hint = {"hint": {"tenant": tenant, "session_id": session_id}}
        call = partial(self._client.send_message, QueueUrl=self._url, MessageBody=json.dumps(hint))
        try:
            await asyncio.to_thread(call)
        except (ClientError, BotoCoreError) as error:
            why = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
            log.warning("hint_not_sent", extra={"session_id": session_id, "error": why})

    async def retry_later(self, receipt_handle: str, seconds: int) -> None:
        """Have a message that was received delivered again after so long, instead of after the queue's own time."""
        call = partial(
            self._client.change_message_visibility,
            QueueUrl=self._url,
            ReceiptHandle=receipt_handle,
            VisibilityTimeout=seconds,
        )
        try:
            await asyncio.to_thread(call)
        except (ClientError, BotoCoreError) as error:
            log.warning("retry_not_set", extra={"error": type(error).__name__})

    async def close(self) -> None:
        """Close the connections."""
        self._client.close()
