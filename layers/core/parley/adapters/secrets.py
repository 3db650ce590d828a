"""A secret of AWS Secrets Manager, by its ARN: kept in the process, and read again every few minutes.

The role needs `secretsmanager:GetSecretValue` on the secret.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from parley.core.errors import Unavailable
from parley.ports import Clock

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

log = logging.getLogger("parley")

MAX_AGE: Final = timedelta(minutes=5)
"""A rotated key works, and an old one stops working, within this time."""

RETRY_AFTER: Final = timedelta(seconds=30)
"""When reading fails: how long the known value goes on to count before the next try."""


def connect(region: str | None = None) -> "SecretsManagerClient":
    """Make the client, with credentials, and the region if none is given, from the surroundings."""
    config = Config(
        connect_timeout=1,
        read_timeout=3,
        retries={"mode": "standard", "total_max_attempts": 3},
        tcp_keepalive=True,
    )
    return boto3.client("secretsmanager", region_name=region, config=config)


class Secret:
    """One secret's current text; belongs to one event loop."""

    def __init__(self, arn: str, clock: Clock, client: Callable[[], "SecretsManagerClient"] = connect) -> None:
        self._arn = arn
        self._clock = clock
        self._client = client()
        self._flight = asyncio.Lock()
        self._known: str | None = None
        self._read_at = self._due = datetime.min.replace(tzinfo=clock.now().tzinfo)

    async def read(self, *, fresh: bool = False) -> str:
        """Return the text, without white space around it; `fresh` when what was read before this call will not do.

        However many ask at once, AWS is asked once. A value that is known survives a failure to read it again.

        Raises:
            Unavailable: it cannot be read, and nothing is known of it yet.
        """
        asked_at = self._clock.now()
        async with self._flight:
            outdated = self._read_at < asked_at if fresh else asked_at >= self._due
            if self._known is None or outdated:
                await self._refresh()
            return self._known or ""

    async def _refresh(self) -> None:
        began = self._clock.now()
        try:
            self._known = await asyncio.to_thread(self._load)
            self._due = began + MAX_AGE
        except Unavailable as error:
            if self._known is None:
                raise
            self._due = began + RETRY_AFTER
            log.warning("secret_not_refreshed", extra={"secret": self._arn, "error": error.message})
        self._read_at = began

    def _load(self) -> str:
        try:
            answer = self._client.get_secret_value(SecretId=self._arn)
        except ClientError as error:
            raise _unavailable(error.response["Error"]["Code"]) from error
        except BotoCoreError as error:
            raise _unavailable(type(error).__name__) from error
        return answer.get("SecretString", "").strip()

    async def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _unavailable(why: str) -> Unavailable:
    return Unavailable(f"A secret cannot be read: {why}", code="secret_unavailable")
