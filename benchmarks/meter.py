"""Counts what calls to DynamoDB cost, by operation and by kind of item, from outside of the adapter."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from benchmarks import emulator

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

READS: Final = frozenset({"GetItem", "Query", "BatchGetItem", "TransactGetItems", "Scan"})
WRITES: Final = frozenset({"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"})

_KINDS = {
    "M": "session row M", "L": "lock L", "E#": "entries E#", "E~": "drafts E~", "R#": "run row R#",
    "Q#": "queued input Q#", "C#": "checkpoint C#", "A#": "approval A#",
}  # fmt: skip

Item = dict[str, Any]
Units = defaultdict[tuple[str, str], float]


@dataclass(slots=True)
class Spent:
    """Calls and units of one turn; units by (operation, kind of item)."""

    calls: Counter[str] = field(default_factory=Counter)
    read: Units = field(default_factory=lambda: defaultdict(float))
    write: Units = field(default_factory=lambda: defaultdict(float))
    bytes_put: Counter[str] = field(default_factory=Counter)
    blobs: Counter[str] = field(default_factory=Counter)


class Meter:
    """Makes clients whose calls it counts."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._looking = emulator.client(endpoint)
        self._sizes: dict[tuple[str, str], int] = {}
        self.spent = Spent()

    def client(self) -> "DynamoDBClient":
        """Make a client, as `DynamoTable` wants one."""
        made = emulator.client(self._endpoint)
        made.meta.events.register("provide-client-params.dynamodb", cast(Any, self._ask))
        made.meta.events.register("after-call.dynamodb", self._take)
        return made

    def start(self) -> Spent:
        """Begin a new turn; return what was spent since the last one."""
        spent, self.spent = self.spent, Spent()
        return spent

    def _ask(self, params: Item, model: Any, context: Item, **_: object) -> Item | None:  # noqa: ANN401 - botocore's
        if model.name not in READS | WRITES:
            return None
        context["bench_request"] = asked = {**params, "ReturnConsumedCapacity": "INDEXES"}
        return asked

    def _take(self, parsed: Item, model: Any, context: Item, **_: object) -> None:  # noqa: ANN401 - botocore's
        request = context.get("bench_request")
        if request is None:
            return
        operation = model.name
        self.spent.calls[operation] += 1
        table, indexes = emulator.units(parsed)
        into = self.spent.read if operation in READS else self.spent.write
        for name, used in indexes.items():
            into[operation, f"index {name}"] += used
        if operation == "TransactWriteItems":
            self._share(request, table)
        else:
            kind = _kind_of(request)
            into[operation, kind] += table
            if "Item" in request:
                self.spent.bytes_put[kind] += item_size(request["Item"])

    def _share(self, request: Item, table: float) -> None:
        """Share a transaction's units among its items: two for each KB of the larger of before and after."""
        for [operation] in map(dict.items, request["TransactItems"]):
            op = operation[1]
            key = {name: op.get("Key", op.get("Item"))[name] for name in ("PK", "SK")}
            address = (key["PK"]["S"], key["SK"]["S"])
            found = self._looking.get_item(TableName=op["TableName"], Key=key, ConsistentRead=True).get("Item", {})
            size = item_size(dict(found))
            used = 2 * max(1, math.ceil(max(size, self._sizes.get(address, 0)) / 1024))
            self._sizes[address] = size
            self.spent.write["TransactWriteItems", kind(*address)] += used
            self.spent.bytes_put[kind(*address)] += size
            table -= used
        if table:
            self.spent.write["TransactWriteItems", "not attributed"] += table


def kind(pk: str, sk: str) -> str:
    """Name what an item is."""
    if pk.startswith("I#"):
        return "idempotency row I#"
    return _KINDS.get(sk, _KINDS.get(sk[:2], f"{pk[:2]} {sk[:2]}"))


def _kind_of(request: Item) -> str:
    if "IndexName" in request:
        return f"index {request['IndexName']}"
    if "KeyConditionExpression" in request:
        values = request["ExpressionAttributeValues"]
        return kind(values[":pk"]["S"], values.get(":first", {"S": ""})["S"])
    address = request.get("Key") or request["Item"]
    return kind(address["PK"]["S"], address["SK"]["S"])


def item_size(item: Item) -> int:
    """Count an item's bytes as DynamoDB does (Developer Guide, "DynamoDB item sizes and formats")."""
    return sum(len(name.encode()) + _value_size(value) for name, value in item.items())


def _value_size(value: Item) -> int:
    [(type_, raw)] = value.items()
    sizes = {
        "S": lambda: len(raw.encode()),
        "B": lambda: len(raw),
        "N": lambda: (len(raw.lstrip("-")) + 1) // 2 + 1,
        "L": lambda: 3 + sum(1 + _value_size(element) for element in raw),
        "M": lambda: 3 + sum(1 + len(name.encode()) + _value_size(element) for name, element in raw.items()),
    }
    return sizes.get(type_, partial(int, 1))()
