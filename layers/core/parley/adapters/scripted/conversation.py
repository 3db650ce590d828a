"""What a conversation holds, as the scripted model needs it: what was asked, and what came of it since."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAX_CHARS = 4_000
"""Of one message; what is said behind that is not heard."""

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
    answers, asked = 0, False
    for message in map(json.loads, messages):
        blocks = _blocks(message)
        text = "\n".join(block["text"] for block in blocks if block["type"] == "text").strip()
        results = [block for block in blocks if block["type"] == "tool_result"]
        if message["role"] == "assistant":
            asked = STILL_NEEDED in text
            names |= {block["id"]: block["name"] for block in blocks if block["type"] == "tool_use"}
        elif results:
            rounds.append(tuple(_result(block, names) for block in results))
        else:
            texts.append(text[:MAX_CHARS])
            rounds.clear()
            answers = answers + 1 if asked else 0
    return Conversation(tuple(texts), tuple(rounds), answers)


def _blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _result(block: dict[str, Any], names: dict[str, str]) -> Result:
    content = block.get("content") or ""
    text = content if isinstance(content, str) else "\n".join(part.get("text", "") for part in content)
    return Result(names.get(block["tool_use_id"], "it"), text, bool(block.get("is_error")))
