"""What the arguments of a call may be, whether a model or a person writes them: JSON that can be stored and sent on."""

import json
from typing import Any

from parley.core.limits import MAX_INPUT_DEPTH


def arguments(value: object) -> dict[str, Any]:
    """Return a call's arguments.

    Raises:
        ValueError: not an object, too deep, or with an infinite number or half a character in it.
    """
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except RecursionError as error:
        raise ValueError("too deep") from error
    if not isinstance(value, dict):
        raise ValueError("not an object")
    if not _is_shallow(value, MAX_INPUT_DEPTH):
        raise ValueError(f"nested in more than {MAX_INPUT_DEPTH} levels")
    return value


def _is_shallow(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_is_shallow(each, levels - 1) for each in inner)
