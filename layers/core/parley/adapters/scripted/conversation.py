"""What a conversation holds, as the scripted model needs it: what was asked, and what came of it since.

A summary is written so that it can be read again: whether a conversation was compacted changes no answer.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from parley.core.compaction import summary_in
from parley.core.compose import EDITED
from parley.core.restore import SET_BACK

MAX_CHARS = 4_000
"""Of one message; what is said behind that is not heard."""

REMEMBERED = 5
"""Texts before the last that a summary holds."""

MAX_SUMMARISED_CHARS = 500
"""Of a text before the last, and of a result."""

STILL_NEEDED = "I still need"
"""What a question for a missing argument has in it; the next message of the person may answer it."""


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one call."""

    name: str
    text: str
    is_error: bool


@dataclass(frozen=True, slots=True)
class Conversation:
    """What the person said, oldest first, and the results of each round of calls since the last of it."""

    texts: tuple[str, ...]
    rounds: tuple[tuple[Result, ...], ...]
    answers: int = 0
    """How many of the last texts follow a question that was put to the person."""
    asked: bool = False
    """Whether such a question was put since the last text."""
    images: int = 0
    """In what the person said last."""

    @property
    def text(self) -> str:
        """What the person said last."""
        return self.texts[-1] if self.texts else ""

    @property
    def thread(self) -> tuple[str, ...]:
        """What the person said last, and what that may complete."""
        return self.texts[-1 - self.answers :]


def read(messages: Sequence[bytes]) -> Conversation:
    """Read the messages of a request."""
    texts: list[str] = []
    rounds: list[tuple[Result, ...]] = []
    names: dict[str, str] = {}
    answers, asked, images = 0, False, 0
    for encoded in messages:
        message = json.loads(encoded)
        blocks = _blocks(message)
        text = "\n".join(block["text"] for block in blocks if block["type"] == "text").strip()
        results = [block for block in blocks if block["type"] == "tool_result"]
        if message["role"] == "assistant":
            asked = STILL_NEEDED in text
            names |= {block["id"]: block["name"] for block in blocks if block["type"] == "tool_use"}
        elif summary_in(encoded):
            before = _summarised(text)
            texts, rounds = list(before.texts), list(before.rounds)
            answers, asked = before.answers, before.asked
        elif results:
            rounds.append(tuple(_result(block, names) for block in results))
        elif text != SET_BACK:  # nobody said that
            texts.append(text[:MAX_CHARS])
            images = sum(block["type"] == "image" for block in blocks)
            rounds.clear()
            answers = answers + 1 if asked else 0
            asked = False
    return Conversation(tuple(texts), tuple(rounds), answers, asked, images)


_SAID, _RETURNED = "You have said:", "Since then, tools have returned:"
_ANSWERS, _ASKED = "Of that, so many were answers:", f"{STILL_NEEDED} an answer to my last question."


def summarise(conversation: Conversation) -> str:
    """Write what must not be forgotten: a line of JSON for each text and each round of calls."""
    *earlier, last = conversation.texts or ("",)
    said = [*(text[:MAX_SUMMARISED_CHARS] for text in earlier[-REMEMBERED:]), last]
    lines = [_SAID, *map(_line, said), _ANSWERS, _line(conversation.answers)]
    if conversation.rounds:
        made = [
            [(each.name, each.text[:MAX_SUMMARISED_CHARS], each.is_error) for each in one]
            for one in conversation.rounds
        ]
        lines += [_RETURNED, *map(_line, made)]
    return "\n".join([*lines, _ASKED] if conversation.asked else lines)


def _line(value: object) -> str:
    return f"- {json.dumps(value, ensure_ascii=False)}"


def _summarised(text: str) -> Conversation:
    """Read a summary; of one that somebody else wrote nothing is understood."""
    with suppress(ValueError, TypeError):
        return _parsed(text)
    return Conversation((), ())


def _parsed(text: str) -> Conversation:
    lists: dict[str, list[Any]] = {_SAID: [], _ANSWERS: [], _RETURNED: [], _ASKED: []}
    under = ""
    for line in text.split("\n"):
        if line in lists:
            under = line
        elif under and line.startswith("- "):
            lists[under].append(json.loads(line[2:]))
    if not lists[_SAID]:
        raise ValueError("this is no summary of the scripted model's")
    rounds = tuple(tuple(Result(*each) for each in one) for one in lists[_RETURNED])
    return Conversation(tuple(lists[_SAID]), rounds, sum(lists[_ANSWERS]), under == _ASKED)


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _result(block: dict[str, Any], names: dict[str, str]) -> Result:
    content = block.get("content") or ""
    parts = [content] if isinstance(content, str) else [part.get("text", "") for part in content]
    text = "\n".join(part for part in parts if not part.startswith(EDITED))
    return Result(names.get(block["tool_use_id"], "it"), text, bool(block.get("is_error")))
