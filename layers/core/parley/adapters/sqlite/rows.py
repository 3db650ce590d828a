"""How an item lies in a row, and what an item may be.

Attributes are JSON, readable with any SQLite shell; bytes lie beside them, untouched, in the column `chunks`.
"""

import json
from typing import Final

from parley.core.errors import TooLarge
from parley.ports import Item

MAX_ITEM_BYTES: Final = 400 * 1024
MAX_KEY_BYTES: Final = {"PK": 2048, "SK": 1024}
"""Limits of DynamoDB (Developer Guide, "Limits in DynamoDB", a stored copy read 2026-11-20)."""

_MAX_DEPTH = 32
_MAX_NUMBER = 10**38
_MAX_INTEGER = 2**63
"""What an SQLite integer holds."""

SCHEMA: Final = """
-- With rowids: WITHOUT ROWID keeps whole rows inside the tree, and 64 writers were a third slower with it.
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS items (
    pk TEXT NOT NULL, sk TEXT NOT NULL, attributes TEXT NOT NULL, chunks BLOB, size INTEGER NOT NULL,
    ttl INTEGER, list_pk TEXT, list_sk TEXT, work_pk TEXT, work_sk TEXT, PRIMARY KEY (pk, sk)
);
CREATE INDEX IF NOT EXISTS list ON items (list_pk, list_sk, pk, sk) WHERE list_pk IS NOT NULL;
CREATE INDEX IF NOT EXISTS work ON items (work_pk, work_sk, pk, sk) WHERE work_pk IS NOT NULL;
CREATE INDEX IF NOT EXISTS expiry ON items (ttl) WHERE ttl IS NOT NULL;
PRAGMA user_version = 1;
COMMIT;
"""

STORE: Final = "REPLACE INTO items VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"

Row = tuple[str, str, str, bytes | None, int, int | None, str | None, str | None, str | None, str | None]
"""The columns of `items`, in order."""

SIZE: Final = 4
"""Position of the item's size in a `Row`."""


def to_row(item: Item) -> Row:
    """Check an item and lay it out.

    Raises:
        TooLarge: it exceeds 400 KB, or a key its limit.
        ValueError: DynamoDB would refuse it; the caller is wrong.
    """
    pk, sk = item["PK"], item["SK"]
    check_key(pk, sk)
    size = sum(_name_size(name) + _size(value) for name, value in item.items())
    if size > MAX_ITEM_BYTES:
        raise TooLarge(f"An item of {size} bytes is larger than the limit of {MAX_ITEM_BYTES}.")
    chunks: list[bytes] = []

    def keep(chunk: bytes) -> float:
        chunks.append(chunk)
        return len(chunks) - 0.5

    # Items hold no floats, so a float in the JSON can stand for bytes: 0.5 the first chunk, 1.5 the second.
    attributes = json.dumps(
        {name: value for name, value in item.items() if name not in ("PK", "SK")},
        default=keep,
        ensure_ascii=False,
        separators=(",", ":"),
    )
    expiry = item.get("ttl")
    ttl = expiry if type(expiry) is int and 0 <= expiry < _MAX_INTEGER else None
    return pk, sk, attributes, _join(chunks), size, ttl, *_index_key(item, "list"), *_index_key(item, "work")


def to_item(pk: str, sk: str, attributes: str, chunks: bytes | None) -> Item:
    """Undo `to_row`."""
    item: Item = {"PK": pk, "SK": sk}
    if chunks is None:
        item.update(json.loads(attributes))
    else:
        parts = _split(chunks)
        item.update(json.loads(attributes, parse_float=lambda number: parts[int(number[:-2])]))
    return item


def check_key(pk: str, sk: str) -> None:
    """Refuse a key that DynamoDB refuses.

    Raises:
        TooLarge: more than 2,048 bytes of `PK` or 1,024 bytes of `SK`.
        ValueError: a half is empty or no text.
    """
    for name, value in (("PK", pk), ("SK", sk)):
        if not isinstance(value, str) or not value:
            raise ValueError(f"the key attribute {name} must be text that is not empty, not {value!r}")
        if _text_size(value) > MAX_KEY_BYTES[name]:
            raise TooLarge(f"A key is longer than the limit of {MAX_KEY_BYTES[name]} bytes.")


def _index_key(item: Item, index: str) -> tuple[str | None, str | None]:
    pk, sk = f"{index}_pk", f"{index}_sk"
    if pk not in item and sk not in item:
        return None, None
    check_key(item.get(pk, "-"), item.get(sk, "-"))
    return item.get(pk), item.get(sk)


def _size(value: object, depth: int = 1) -> int:
    """Count as DynamoDB does (Developer Guide, "Item sizes and formats", a stored copy read 2026-11-20)."""
    if isinstance(value, str):
        return _text_size(value)
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, int):
        if abs(value) >= _MAX_NUMBER:
            raise ValueError("a number has more than 38 digits")
        return (len(str(abs(value))) + 1) // 2 + 1
    if depth > _MAX_DEPTH:
        raise ValueError(f"an item is nested more than {_MAX_DEPTH} levels deep")
    if isinstance(value, list):
        return 3 + sum(1 + _size(element, depth + 1) for element in value)
    if isinstance(value, dict):
        return 3 + sum(1 + _name_size(name) + _size(element, depth + 1) for name, element in value.items())
    raise ValueError(f"an item cannot hold a {type(value).__name__}")


def _name_size(name: str) -> int:
    if not name:
        raise ValueError("an attribute of an item needs a name")
    return _text_size(name)


def _text_size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _join(chunks: list[bytes]) -> bytes | None:
    return b"".join(len(chunk).to_bytes(4, "big") + chunk for chunk in chunks) if chunks else None


def _split(data: bytes) -> list[bytes]:
    chunks, start = [], 0
    while start < len(data):
        end = start + 4 + int.from_bytes(data[start : start + 4], "big")
        chunks.append(data[start + 4 : end])
        start = end
    return chunks
