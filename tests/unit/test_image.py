"""Images in the context: as many as a request may have, and none that a request was refused for."""

import json
from typing import Any

import pytest
from parley.core import event as e
from parley.core import image
from parley.core.fold import fold
from parley.core.limits import MAX_CONTEXT_IMAGE_BYTES, MAX_CONTEXT_IMAGES
from parley.core.session import Session
from parley.core.value import Content, ImageBlock, TextBlock

from tests.build import answered, event, linked, numbered, opened, picture, result, shown, tool_use
from tests.fakes.anthropic_rules import sign
from tests.fakes.model import problem_of


def asked(*content: Any) -> list[e.Event]:
    """Make a run that is only begun, with this message."""
    return [event(e.UserMessage, content=content), *opened()[1:]]


def replied() -> list[e.Event]:
    return [*answered(event(e.AgentMessage)), event(e.RunFinished)]


def refused(code: str = "model_refused_request") -> e.RunFailed:
    return event(e.RunFailed, code=code)


def read(*events: e.Event) -> list[Any]:
    """Fold a log; return what the model reads, which the API must accept."""
    context = fold(Session(id="sesn_1"), numbered(events)).context
    assert problem_of(context if context[-1].startswith(b'{"role":"user"') else context[:-1]) is None
    return [json.loads(message) for message in context]


def words(message: Any) -> list[str]:
    """Tell a message block by block."""
    return [block.get("text", block["type"]) for block in message["content"]]


def test_the_model_reads_an_image_as_the_api_has_it() -> None:
    [message] = read(*asked(picture(), linked("https://example.com/a"), TextBlock(text="Which?")))

    source = picture().source.model_dump()
    assert message["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": source["data"]}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a"}},
        {"type": "text", "text": "Which?"},
    ]


def test_blank_text_beside_an_image_is_left_out() -> None:
    [message] = read(*asked(picture(), TextBlock(text=" ")))

    assert words(message) == ["image"]


def test_a_message_that_says_nothing_still_has_a_block() -> None:
    [message] = read(*asked(TextBlock(text=" \n")))

    assert words(message) == ["[blank]"]


def test_the_oldest_images_leave_when_there_are_too_many() -> None:
    log: list[e.Event] = []
    for _ in range(MAX_CONTEXT_IMAGES // 20):
        log += [*asked(*shown(*[picture()] * 20, text="These?")), *replied()]

    full = read(*log)
    more = read(*log, *asked(picture()))

    assert sum(words(message).count("image") for message in full) == MAX_CONTEXT_IMAGES
    assert words(more[0]) == [*[image.TOO_LONG_AGO] * 20, "These?"]
    assert more[1:-1] == full[1:]
    assert words(more[-1]) == ["image"]


def test_the_oldest_images_leave_when_they_are_too_large() -> None:
    quarter = MAX_CONTEXT_IMAGE_BYTES // 4
    log = [each for _ in range(3) for each in (*asked(picture(quarter)), *replied())]

    fits = read(*log, *asked(picture(quarter // 2)))
    full = read(*log, *asked(picture(quarter), picture(quarter // 2)))

    assert [words(message) for message in fits[::2]] == [["image"]] * 4
    assert [words(message) for message in full[::2]] == [[image.TOO_LONG_AGO], ["image"], ["image"], ["image"] * 2]


def test_the_last_message_keeps_its_images_however_large_they_are() -> None:
    large = picture(MAX_CONTEXT_IMAGE_BYTES)

    messages = fold(Session(id="s"), numbered([*asked(picture()), *replied(), *asked(large, large)])).context

    assert [message.count(b'"type":"image"') for message in messages] == [0, 0, 2]


def test_text_alone_pushes_no_image_out() -> None:
    context = (*(b'{"role":"user","content":[{"type":"image","source":{}}]}' for _ in range(200)), b'{"role":"user"}')

    assert image.with_room(context) is context


def test_images_that_a_request_was_refused_for_leave_and_the_session_goes_on() -> None:
    log = [*asked(picture()), *replied(), *asked(picture(seed=8), TextBlock(text="And this?")), refused()]

    messages = read(*log, *asked(TextBlock(text="Never mind.")))

    assert [words(message) for message in messages] == [
        ["image"],
        ["Hello"],
        [image.REFUSED, "And this?"],
        ["Never mind."],
    ]


def test_an_image_behind_an_address_may_go_away_at_any_time_and_leaves_with_a_refusal() -> None:
    log = [*asked(linked(), picture()), *replied(), *asked(TextBlock(text="Again?")), refused()]

    assert [words(message) for message in read(*log)] == [[image.REFUSED, "image"], ["Hello"], ["Again?"]]


def test_thinking_leaves_with_an_image_before_it_for_newer_models_bind_it_to_all_before() -> None:
    thought = event(e.AgentThinking, thinking="Hm", signature=sign("Hm", b""))
    answer = [*answered(thought, event(e.AgentMessage)), event(e.RunFinished)]
    many = [picture()] * MAX_CONTEXT_IMAGES

    full = read(*asked(*many), *answer, *asked(picture()))
    gone = read(*asked(linked()), *answer, *asked(TextBlock(text="Again?")), refused())
    whole = read(*asked(picture()), *answer, *asked(TextBlock(text="Again?")), refused())

    assert [[block["type"] for block in messages[1]["content"]] for messages in (full, gone, whole)] == [
        ["text"],
        ["text"],
        ["thinking", "text"],
    ]


@pytest.mark.parametrize("code", ["model_overloaded", "model_no_access"])
def test_images_stay_when_a_run_fails_for_another_reason(code: str) -> None:
    log = [*asked(linked(), picture()), refused(code)]

    assert words(read(*log)[0]) == ["image", "image"]


def test_what_only_looks_like_an_image_stays() -> None:
    """A tool's arguments and a person's text may hold anything."""
    source = {"type": "image", "source": {"type": "url", "url": "https://example.com/a"}}
    text = json.dumps(source, separators=(",", ":"))
    log = [*asked(TextBlock(text=text)), *answered(tool_use(input={"block": source})), refused()]

    messages = read(*log)

    assert words(messages[0]) == [text]
    assert messages[1]["content"][0]["input"] == {"block": source}


def test_what_only_looks_like_images_pushes_none_out() -> None:
    source = {"type": "image", "source": {"type": "url", "url": "https://example.com/a"}}
    call = tool_use(input={"blocks": [source] * MAX_CONTEXT_IMAGES})

    messages = read(*asked(picture()), *answered(call), result("call"), *replied(), *asked(picture(seed=8)))

    assert [words(message).count("image") for message in messages if message["role"] == "user"] == [1, 0, 1]


def test_content_is_a_closed_union() -> None:
    content: Content = shown(picture(), text="a")

    assert [type(block) for block in content] == [ImageBlock, TextBlock]
