"""What a person's message may hold, checked where it comes in: HTTP and the queue take the same.

Every refusal names the block. Shapes: `BetaManagedAgentsUserMessageEventParams` of the `anthropic` package 2.11 (read
2026-11-28); its documents and its source `file` are refused for now. What an image may be says `limits.py`.
"""

import base64
import binascii
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    TypeAdapter,
    model_validator,
)

from parley.core import value as v
from parley.core.limits import MAX_BLOCKS, MAX_IMAGE_BYTES, MAX_IMAGES

MediaType = Literal["image/jpeg", "image/png", "image/gif", "image/webp"]

SAYS_SOMETHING = r"[^\s\x1c-\x1f]"
"""As a schema says that a text is not blank: a character that `str.strip` would leave."""

_BEGINNINGS: dict[str, tuple[bytes, ...]] = {
    "image/jpeg": (b"\xff\xd8\xff",),
    "image/png": (b"\x89PNG\r\n\x1a\n",),
    "image/gif": (b"GIF87a", b"GIF89a"),
    "image/webp": (b"RIFF",),
}


class Input(BaseModel):
    """What somebody sends; a field that is not known is a slip."""

    model_config = ConfigDict(extra="forbid")


class TextInput(Input):
    """Text, as part of a message."""

    type: Literal["text"]
    text: Annotated[str, StringConstraints(min_length=1)]


class Base64Input(Input):
    """The bytes of an image, in base64."""

    type: Literal["base64"]
    media_type: MediaType
    data: Annotated[str, Field(description="At most 5 MB of base64.")]

    @model_validator(mode="after")
    def _is_what_it_says(self) -> Self:
        if len(self.data) > MAX_IMAGE_BYTES:
            raise ValueError(f"an image may have {MAX_IMAGE_BYTES:,} bytes of base64, this one has {len(self.data):,}")
        try:
            image = base64.b64decode(self.data, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("the data is not valid base64") from None
        if not _fits(image, self.media_type):
            raise ValueError(f"the data does not begin as {self.media_type} does")
        return self


class UrlInput(Input):
    """Where the model's provider finds an image; it reads it anew for each answer."""

    type: Literal["url"]
    url: Annotated[str, StringConstraints(pattern=r"^https://[^\s/]+(/\S*)?$", max_length=2048)]


def _no_file(source: Any) -> Any:  # noqa: ANN401 - whatever was sent
    if isinstance(source, dict) and source.get("type") == "file":
        raise ValueError("files cannot be uploaded for now: send the image as `base64` or as a `url`")
    return source


Source = Annotated[Base64Input | UrlInput, Field(discriminator="type"), BeforeValidator(_no_file)]


class ImageInput(Input):
    """An image, as part of a message."""

    type: Literal["image"]
    source: Source


def _says_something(blocks: list[TextInput | ImageInput]) -> list[TextInput | ImageInput]:
    images = sum(isinstance(block, ImageInput) for block in blocks)
    if images > MAX_IMAGES:
        raise ValueError(f"a message may have {MAX_IMAGES} images, this one has {images}")
    if not images and not any(isinstance(block, TextInput) and block.text.strip() for block in blocks):
        raise ValueError("must not be blank")
    return blocks


def _fits(image: bytes, media_type: str) -> bool:
    """Say whether bytes begin as their kind does; the model's provider refuses what does not."""
    return image.startswith(_BEGINNINGS[media_type]) and (media_type != "image/webp" or image[8:12] == b"WEBP")


Blocks = Annotated[
    list[Annotated[TextInput | ImageInput, Field(discriminator="type")]],
    Field(
        min_length=1,
        max_length=MAX_BLOCKS,
        json_schema_extra={"contains": {"properties": {"text": {"pattern": SAYS_SOMETHING}}}},
    ),
    AfterValidator(_says_something),
]
"""A message as blocks: at least one image, or text that is not blank."""


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty or blank")
    return text


def _kind(said: Any) -> str | None:  # noqa: ANN401 - whatever was sent
    return "text" if isinstance(said, str) else "blocks" if isinstance(said, list) else None


Said = Annotated[
    Annotated[
        str,
        StringConstraints(min_length=1),
        Field(json_schema_extra={"pattern": SAYS_SOMETHING}),
        AfterValidator(_not_blank),
        Tag("text"),
    ]
    | Annotated[Blocks, Tag("blocks")],
    Discriminator(_kind, custom_error_type="input_kind", custom_error_message="must be a string or a list of blocks"),
]
"""A message as text, or as blocks."""


def content_of(said: str | Sequence[TextInput | ImageInput]) -> v.Content:
    """Make of what was sent what is stored."""
    if isinstance(said, str):
        return said
    return _CONTENT.validate_python([block.model_dump() for block in said])


def text_bytes(content: v.Content) -> int:
    """Count the UTF-8 bytes of a message's text; its images have a limit of their own."""
    return len((content if isinstance(content, str) else v.text_of(content)).encode())


_CONTENT: TypeAdapter[tuple[v.Block, ...]] = TypeAdapter(tuple[v.Block, ...])
