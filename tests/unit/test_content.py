"""What a person may send: text and images; every refusal says where."""

import base64
from typing import Any

import pytest
from parley.core.content import Said, content_of, text_bytes
from parley.core.limits import MAX_IMAGE_BYTES, MAX_IMAGES
from parley.core.value import ImageBlock, TextBlock
from pydantic import TypeAdapter, ValidationError

from tests.build import linked, picture

SAID: TypeAdapter[Any] = TypeAdapter(Said)

TEXT = {"type": "text", "text": "What is this?"}
FIRST = {
    "image/jpeg": b"\xff\xd8\xff\xe0",
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/gif": b"GIF89a",
    "image/webp": b"RIFF\x10\x00\x00\x00WEBPVP8 ",
}


def image(media_type: str = "image/png", data: str | None = None, **source: Any) -> dict[str, Any]:
    data = base64.b64encode(FIRST.get(media_type, b"") + b"\0" * 6).decode() if data is None else data
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data} | source}


def url(address: str) -> dict[str, Any]:
    return {"type": "image", "source": {"type": "url", "url": address}}


def refusal(said: Any) -> tuple[str, str]:
    """Say where something is refused, and why."""
    with pytest.raises(ValidationError) as refused:
        SAID.validate_python(said)
    [error] = refused.value.errors()
    return ".".join(map(str, error["loc"])), error["msg"]


def test_text_is_taken_as_it_is() -> None:
    assert content_of(SAID.validate_python(" Hi ")) == " Hi "


def test_blocks_become_what_is_stored() -> None:
    sent = [picture().model_dump(), linked().model_dump(), TEXT]

    assert content_of(SAID.validate_python(sent)) == (picture(), linked(), TextBlock(text="What is this?"))


@pytest.mark.parametrize("media_type", FIRST)
def test_an_image_of_each_kind_may_stand_alone(media_type: str) -> None:
    content = content_of(SAID.validate_python([image(media_type)]))

    assert [type(block) for block in content] == [ImageBlock]


def test_a_message_may_have_twenty_images_of_five_megabytes() -> None:
    data = base64.b64encode(FIRST["image/png"].ljust(MAX_IMAGE_BYTES // 4 * 3, b"\0")).decode()
    assert len(data) == MAX_IMAGE_BYTES

    assert len(SAID.validate_python([image(data=data)] * MAX_IMAGES)) == 20


REFUSED: dict[str, tuple[Any, str, str]] = {
    "a number": (5, "", "must be a string or a list of blocks"),
    "nothing": (None, "", "must be a string or a list of blocks"),
    "blank text": (" \n", "text", "must not be empty or blank"),
    "a lone surrogate": ("\ud800", "text", "valid string"),
    "no block": ([], "blocks", "at least 1 item"),
    "65 blocks": ([TEXT] * 65, "blocks", "at most 64 items"),
    "a string among blocks": ([TEXT, "Hi"], "blocks.1", "valid dictionary"),
    "blank blocks": ([{"type": "text", "text": " "}] * 2, "blocks", "must not be blank"),
    "an empty text": ([TEXT, {"type": "text", "text": ""}], "blocks.1.text.text", "at least 1 character"),
    "an unknown block": ([TEXT, {"type": "video"}], "blocks.1", "'video'"),
    "a document": ([{"type": "document", "source": {}}], "blocks.0", "'document'"),
    "a block with an unknown field": ([TEXT | {"citations": []}], "blocks.0.text.citations", "not permitted"),
    "an image without a source": ([{"type": "image"}], "blocks.0.image.source", "required"),
    "21 images": ([image()] * 21, "blocks", "may have 20 images, this one has 21"),
    "a file": (
        [TEXT, {"type": "image", "source": {"type": "file", "file_id": "file_1"}}],
        "blocks.1.image.source",
        "files cannot be uploaded",
    ),
    "an unknown source": ([{"type": "image", "source": {"type": "ftp"}}], "blocks.0.image.source", "'ftp'"),
    "another kind of image": ([image("image/tiff")], "blocks.0.image.source.base64.media_type", "'image/jpeg'"),
    "an image that is too large": (
        [TEXT, image(data="A" * (MAX_IMAGE_BYTES + 4))],
        "blocks.1.image.source.base64",
        "5,242,880 bytes of base64, this one has 5,242,884",
    ),
    "no base64": ([TEXT, image(data="iVBO*w==")], "blocks.1.image.source.base64", "not valid base64"),
    "base64 of the web": ([image(data="_-_-")], "blocks.0.image.source.base64", "not valid base64"),
    "base64 in lines": ([image(data="iVBO\nRw==")], "blocks.0.image.source.base64", "not valid base64"),
    "base64 without its end": ([image(data="iVBORw0KGgo")], "blocks.0.image.source.base64", "not valid base64"),
    "umlauts": ([image(data="äöü=")], "blocks.0.image.source.base64", "not valid base64"),
    "no data": ([image(data="")], "blocks.0.image.source.base64", "does not begin as image/png"),
    "a GIF that says it is a JPEG": (
        [TEXT, TEXT, image("image/jpeg", base64.b64encode(FIRST["image/gif"]).decode())],
        "blocks.2.image.source.base64",
        "does not begin as image/jpeg",
    ),
    "a sound that says it is a WebP": (
        [image("image/webp", base64.b64encode(b"RIFF\x10\0\0\0WAVEfmt ").decode())],
        "blocks.0.image.source.base64",
        "does not begin as image/webp",
    ),
    "an address without TLS": ([url("http://example.com/a.png")], "blocks.0.image.source.url.url", "pattern"),
    "an address with a blank": ([url("https://example.com/a b")], "blocks.0.image.source.url.url", "pattern"),
    "an endless address": ([url("https://e.com/" + "x" * 2048)], "blocks.0.image.source.url.url", "2048"),
}


@pytest.mark.parametrize(("said", "where", "why"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_taken_is_refused_with_its_place(said: Any, where: str, why: str) -> None:
    place, message = refusal(said)

    assert place == where
    assert why in message


def test_only_text_counts_as_text() -> None:
    assert text_bytes("ä") == 2
    assert text_bytes((picture(), TextBlock(text="ä"), TextBlock(text="b"))) == 3
