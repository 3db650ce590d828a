"""What the scripted model says: calls, what came of them, a question, or what it can do."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from parley.adapters.scripted.conversation import STILL_NEEDED, Conversation, Result
from parley.adapters.scripted.values import PREPOSITIONS, Shape
from parley.adapters.scripted.words import Offer, Wish, wishes

REMEMBERED = 5
MAX_SHOWN_CHARS = 500

_ASKS_FOR_EARLIER = re.compile(
    r"\bdid i (?:just |already )?(?:ask|say|tell|want)\b"
    r"|\bi (?:asked|said|told you|wanted) (?:before|earlier|first|last)\b"
    r"|\bmy (?:last|first|previous|earlier) (?:question|message|request)",
    re.IGNORECASE,
)
_GREETS = re.compile(r"^\W*(?:hi|hello|hey|good (?:morning|day|evening))\b", re.IGNORECASE)
_ASKS_FOR_HELP = re.compile(r"\bhelp\b|\bwhat (?:can|do) you\b|\bhow does this\b", re.IGNORECASE)
_THANKS = re.compile(r"\b(?:thanks|thank you)\b", re.IGNORECASE)
_UNKNOWN = re.compile(r"\bunknown\b|\bnot know|\bmay or may not\b|\brun ended before\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Reply:
    """Thoughts, and then either words or calls."""

    thinking: str
    text: str = ""
    calls: tuple[Wish, ...] = ()


def decide(conversation: Conversation, offered: Sequence[Offer]) -> Reply:
    """Choose the next answer."""
    if _ASKS_FOR_EARLIER.search(conversation.text):
        return Reply("This is about what was said before.", _earlier(conversation.texts))
    if _THANKS.search(conversation.text) and not wishes(conversation.text, offered):
        return Reply("Nothing more is wanted.", "You are welcome.")
    results = [result for made in conversation.rounds for result in made]
    failed = any(result.is_error for result in results)
    rounds = _rounds(conversation.thread, offered)
    unsaid = [wish for made in rounds for wish in made if wish.missing]
    if unsaid and not results:
        return Reply("Something is missing, so I ask first.", _question(unsaid[0], offered))
    done = len(conversation.rounds)
    if done < len(rounds) and not failed:
        return Reply(_intention(rounds[done]), calls=tuple(rounds[done]))
    if results:
        thought = "Not all of it worked, and I say so." if failed else "I have what I need to answer."
        return Reply(thought, _told(results))
    if conversation.images:
        return Reply("There is something to look at.", _seen(conversation.images))
    return Reply("No tool fits this, so I say what I can do.", _help(conversation.text, offered))


def _rounds(thread: Sequence[str], offered: Sequence[Offer]) -> list[list[Wish]]:
    """Find what is wished for since the last request, each round behind what its tools want called first."""
    starts = [place for place, text in enumerate(thread) if wishes(text, offered)]
    request = thread[starts[-1] :] if starts else thread[-1:]
    planned: list[list[Wish]] = []
    for wished in wishes(" ".join([*request[:1], *map(_quoted, request[1:])]), offered):
        if first := _comes_first(wished, offered):
            planned.append(first)
        planned.append(wished)
    return planned


def _quoted(answer: str) -> str:
    """Quote a bare name, so that it is found like any other quoted word."""
    is_bare = len(answer.split()) <= 3 and not re.search(r'[\d"“]', answer)
    return f'"{answer.strip(" .!?")}"' if is_bare else answer


def _comes_first(wished: Sequence[Wish], offered: Sequence[Offer]) -> list[Wish]:
    """Find the tools that a description names in backticks: they are called first, with what is known."""
    descriptions = {offer.name: offer.description for offer in offered}
    names = {wish.name for wish in wished}
    return [
        Wish(offer.name, {name: wish.arguments[name] for name in offer.required})
        for wish in wished
        for offer in offered
        if f"`{offer.name}`" in descriptions[wish.name]
        and offer.name not in names
        and offer.required.keys() <= wish.arguments.keys()
    ]


def _intention(calls: Sequence[Wish]) -> str:
    names = _list(dict.fromkeys(call.name for call in calls))
    return f"I will use {names}." if any(call.arguments for call in calls) else f"I will look it up with {names}."


def _question(wish: Wish, offered: Sequence[Offer]) -> str:
    offer = next(offer for offer in offered if offer.name == wish.name)
    needed = _list(_missing(name, offer.required[name]) for name in wish.missing)
    return f"For {_spoken(wish.name)} {STILL_NEEDED} {needed}. You could say: “{example(offer)}”."


def _missing(name: str, shape: Shape) -> str:
    choices = f" ({', '.join(map(str, shape['enum']))})" if "enum" in shape else ""
    return f"“{_spoken(name)}”{choices}"


def _told(results: Sequence[Result]) -> str:
    if len(results) == 1:
        return _sentence(results[0])
    return "\n".join(f"- {_sentence(result)}" for result in results)


def _sentence(result: Result) -> str:
    name, text = _spoken(result.name), _shortened(result.text.strip())
    if result.is_error and _UNKNOWN.search(text):
        return f"I do not know whether “{name}” happened: {text} Please check before you ask for it again."
    if result.is_error:
        return f"“{name}” did not work: {re.sub(r'^[A-Za-z]*(?:Error|Exception): ', '', text)}"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text if re.search(r"\s.*[.!?]$", text, re.DOTALL) else f"{name.capitalize()}: {text or 'done'}."
    if isinstance(value, dict) and value:
        return f"Your {_fields(value)}." if len(value) == 1 else f"{name.capitalize()}: the {_fields(value)}."
    return f"{name.capitalize()}: {_value(value)}."


def _fields(fields: dict[str, Any]) -> str:
    first, *others = (f"{_spoken(key)} is {_value(value)}" for key, value in fields.items())
    return _list([first, *(f"the {other}" for other in others)])


def _value(value: object) -> str:
    match value:
        case None | [] | {}:
            return "nothing"
        case True | False:
            return "yes" if value else "no"
        case [*items] if all(isinstance(item, str | int | float) for item in items):
            return _list(map(str, items))
        case str():
            return value
        case _:
            return json.dumps(value, ensure_ascii=False)


def _earlier(texts: Sequence[str]) -> str:
    earlier = [f"“{_shortened(text)}”" for text in texts[:-1][-REMEMBERED:] if text]
    return f"Before this you said {_list(earlier)}." if earlier else "This is the first thing you said to me here."


def _seen(images: int) -> str:
    seen = "1 image" if images == 1 else f"{images} images"
    return f"I see {seen}. I am a scripted stand-in for a model, so I cannot tell what is shown."


def _help(text: str, offered: Sequence[Offer]) -> str:
    known = "Hello!" if _GREETS.search(text) else "Gladly." if _ASKS_FOR_HELP.search(text) else ""
    opening = known or "I found no tool for that."
    who = "I am a scripted stand-in for a model, so I only understand plain requests"
    if not offered:
        return f"{opening} {who}, and this agent has no tools."
    tools = "\n".join(f"- “{example(offer)}”: {offer.description or offer.name}" for offer in offered)
    return f"{opening} {who}; the tools behind me are real. You could say:\n{tools}"


def example(offer: Offer) -> str:
    """Make up a sentence that calls the tool."""
    if not offer.required:
        return f"Show {_spoken(offer.name)}"
    words = [_example(name, shape) for name, shape in offer.required.items()]
    if not all(words):
        return f"{offer.name} {json.dumps(dict.fromkeys(offer.required, '…'), ensure_ascii=False)}"
    return " ".join([_spoken(offer.name).capitalize(), *words])


def _example(name: str, shape: Shape) -> str:
    match shape:
        case {"const": _}:
            return _spoken(name)
        case {"enum": [value, *_]}:
            return str(value)
        case {"type": "integer" | "number"} | {"type": "array", "items": {"type": "integer" | "number"}}:
            return "5"
        case {"type": "boolean"}:
            return _spoken(name)
        case {"type": "string"} if name in PREPOSITIONS:
            return f"{name} alice"
        case {"type": "string" | "array"}:
            return f'{_spoken(name)} "something"'
        case _:
            return ""


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}…"


def _spoken(name: str) -> str:
    return re.sub(r"[_-]+", " ", name)


def _list(items: Iterable[str]) -> str:
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last
