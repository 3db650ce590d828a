"""What Parley needs from the outside, as protocols.

Adapters implement these; the store, the engine and the runner know nothing else of the world.
Every port is asynchronous, and every port has one contract suite that all of its adapters run.
"""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from parley.core.agent import Agent
from parley.core.tool import ToolContext, ToolOutcome

Item = dict[str, Any]
"""One row: `PK`, `SK` and attributes whose values are str, int, bool, bytes, None, list or dict of these."""

Index = Literal["list", "work"]
"""The secondary indexes; an item is in one when it has both of its key attributes, e.g. `list_pk`, `list_sk`."""


@dataclass(frozen=True, slots=True)
class Key:
    """The two halves of an item's address; stored as the attributes `PK` and `SK`."""

    pk: str
    sk: str


@dataclass(frozen=True, slots=True)
class Absent:
    """Holds when there is no item at the key, expired or not."""


@dataclass(frozen=True, slots=True)
class Match:
    """Holds when the item exists and these attributes equal these values (`None`: the attribute is missing)."""

    attributes: Mapping[str, str | int | bool | None]


@dataclass(frozen=True, slots=True)
class AtMost:
    """Holds when this number is at most `value`; it is 0 where the attribute, or the item, is missing."""

    attribute: str
    value: int


Condition = Absent | Match | AtMost


@dataclass(frozen=True, slots=True)
class Put:
    """Replace the whole item."""

    item: Item
    condition: Condition | None = None

    @property
    def key(self) -> Key:
        """Address of the item."""
        return Key(self.item["PK"], self.item["SK"])


@dataclass(frozen=True, slots=True)
class Update:
    """Change attributes of an item, which is created when it does not exist and no condition forbids it."""

    key: Key
    set: Mapping[str, Any] = field(default_factory=dict)
    add: Mapping[str, int] = field(default_factory=dict)
    remove: tuple[str, ...] = ()
    condition: Condition | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove an item; removing what is not there is fine unless the condition says otherwise."""

    key: Key
    condition: Condition | None = None


Op = Put | Update | Delete


class ConditionFailed(Exception):
    """At least one condition of a write did not hold; nothing was written.

    `found` maps the position of every op whose condition failed to the item at its key (None: no item).
    """

    def __init__(self, found: Mapping[int, Item | None]) -> None:
        super().__init__(f"condition failed for ops {sorted(found)}")
        self.found = found


class WriteUncertain(Exception):
    """The write may or may not have happened: a time-out, throttling, a conflict. The same bytes may be sent again."""


@dataclass(frozen=True, slots=True)
class Page:
    """Items in key order; `cursor` is set when there may be more and goes back into `query` unchanged."""

    items: list[Item]
    cursor: Item | None = None


class Table(Protocol):
    """A table of items with DynamoDB's rules.

    400 KB an item, 100 ops and 4 MB a write, no two ops on one item, 1 MB a page, keys ordered by UTF-8 bytes.
    Items whose `ttl` (epoch seconds) has passed are hidden by `get` and `query`, but conditions see them.
    """

    async def get(self, key: Key) -> Item | None:
        """Read one item, consistently."""
        ...

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
        """Read one page of the items of `pk` whose sort key is between `first` and `last`, both included.

        Consistent on the table, eventually consistent on an index. `limit` counts items looked at, so a page may be
        shorter than `limit` (or empty) and still have a cursor.
        """
        ...

    async def write(self, *ops: Op) -> None:
        """Do all ops or none.

        Raises:
            ConditionFailed: a condition did not hold; nothing was written.
            WriteUncertain: the outcome is unknown; sending the same ops again is safe to try.
            TooLarge: an item or the whole write exceeds the limits above; nothing was written.
        """
        ...

    async def close(self) -> None:
        """Let go of files, threads and connections."""
        ...


class Blobs(Protocol):
    """Bytes too large for an item, under keys like `tenant/session/name`."""

    async def put(self, key: str, data: bytes) -> None:
        """Store bytes; durable when it returns. Writing the same key again replaces them."""
        ...

    async def get(self, key: str) -> bytes | None:
        """Read bytes, or `None` when there are none."""
        ...

    async def delete(self, key: str) -> None:
        """Remove bytes; removing what is not there is fine."""
        ...

    async def delete_all(self, prefix: str) -> None:
        """Remove every blob whose key starts with `prefix`, which ends in `/`; finding none is fine."""
        ...


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request to a model, in the shape of the Messages API; `messages` are the exact JSON of each message."""

    model: str
    system: str
    tools: bytes
    messages: tuple[bytes, ...]
    max_tokens: int
    thinking_tokens: int
    tool_choice: Literal["none"] | None = None
    """`none`: answer in words, whatever tools there are."""


class Model(Protocol):
    """A model that answers in the streaming events of the Messages API."""

    def stream(self, request: ModelRequest) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the raw stream events (`message_start` … `message_stop`) as parsed JSON, unchecked and in order.

        The caller judges whether the answer is whole: an iterator that ends early is an answer cut short.

        Raises:
            ModelError: the request was refused, failed or broke off; says whether a retry makes sense and when.
        """
        ...


class Toolbox(Protocol):
    """Runs one call of an agent's tool."""

    async def call(self, agent: Agent, name: str, arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        """Run the tool to its end or its time limit. A failing tool is an outcome, never an exception."""
        ...


class Queue(Protocol):
    """Hints that a session has something to drive. A hint may be lost, late or doubled: the log decides."""

    async def send(self, tenant: str, session_id: str) -> None:
        """Ask for the session's open run to be driven on, by anybody."""
        ...


class Clock(Protocol):
    """Time. Correctness never depends on it."""

    def now(self) -> datetime:
        """Return the current time: aware, UTC, whole milliseconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Ids(Protocol):
    """Fresh identifiers."""

    def new(self, prefix: str) -> str:
        """Return `prefix_` and a new ULID."""
        ...
