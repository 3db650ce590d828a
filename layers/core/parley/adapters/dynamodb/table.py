"""The port on DynamoDB: boto3's low-level client, called in threads."""

import asyncio
import hashlib
import random
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from parley.adapters.dynamodb.failures import Contended, read_failure, write_failure
from parley.adapters.dynamodb.requests import Request, check_ops, key, query_request, write_request
from parley.adapters.dynamodb.schema import TABLE_PROPERTIES
from parley.adapters.dynamodb.values import decode_item
from parley.ports import Clock, Index, Item, Key, Op, Page, WriteUncertain

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

_CONNECTIONS: Final = 64
"""Calls under way at once. A call takes about 5 ms, so the 65th of a burst waits about that long; more
threads would only queue for the interpreter's lock, since boto3 spends more than 1 ms of Python on a call."""

_CONTENTION_TRIES: Final = 5
"""Pauses of up to 25, 50, 100 and 200 ms in between; a transaction in the way is gone after some 10 ms."""

_KEPT_TOKENS: Final = 1000


def connect(region: str | None = None) -> "DynamoDBClient":
    """Make the client, with credentials, and the region if none is given, from the surroundings.

    At worst a call gives up after three tries of four seconds each, well within a lease.
    """
    config = Config(
        connect_timeout=1,
        read_timeout=3,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=_CONNECTIONS,
        tcp_keepalive=True,
    )
    return boto3.client("dynamodb", region_name=region, config=config)


class DynamoTable:
    """One table with the keys `PK` and `SK`, and the indexes `list` and `work`.

    An unconditional single `Update` that adds may add twice when an answer is lost: DynamoDB knows repeats of
    transactions only. Put such an update into a transaction where that matters.
    """

    def __init__(self, table_name: str, clock: Clock, client: Callable[[], "DynamoDBClient"] = connect) -> None:
        self._table_name = table_name
        self._clock = clock
        self._client = client()
        self._threads = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="parley-dynamodb")
        self._tokens = _Tokens()

    async def close(self) -> None:
        """Wait for the calls under way, then end the threads and the connections."""
        await asyncio.to_thread(self._threads.shutdown)
        self._client.close()

    async def get(self, key_: Key) -> Item | None:
        """Read one item, consistently."""
        request = {"TableName": self._table_name, "Key": key(key_), "ConsistentRead": True}
        answer = await self._read(self._client.get_item, request)
        items = self._shown([answer["Item"]] if "Item" in answer else [])
        return items[0] if items else None

    async def query(
        self,
        pk: str,
        *,
        first: str = "",
        last: str = "\U0010ffff",
        limit: int | None = None,
        newest_first: bool = False,
        cursor: Item | None = None,
        index: Index | None = None,
    ) -> Page:
        """Read one page of a partition of the table or of an index."""
        if first > last or not last:  # DynamoDB refuses a range that holds nothing
            return Page([])
        request = query_request(
            self._table_name,
            pk,
            first=first,
            last=last,
            limit=limit,
            newest_first=newest_first,
            cursor=cursor,
            index=index,
        )
        answer = await self._read(self._client.query, request)
        place = answer.get("LastEvaluatedKey")
        return Page(self._shown(answer["Items"]), decode_item(place) if place else None)

    async def write(self, *ops: Op) -> None:
        """Do all ops or none."""
        check_ops(ops)
        requests = [write_request(self._table_name, op) for op in ops]
        if len(requests) == 1:
            kind, request = requests[0]
            await self._send(self._plain(kind), request, repeatable=False)
        elif requests:
            await self._transact([{kind: request} for kind, request in requests])

    async def create_table_if_missing(self) -> None:
        """Make the table on an emulator, where it is ready at once; a deployment has it from its template."""
        properties = dict(TABLE_PROPERTIES)
        expiry = properties.pop("TimeToLiveSpecification")
        name = {"TableName": self._table_name}
        try:
            await self._call(self._client.create_table, name | properties)
            await self._call(self._client.update_time_to_live, name | {"TimeToLiveSpecification": expiry})
        except self._client.exceptions.ResourceInUseException:
            return
        except (ClientError, BotoCoreError) as error:
            raise read_failure(error) from error

    def _plain(self, kind: str) -> Callable[..., Any]:
        calls: dict[str, Callable[..., Any]]
        calls = {"Put": self._client.put_item, "Delete": self._client.delete_item}
        return calls.get(kind, self._client.update_item)

    async def _transact(self, items: list[Request]) -> None:
        token = self._tokens.take(items)
        request = {"TransactItems": items, "ClientRequestToken": token}
        try:
            await self._send(self._client.transact_write_items, request, repeatable=True)
        except WriteUncertain:
            self._tokens.keep(items, token)
            raise

    async def _send(self, call: Callable[..., Any], request: Request, *, repeatable: bool) -> None:
        for tries in range(1, _CONTENTION_TRIES + 1):
            try:
                await self._call(call, request)
                return
            except (ClientError, BotoCoreError) as error:
                failure = write_failure(error, repeatable=repeatable)
                if not isinstance(failure, Contended) or tries == _CONTENTION_TRIES:
                    raise failure from error
            await self._clock.sleep(random.uniform(0, 0.0125 * 2**tries))  # noqa: S311 - a pause is no secret

    async def _read(self, call: Callable[..., Any], request: Request) -> dict[str, Any]:
        try:
            return await self._call(call, request)
        except (ClientError, BotoCoreError) as error:
            raise read_failure(error) from error

    async def _call(self, call: Callable[..., Any], request: Request) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        answer: dict[str, Any] = await loop.run_in_executor(self._threads, partial(call, **request))
        return answer

    def _shown(self, found: list[dict[str, Any]]) -> list[Item]:
        now = self._clock.now().timestamp()
        items = [decode_item(attributes) for attributes in found]
        return [item for item in items if not isinstance(item.get("ttl"), int) or item["ttl"] > now]


class _Tokens:
    """Names of transactions: for ten minutes DynamoDB does one name once.

    (API Reference as botocore 1.44.5 carries it, read 2026-11-20.)

    Each write gets a new one, for equal bytes may well be two writes. Only those whose outcome is unknown are
    kept, so that the same bytes, sent again, are the same write.
    """

    def __init__(self) -> None:
        self._kept: dict[bytes, str] = {}

    def take(self, items: list[Request]) -> str:
        """Return the token kept for these bytes, and forget it, or a new one."""
        kept = self._kept.pop(_digest(items), None) if self._kept else None
        return kept or str(uuid.uuid4())

    def keep(self, items: list[Request], token: str) -> None:
        """Remember that it is unknown whether these bytes were written."""
        self._kept[_digest(items)] = token
        if len(self._kept) > _KEPT_TOKENS:
            del self._kept[next(iter(self._kept))]


def _digest(items: list[Request]) -> bytes:
    return hashlib.sha256(repr(items).encode()).digest()
