"""What Hypothesis draws: any event of the union, made from the models themselves, so that a new type is drawn too."""

import types
import typing
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated, Any, Literal, get_args, get_origin

from hypothesis import strategies as st
from parley.core import event as e
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tests.fakes.clock import NOON

UNION: tuple[type[e.EventBase], ...] = get_args(get_args(e.Event)[0])

TEXTS = st.text(max_size=20) | st.sampled_from(
    ["a\r\nb\rc", "\0", "\u2028\u2029\x85", "\ufeff", "\U0001f600", "data: x\n\n"]
)
"""Whatever a person, a model or a tool may say; halves of characters are refused or replaced before they get here."""

NUMBERS = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=4,
)

IDS = st.sampled_from(["call_1", "call_2", "call_3"])
"""Few, so that events speak of each other."""

CONVERSATIONS: tuple[tuple[str, ...], ...] = (
    (),
    ('{"role":"user","content":[{"type":"text","text":"Hi"}]}',),
    (
        '{"role":"user","content":[{"type":"text","text":"Pay"}]}',
        '{"role":"assistant","content":[{"type":"tool_use","id":"toolu_1","name":"pay","input":{}}]}',
        '{"role":"user","content":[{"type":"tool_result","tool_use_id":"toolu_1","content":[],"is_error":false}]}',
    ),
)
"""What a session may be set back to: exact JSON, and each call with its result."""

MOMENTS = st.integers(0, 10**11).map(lambda ms: NOON + timedelta(milliseconds=ms))

PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXTS,
    int: st.integers(0, 2**53),
    float: st.floats(0, 1e9),
    bool: st.booleans(),
    type(None): st.none(),
    datetime: MOMENTS,
    Any: JSON,
}


def anything(annotation: Any) -> st.SearchStrategy[Any]:
    """Draw any value of a type."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if annotation in PLAIN:
        return PLAIN[annotation]
    if origin is Annotated:
        return anything(parts[0])
    if origin is Literal:
        return st.sampled_from(parts)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(anything, parts))
    if origin is tuple:
        return st.lists(anything(parts[0]), min_size=1, max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(anything(parts[0]), anything(parts[1]), max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return values(annotation)
    raise TypeError(f"nobody has said how to draw {annotation}")


@cache
def values(kind: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Draw any value of a class."""
    fields = {name: _field(name, field) for name, field in kind.model_fields.items() if name != "seq"}
    return st.fixed_dictionaries(fields).map(kind.model_validate)


def _field(name: str, field: FieldInfo) -> st.SearchStrategy[Any]:
    if name == "messages":
        return st.sampled_from(CONVERSATIONS)
    return IDS if name in ("id", "tool_use_id", "provider_id") else anything(field.annotation)


EVENTS: st.SearchStrategy[Any] = st.sampled_from(UNION).flatmap(values)
"""Any event."""
