"""Tools, found in plain words without a grammar: one is meant when its name or words of its own are said."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from parley.adapters.scripted.values import LITTLE, QUOTED, Shape, Source, stems

_SEPARATOR = re.compile(r"([;\n]+|[.!?](?=\s|$)|,(?!\d)|\band\b)", re.IGNORECASE)
_THEN = re.compile(r"\b(?:and\s+)?then\b|\bafter that\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Offer:
    """A tool as a request offers it; `hints` are words that no other tool is described with."""

    name: str
    description: str
    required: dict[str, Shape]
    hints: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Wish:
    """A call that was asked for, and the parameters that were left unsaid."""

    name: str
    arguments: dict[str, Any]
    missing: tuple[str, ...] = ()


def offers(tools: bytes) -> tuple[Offer, ...]:
    """Read the tools of a request."""
    described = [(tool, _hints(tool)) for tool in json.loads(tools or b"[]")]
    uses = Counter(word for _, hints in described for word in hints)
    return tuple(
        Offer(
            tool["name"],
            tool.get("description", ""),
            _required(tool["input_schema"]),
            frozenset(word for word in hints if uses[word] == 1),
        )
        for tool, hints in described
    )


def _hints(tool: dict[str, Any]) -> set[str]:
    first_sentence = re.split(r"[.:](?:\s|$)", tool.get("description", ""))[0]
    return stems(first_sentence) - stems(tool["name"]) - LITTLE


def _required(schema: Shape) -> dict[str, Shape]:
    properties, definitions = schema.get("properties", {}), schema.get("$defs", {})
    return {name: _plain(properties.get(name, {}), definitions) for name in schema.get("required", ())}


def _plain(shape: Shape, definitions: dict[str, Shape]) -> Shape:
    """Follow references, and take the first of several types."""
    while True:
        if "$ref" in shape:
            shape = definitions.get(shape["$ref"].rsplit("/", 1)[-1], {})
        elif choices := shape.get("anyOf") or shape.get("allOf"):
            shape = next((choice for choice in choices if choice.get("type") != "null"), {})
        else:
            return shape


def wishes(text: str, offered: Sequence[Offer]) -> list[list[Wish]]:
    """Find what is asked for, in rounds that follow one another."""
    if literal := list(_literal(text, offered)):
        return [literal]
    rounds = [_round(part, offered) for part in _split(_THEN, text)]
    return [found for found in rounds if found]


def _literal(text: str, offered: Sequence[Offer]) -> Iterator[Wish]:
    """Find calls as a programmer would write them: `name {"argument": 1}`."""
    for offer in offered:
        for match in re.finditer(rf"\b{re.escape(offer.name)}\s*(?=\{{)", text):
            try:
                arguments, _ = json.JSONDecoder().raw_decode(text, match.end())
            except (ValueError, RecursionError):
                continue
            yield Wish(offer.name, arguments)


def _round(text: str, offered: Sequence[Offer]) -> list[Wish]:
    """Give each clause to the tool it points to; one that points to none belongs to its neighbour."""
    verbs = {stem for offer in offered for stem in stems(offer.name) | offer.hints}
    found: list[tuple[Offer, str]] = []
    before = ""
    for clause in _split(_SEPARATOR, text):
        offer = _best(clause, offered)
        if offer is None and found and _is_another(found[-1][0], clause, verbs):
            offer = found[-1][0]
        if offer:
            found.append((offer, before + clause))
            before = ""
        elif found:
            found[-1] = (found[-1][0], found[-1][1] + clause)
        else:
            before += clause
    return [_wish(offer, clause, verbs) for offer, clause in found]


def _is_another(offer: Offer, clause: str, verbs: set[str]) -> bool:
    """Say whether a clause repeats the call before it: pay 5 to alice "and 7 to bob"."""
    takes_lists = any(shape.get("type") == "array" for shape in offer.required.values())
    return bool(offer.required) and not takes_lists and not _wish(offer, clause, verbs).missing


def _split(separator: re.Pattern[str], text: str) -> list[str]:
    """Split a text, but not inside of quotes."""
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[0])
        return chr(0xE000 + len(kept) - 1)

    def give_back(mark: re.Match[str]) -> str:
        place = ord(mark[0]) - 0xE000
        return kept[place] if place < len(kept) else mark[0]

    parts = separator.split(QUOTED.sub(keep, text))
    return [re.sub("[\ue000-\uf8ff]", give_back, part) for part in parts]


def _best(clause: str, offered: Sequence[Offer]) -> Offer | None:
    """Choose the tool that most is said of, its name above all; none when nothing points to one."""
    said = stems(QUOTED.sub(" ", clause))

    def score(offer: Offer) -> int:
        name = stems(offer.name)
        return 3 * len(said & ((name - LITTLE) or name)) + 2 * len(said & offer.hints)

    best = max(offered, key=score, default=None)
    return best if best and score(best) else None


def _wish(offer: Offer, clause: str, verbs: set[str]) -> Wish:
    source = Source(clause, verbs)
    found = {name: source.take(name, shape) for name, shape in offer.required.items()}
    said = {name: value for name, value in found.items() if value is not None}
    return Wish(offer.name, said, tuple(name for name in found if name not in said))
