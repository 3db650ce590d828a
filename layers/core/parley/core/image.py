"""Images in what the model reads: how many stay, and which leave it so that the session stays usable.

A request that is too large, or has an image that the provider cannot read, is refused each time it is sent again. What
leaves the context stays in the log, and in its place the model reads that there was an image. Thinking leaves with it:
newer models refuse thinking when anything before it has changed.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from parley.core.limits import MAX_CONTEXT_IMAGE_BYTES, MAX_CONTEXT_IMAGES
from parley.core.message import dump, is_answer, without_thinking

TOO_LONG_AGO = "[An image was here. There are newer ones, and no room for it any more.]"
SEEN = "[An image was here.]"
REFUSED = "[An image was here. It could not be read.]"

_IMAGE, _URL = b'{"type":"image","source":{', b'{"type":"image","source":{"type":"url"'
"""As `message` writes them; inside of a string the quotes would be escaped, and no tool's input is a user's."""

Context = tuple[bytes, ...]


def with_room(context: Context) -> Context:
    """Leave out the oldest images when the last message brings more than a request may have; it keeps its own."""
    if not _images(context[-1]):
        return context
    images = [_images(message) for message in context]
    count, size = sum(images), sum(len(message) for message, n in zip(context, images, strict=True) if n)
    kept = list(context)
    for place, message in enumerate(context[:-1]):
        if count <= MAX_CONTEXT_IMAGES and size <= MAX_CONTEXT_IMAGE_BYTES:
            break
        if images[place]:
            kept[place] = _without(message, TOO_LONG_AGO)
            count, size = count - images[place], size - len(message)
    return _changed(context, kept)


def without_refused(context: Context) -> Context:
    """Leave out what may be why a request was refused: images that no answer followed, and those behind a URL."""
    answers = [place for place, message in enumerate(context) if is_answer(message)]
    unanswered = answers[-1] + 1 if answers else 0
    kept = [_without(message, REFUSED, _is_url) if _URL in message else message for message in context[:unanswered]]
    return _changed(context, [*kept, *(_without(message, REFUSED) for message in context[unanswered:])])


def in_words(message: bytes) -> bytes:
    """Say of every image in a message that it was there."""
    return _without(message, SEEN)


def _changed(context: Context, kept: Sequence[bytes]) -> Context:
    """Return what is kept; without thinking, when that is not the whole context."""
    return context if context == tuple(kept) else tuple(map(without_thinking, kept))


def _images(message: bytes) -> int:
    return 0 if is_answer(message) else message.count(_IMAGE)


def _is_url(image: dict[str, Any]) -> bool:
    return bool(image["source"]["type"] == "url")


def _without(message: bytes, instead: str, which: Callable[[dict[str, Any]], bool] = bool) -> bytes:
    """Put words where a person's images were."""
    if not _images(message):
        return message
    parsed = json.loads(message)
    words = {"type": "text", "text": instead}
    blocks = [words if block["type"] == "image" and which(block) else block for block in parsed["content"]]
    return dump(parsed | {"content": blocks})
