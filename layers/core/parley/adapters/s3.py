"""The `Blobs` port on S3: one object per blob, in a bucket that template.yaml makes.

The role needs `s3:ListBucket` on the bucket: without it S3 answers 403 for an object that is not there, and a
missing blob cannot be told from a forbidden one (GetObject in botocore's reference, read 2026-11-20).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from parley.core.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

_CONNECTIONS: Final = 16
"""Calls under way at once; blobs are rare beside items."""


def connect(region: str | None = None) -> "S3Client":
    """Make the client, with credentials, and the region if none is given, from the surroundings."""
    config = Config(
        connect_timeout=1,
        read_timeout=10,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
    )
    return boto3.client("s3", region_name=region, config=config)


class S3Blobs:
    """One object per blob."""

    def __init__(self, bucket: str, client: Callable[[], "S3Client"] = connect) -> None:
        self._bucket = bucket
        self._client = client()
        self._threads = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="parley-s3")

    async def close(self) -> None:
        """Wait for the calls under way, then end the threads and the connections."""
        await asyncio.to_thread(self._threads.shutdown)
        self._client.close()

    async def put(self, key: str, data: bytes) -> None:
        """Store bytes; durable when it returns."""
        _check(key)
        await self._call(partial(self._client.put_object, Bucket=self._bucket, Key=key, Body=data))

    async def get(self, key: str) -> bytes | None:
        """Read bytes, or `None` when there are none."""
        _check(key)
        return await self._call(partial(self._load, key))

    async def delete(self, key: str) -> None:
        """Remove bytes; removing what is not there is fine."""
        _check(key)
        await self._call(partial(self._client.delete_object, Bucket=self._bucket, Key=key))

    def _load(self, key: str) -> bytes | None:
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=key)
        except self._client.exceptions.NoSuchKey:
            return None
        with answer["Body"] as body:
            return body.read()

    async def _call(self, call: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except ClientError as error:
            raise Unavailable(f"The blobs' bucket refuses: {error.response['Error']['Code']}") from error
        except BotoCoreError as error:
            raise Unavailable(f"The blobs' bucket does not answer: {type(error).__name__}") from error


def _check(key: str) -> None:
    """Refuse what could not be a file's path either, so that both adapters take the same keys."""
    if any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in key.split("/")):
        raise ValueError(f"not a key of a blob: {key!r}")
