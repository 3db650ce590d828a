"""The `Blobs` port on S3: one object per blob, in a bucket that template.yaml makes.

The role needs `s3:ListBucket` on the bucket: without it S3 answers 403 for an object that is not there, and a
missing blob cannot be told from a forbidden one (GetObject in botocore's reference, read 2026-11-20).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Final, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from parley.core.errors import Unavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ObjectIdentifierTypeDef

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
    """One object per blob. The client is made when it is first needed: most functions never meet a blob."""

    def __init__(self, bucket: str, client: Callable[[], "S3Client"] = connect) -> None:
        self._bucket = bucket
        self._connect = client
        self._connected: S3Client | None = None
        self._connecting = Lock()
        self._threads = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="parley-s3")

    async def close(self) -> None:
        """Wait for the calls under way, then end the threads and the connections."""
        await asyncio.to_thread(self._threads.shutdown)
        if self._connected:
            self._connected.close()

    @property
    def _client(self) -> "S3Client":
        """Make the client once; in a thread of `_threads`, because it takes tens of milliseconds."""
        with self._connecting:
            self._connected = self._connected or self._connect()
            return self._connected

    async def put(self, key: str, data: bytes) -> None:
        """Store bytes; durable when it returns."""
        _check(key)
        await self._call(lambda: self._client.put_object(Bucket=self._bucket, Key=key, Body=data))

    async def get(self, key: str) -> bytes | None:
        """Read bytes, or `None` when there are none."""
        _check(key)
        return await self._call(partial(self._load, key))

    async def delete(self, key: str) -> None:
        """Remove bytes; removing what is not there is fine."""
        _check(key)
        await self._call(lambda: self._client.delete_object(Bucket=self._bucket, Key=key))

    async def delete_all(self, prefix: str) -> None:
        """Remove every blob whose key starts with `prefix`, which ends in `/`; finding none is fine."""
        if not prefix.endswith("/"):
            raise ValueError(f"not a key of blobs' folder: {prefix!r}")
        _check(prefix.removesuffix("/"))
        await self._call(partial(self._remove_all, prefix))

    def _remove_all(self, prefix: str) -> None:
        """Remove page by page; a page and a removal have at most 1,000 keys (botocore's reference, read 2026-11-20)."""
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix):
            keys: list[ObjectIdentifierTypeDef] = [{"Key": found["Key"]} for found in page.get("Contents", [])]
            if not keys:  # an empty list is refused
                continue
            answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True})
            for refused in answer.get("Errors", []):  # of single keys, in an answer that is a success as a whole
                raise Unavailable(f"The blobs' bucket refuses: {refused.get('Code', 'no reason given')}")

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
