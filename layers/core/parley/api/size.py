"""How large an answer may be: what one answer cannot carry is cut, and says so; a session's stream has the whole.

A Lambda function answers as a whole with at most 6 MB, and its JSON is written there as a string once more: quotes and
backslashes count twice, control characters seven times. The same limit holds everywhere, so that nothing breaks first
in the cloud.
"""

from collections.abc import Sequence
from typing import TypeVar

import orjson
from pydantic import BaseModel

R = TypeVar("R", bound=BaseModel)

ANSWER_BYTES = 5 * 1024 * 1024
"""What the rows of one answer may weigh together."""

PAGE_BYTES = 4 * 1024 * 1024
"""A page ends before its rows weigh more, and the next begins there; one row alone may weigh more, and is cut."""

CUT = " … [cut: too large for one answer; the session's event stream has the whole]"

NO_IMAGE = "[An image, too large for one answer; the session's event stream has it.]"
"""Told in its place: half of an image is none."""

SHORTEST = 64
"""Texts that are no longer are never cut: ids, names, types."""


def weight(row: BaseModel) -> int:
    """Return the bytes that a row takes of an answer."""
    return len(orjson.dumps(row.model_dump_json()))


def share(rows: Sequence[R], room: int = ANSWER_BYTES) -> list[R]:
    """Return the rows; where there is no room for all, heavy ones have long texts cut and large images left out."""
    weights = sorted(map(weight, rows))
    for place, each in enumerate(weights):
        fair = room // (len(weights) - place)
        if each > fair:
            return [_fitted(row, fair) for row in rows]
        room -= each
    return list(rows)


def _fitted(row: R, room: int) -> R:
    """Cut a row's texts shorter and shorter until it fits, or until only short ones are left."""
    keep, fitted = room, row
    while weight(fitted) > room and keep > SHORTEST:
        keep = max(keep // 2, SHORTEST)
        fitted = type(row).model_validate(_cut(row.model_dump(), keep))
    return fitted


def _cut(value: object, keep: int) -> object:
    match value:
        case str() if len(value) > keep:
            return value[:keep] + CUT
        case {"type": "image", "source": {**source}} if any(len(str(each)) > keep for each in source.values()):
            return {"type": "text", "text": NO_IMAGE}
        case dict():
            return {name: _cut(each, keep) for name, each in value.items()}
        case list() | tuple():
            return [_cut(each, keep) for each in value]
        case _:
            return value
