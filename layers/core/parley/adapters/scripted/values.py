"""The arguments of a tool, found in the words of a request: numbers, quotes, what follows a preposition."""

import re
from collections.abc import Set as AbstractSet
from itertools import dropwhile, takewhile
from typing import Any

Shape = dict[str, Any]
"""The JSON schema of one parameter."""

PREPOSITIONS = ("to", "for", "in", "of", "from", "about", "with", "at", "on", "as", "by", "named", "called")
LONG_TEXTS = {"query", "text", "message", "content", "body", "note", "question", "topic", "title", "reason"}
"""Parameters that take the rest of a sentence rather than a word of it."""

QUOTED = re.compile(r'"([^"]*)"|“([^”]*)”|(?<!\w)\'([^\']*)\'(?!\w)')

_NUMBER = re.compile(r"(?<![\w.])-?\d{1,15}(?:,\d{3})*(?:\.\d{1,15})?")
_PHRASE = r"(?:(?:the|a|an|my)\s+)?((?:[A-Z][\w'’-]*)(?:\s+[A-Z][\w'’-]*)*|[^\s,;]+)"
_AFTER_PREPOSITION = rf"(?i:\b(?:{'|'.join(PREPOSITIONS)}))\s+{_PHRASE}"
_REST = re.compile(r"(?:\b(?:for|about|that|saying|to|of|on)\b|:)\s*(.+)$", re.IGNORECASE | re.DOTALL)


def stems(text: str) -> set[str]:
    """Split into words without their endings: `payments` and `pay` are one."""
    words = re.findall(r"[^\W\d_]+", text.lower())
    return {re.sub(r"(?<=\w{3})(?:ments?|ing|ed|es|s)$", "", word).rstrip("e") or word for word in words}


LITTLE = stems(
    """a about all an and any are as ask at be before by call can check could current do does every find first
    for from get give go good has have her him how i if in is it its just list look make me my need new not
    now of on one or our out please return run set show so some somebody someone something tell that the
    their them then there these they this to up us use want was what when where which who will with without
    work would you your"""
)
"""Words that point to no tool and are no value."""


class Source:
    """The values in a request, each given out once; `verbs` are stems that mean a tool, and no value."""

    def __init__(self, text: str, verbs: AbstractSet[str]) -> None:
        self._text = text
        self._bare = QUOTED.sub(" ", text)
        self._verbs = verbs
        self._quoted = ["".join(filter(None, match.groups())) for match in QUOTED.finditer(text)]
        numbers = (number.replace(",", "") for number in _NUMBER.findall(self._bare))
        self._numbers = [float(number) if "." in number else int(number) for number in numbers]
        self._phrases = self._found(_AFTER_PREPOSITION)

    def take(self, name: str, shape: Shape) -> object:
        """Give the value of a parameter, or `None` when it was not said."""
        said = self._text.lower()
        match shape:
            case {"const": value}:
                return value
            case {"enum": values}:
                return next((v for v in values if re.search(rf"\b{re.escape(str(v).lower())}\b", said)), None)
            case {"type": "boolean"}:
                negated = re.search(r"\b(?:no|not|without)\b", said) is not None
                return not negated if stems(name) & stems(said) else None
            case {"type": "integer" | "number" as kind}:
                found = [n for n in self._numbers if kind == "number" or isinstance(n, int)]
                return self._numbers.pop(self._numbers.index(found[0])) if found else None
            case {"type": "array", "items": {"type": "integer" | "number"}}:
                return self._numbers or None
            case {"type": "array"}:
                return self._quoted or self._phrases or None
            case {"type": "string"}:
                return self._take_text(name)
            case _:
                return None

    def _take_text(self, name: str) -> str | None:
        """Look behind the parameter's name, in quotes, behind a preposition, and behind the tool's name."""
        spoken = re.escape(name).replace("_", "[ _]")
        if named := self._found(rf"\b(?i:{spoken})(?:\s*[=:]\s*|\s+(?:is\s+)?){_PHRASE}"):
            self._phrases = [phrase for phrase in self._phrases if phrase != named[0]]
            return named[0]
        if self._quoted:
            return self._quoted.pop(0)
        if name in LONG_TEXTS:
            rest = _REST.search(self._bare)
            return (rest[1] if rest else self._behind_verb()).strip(" .!?\n") or None
        if self._phrases:
            return self._phrases.pop(0)
        return next(iter(self._found(rf"^\s+{_PHRASE}", self._behind_verb())), None)

    def _found(self, pattern: str, text: str | None = None) -> list[str]:
        phrases = re.findall(pattern, self._bare if text is None else text)
        return [phrase for said in phrases if self._is_value(phrase := said.rstrip(".:!?"))]

    def _is_value(self, phrase: str) -> bool:
        is_word = phrase and phrase.lower() not in PREPOSITIONS and not _NUMBER.match(phrase)
        return bool(is_word) and not stems(phrase) & self._verbs and not stems(phrase) <= LITTLE

    def _behind_verb(self) -> str:
        words = list(re.finditer(r"[^\W\d_]+", self._bare))
        behind = dropwhile(lambda word: not stems(word[0]) & self._verbs, words)
        last = [*takewhile(lambda word: stems(word[0]) & self._verbs, behind)][-1:]
        return self._bare[last[0].end() :] if last else ""
