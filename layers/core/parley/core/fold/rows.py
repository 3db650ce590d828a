"""The shape of the tables that say what each type of event changes."""

from collections.abc import Callable
from typing import Any

from parley.core.session import Session
from parley.core.value import EventBase

Rows = dict[type[EventBase], Callable[[Session, Any], Session]]
