"""The values that events are made of: moments, blocks, usage, reasons."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer


def rfc3339(moment: datetime) -> str:
    """Write a moment as the wire does: UTC, milliseconds, `Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Timestamp = Annotated[datetime, PlainSerializer(rfc3339, when_used="json")]


class Value(BaseModel):
    """A frozen value; unknown fields are dropped, so that an older reader survives a newer writer."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class TextBlock(Value):
    """Text, as part of a message."""

    type: Literal["text"] = "text"
    text: str


class Base64Image(Value):
    """The bytes of an image."""

    type: Literal["base64"] = "base64"
    media_type: str
    data: str


class UrlImage(Value):
    """Where the model's provider finds an image."""

    type: Literal["url"] = "url"
    url: str


class ImageBlock(Value):
    """An image, as part of a message."""

    type: Literal["image"] = "image"
    source: Annotated[Base64Image | UrlImage, Field(discriminator="type")]


Block = Annotated[TextBlock | ImageBlock, Field(discriminator="type")]

Content = str | tuple[Block, ...]
"""What somebody says: text, or blocks."""


def text_of(blocks: Iterable[TextBlock | ImageBlock]) -> str:
    """Join the texts of a message; images say nothing."""
    return "".join(block.text for block in blocks if isinstance(block, TextBlock))


class Usage(Value):
    """Tokens of one or more model calls."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0

    @property
    def total(self) -> int:
        """All that was read and written: how long the conversation is, when it is the usage of one call."""
        return sum(getattr(self, name) for name in Usage.model_fields)

    def __add__(self, other: "Usage") -> "Usage":
        """Add up."""
        return Usage(**{name: getattr(self, name) + getattr(other, name) for name in Usage.model_fields})


class Author(Value):
    """Who wrote a message."""

    agent_id: str
    name: str
    model: str


class StopReason(Value):
    """Why a session is idle; `event_ids` are the calls that wait for a person."""

    type: Literal["end_turn", "requires_action", "retries_exhausted", "budget_reached", "refusal"]
    event_ids: tuple[str, ...] | None = None

    @property
    def parks(self) -> bool:
        """Whether the run is still open, and waits for a person."""
        return self.type in ("requires_action", "budget_reached")


class RetryStatus(Value):
    """Whether Parley tries again by itself."""

    type: Literal["retrying", "exhausted", "terminal"]


class ErrorDetail(Value):
    """An error in the shape of the Managed Agents API; `code` is ours."""

    type: str
    message: str
    retry_status: RetryStatus
    code: str = ""


class EventBase(Value):
    """What every event has."""

    id: str
    seq: int = 0
    created_at: Timestamp
    processed_at: Timestamp | None = None
    run_id: str | None = None
    task_id: str | None = None
