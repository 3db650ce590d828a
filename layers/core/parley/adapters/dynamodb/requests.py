"""Ops as expressions: one op is a plain conditional write, more are one transaction."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from parley.adapters.dynamodb.values import encode, encode_item
from parley.core.errors import TooLarge
from parley.ports import Absent, AtMost, Condition, Delete, Index, Item, Key, Match, Op, Put, Update

MAX_OPS: Final = 100
"""Limit of TransactWriteItems (API Reference as botocore 1.44.5 carries it, read 2026-11-20)."""

Request = dict[str, Any]


def check_ops(ops: tuple[Op, ...]) -> None:
    """Refuse what DynamoDB would refuse as a whole.

    Raises:
        TooLarge: too many ops.
        ValueError: two ops aim at one item; the caller is wrong.
    """
    if len(ops) > MAX_OPS:
        raise TooLarge(f"A write of {len(ops)} ops is larger than the limit of {MAX_OPS}.")
    if len({op.key for op in ops}) < len(ops):
        raise ValueError("two ops of one write aim at the same item")


def write_request(table_name: str, op: Op) -> tuple[str, Request]:
    """Compile an op; return its name (`Put`, `Update`, `Delete` or `ConditionCheck`) and its request."""
    names = _Names()
    request: Request = {"TableName": table_name}
    kind = type(op).__name__
    match op:
        case Put():
            request["Item"] = encode_item(op.item)
        case Delete():
            request["Key"] = key(op.key)
        case Update():
            request["Key"] = key(op.key)
            changes = _changes(op, names)
            if changes:
                request["UpdateExpression"] = changes
            elif isinstance(op.condition, Match):
                kind = "ConditionCheck"
            else:
                raise ValueError("an update that changes nothing is a check, and needs a Match")
    if op.condition is not None:
        request["ConditionExpression"] = _condition(op.condition, names)
        request["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    return kind, request | names.request()


def query_request(
    table_name: str,
    pk: str,
    *,
    first: str,
    last: str,
    limit: int | None,
    newest_first: bool,
    cursor: Item | None,
    index: Index | None,
) -> Request:
    """Compile a query; empty text is no key, so an empty `first` is left out."""
    prefix = f"{index}_" if index else ""
    pk_name, sk_name = (f"{prefix}pk", f"{prefix}sk") if index else ("PK", "SK")
    request: Request = {
        "TableName": table_name,
        "KeyConditionExpression": f"{pk_name} = :pk AND {sk_name} <= :last",
        "ExpressionAttributeValues": {":pk": encode(pk), ":last": encode(last)},
        "ScanIndexForward": not newest_first,
    }
    if first:
        request["KeyConditionExpression"] = f"{pk_name} = :pk AND {sk_name} BETWEEN :first AND :last"
        request["ExpressionAttributeValues"][":first"] = encode(first)
    if index:
        request["IndexName"] = index
    else:
        request["ConsistentRead"] = True
    if limit is not None:
        request["Limit"] = limit
    if cursor is not None:
        request["ExclusiveStartKey"] = encode_item(cursor)
    return request


def key(address: Key) -> Request:
    """Write an item's address in the form of the wire."""
    return {"PK": encode(address.pk), "SK": encode(address.sk)}


@dataclass(frozen=True, slots=True)
class _Names:
    """Placeholders of one request; attribute names may be reserved words, so all of them get one."""

    names: dict[str, str] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)

    def name(self, attribute: str) -> str:
        self.names[attribute] = placeholder = self.names.get(attribute, f"#{len(self.names)}")
        return placeholder

    def value(self, value: object) -> str:
        placeholder = f":{len(self.values)}"
        self.values[placeholder] = encode(value)
        return placeholder

    def request(self) -> Request:
        request: Request = {}
        if self.names:
            request["ExpressionAttributeNames"] = {short: name for name, short in self.names.items()}
        if self.values:
            request["ExpressionAttributeValues"] = self.values
        return request


def _changes(op: Update, names: _Names) -> str:
    clauses: list[tuple[str, Iterable[str]]] = [
        ("SET", [f"{names.name(name)} = {names.value(value)}" for name, value in op.set.items()]),
        ("ADD", [f"{names.name(name)} {names.value(amount)}" for name, amount in op.add.items()]),
        ("REMOVE", [names.name(name) for name in op.remove]),
    ]
    return " ".join(f"{word} {', '.join(actions)}" for word, actions in clauses if actions)


def _condition(condition: Condition, names: _Names) -> str:
    match condition:
        case Absent():
            return "attribute_not_exists(PK)"
        case AtMost():
            counter = names.name(condition.attribute)
            holds = f"{counter} <= {names.value(condition.value)}"
            return f"(attribute_not_exists({counter}) OR {holds})" if condition.value >= 0 else holds
        case Match():
            # To DynamoDB an attribute is missing when its item is, so the item itself is asked for, too.
            terms = ["attribute_exists(PK)"]
            for name, value in condition.attributes.items():
                if value is None:
                    terms.append(f"attribute_not_exists({names.name(name)})")
                else:
                    terms.append(f"{names.name(name)} = {names.value(value)}")
            return " AND ".join(terms)
