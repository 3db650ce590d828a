"""What one write checks and changes, inside a transaction that somebody else began."""

import sqlite3
from dataclasses import dataclass
from typing import Final

from parley.adapters.sqlite.rows import SIZE, STORE, Row, check_key, to_item, to_row
from parley.core.errors import TooLarge
from parley.ports import Absent, AtMost, Condition, ConditionFailed, Item, Key, Match, Op, Put, Update

MAX_OPS: Final = 100
MAX_WRITE_BYTES: Final = 4 * 1024 * 1024
"""Limits of TransactWriteItems (API Reference as botocore 1.44.5 carries it, read 2026-11-20)."""

_KEYS = ("PK", "SK")


@dataclass(frozen=True, slots=True)
class Write:
    """Ops, checked as far as that goes without a look at the table; call it inside a transaction."""

    ops: tuple[Op, ...]
    puts: tuple[Row | None, ...]

    @classmethod
    def of(cls, ops: tuple[Op, ...]) -> "Write":
        """Check ops and lay out what they put.

        Raises:
            TooLarge: too many ops, or too large an item.
            ValueError: two ops aim at one item, or DynamoDB would refuse an item; the caller is wrong.
        """
        if len(ops) > MAX_OPS:
            raise TooLarge(f"A write of {len(ops)} ops is larger than the limit of {MAX_OPS}.")
        keys = [op.key for op in ops]
        if len(set(keys)) < len(keys):
            raise ValueError("two ops of one write aim at the same item")
        for op in ops:
            check_key(op.key.pk, op.key.sk)
            if isinstance(op, Update):
                _check_update(op)
        return cls(ops, tuple(to_row(op.item) if isinstance(op, Put) else None for op in ops))

    def __call__(self, connection: sqlite3.Connection) -> None:
        """Check every condition, then do every op; whatever is refused is refused before the first change.

        Raises:
            ConditionFailed: a condition did not hold.
            TooLarge: an updated item or the whole write is too large.
            ValueError: an update adds to what is no number; the caller is wrong.
        """
        found = [_find(connection, op) for op in self.ops]
        failed = {n: found[n] for n, op in enumerate(self.ops) if not _holds(op.condition, found[n])}
        if failed:
            raise ConditionFailed(failed)
        rows = list(self.puts)
        for n, op in enumerate(self.ops):
            if isinstance(op, Update):
                rows[n] = to_row(_updated(op, found[n]))
        size = sum(row[SIZE] for row in rows if row)
        if size > MAX_WRITE_BYTES:
            raise TooLarge(f"A write of {size} bytes is larger than the limit of {MAX_WRITE_BYTES}.")
        for op, row in zip(self.ops, rows, strict=True):
            if row:
                connection.execute(STORE, row)
            else:
                connection.execute("DELETE FROM items WHERE pk = ? AND sk = ?", (op.key.pk, op.key.sk))


@dataclass(frozen=True, slots=True)
class Sweep:
    """Removes items past their `ttl` for good, oldest first; those with the sort key `spared` stay, and come last."""

    now: float
    limit: int
    spared: str | None = None

    def __call__(self, connection: sqlite3.Connection) -> list[Key]:
        """Return the keys of what has lapsed."""
        lapsed = connection.execute(
            "SELECT pk, sk FROM items WHERE ttl <= ? ORDER BY sk IS ?, ttl LIMIT ?", (self.now, self.spared, self.limit)
        ).fetchall()
        removed = [key for key in lapsed if key[1] != self.spared]
        connection.executemany("DELETE FROM items WHERE pk = ? AND sk = ?", removed)
        return [Key(pk, sk) for pk, sk in lapsed]


def _check_update(op: Update) -> None:
    named = [*op.set, *op.add, *op.remove]
    if len(set(named)) < len(named):
        raise ValueError("an update names an attribute twice")
    if any(name in _KEYS for name in named):
        raise ValueError("an update cannot change a key")
    if not named and not isinstance(op.condition, Match):
        raise ValueError("an update that changes nothing is a check, and needs a Match")
    if any(type(amount) is not int for amount in op.add.values()):
        raise ValueError("an update adds integers only")


def _find(connection: sqlite3.Connection, op: Op) -> Item | None:
    """Read what a condition or an update needs to see: the raw item, expired or not."""
    if op.condition is None and not isinstance(op, Update):
        return None
    row = connection.execute(
        "SELECT pk, sk, attributes, chunks FROM items WHERE pk = ? AND sk = ?", (op.key.pk, op.key.sk)
    ).fetchone()
    return to_item(*row) if row else None


def _holds(condition: Condition | None, item: Item | None) -> bool:
    match condition:
        case None:
            return True
        case Absent():
            return item is None
        case AtMost():
            return int((item or {}).get(condition.attribute, 0)) <= condition.value
        case Match():
            return item is not None and all(_same(item, *wanted) for wanted in condition.attributes.items())


def _same(item: Item, name: str, wanted: str | int | bool | None) -> bool:
    if wanted is None or name not in item:
        return wanted is None and name not in item
    return type(item[name]) is type(wanted) and bool(item[name] == wanted)


def _updated(op: Update, item: Item | None) -> Item:
    before = item or {"PK": op.key.pk, "SK": op.key.sk}
    after = {name: value for name, value in before.items() if name not in op.remove} | dict(op.set)
    for name, amount in op.add.items():
        number = before.get(name, 0)
        if type(number) is not int:
            raise ValueError(f"an update adds to the attribute {name}, which is no number")
        after[name] = number + amount
    return after
