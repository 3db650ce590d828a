"""The scripted model: what a request is answered with, decided by the request alone.

Decides the blocks, ids, stop reason and damage of an answer, and nothing about HTTP, time or counters; any
process gives the same answer. The script is the last user message that has text. Its steps follow one another
each time the conversation comes back with more. Where a step says nothing, the answer echoes the script
(`You said: ...`) or quotes what the tools gave (`The tool said: 42`).

    [[text 200x8]]               200 deltas of 8 characters; delta i is i, padded with zeros, and a space
    [[text 200x8 delay=0.05]]    each delta is a write of its own, 0.05 s after the last (delay=0: no wait)
    [[text 200x8 gate=WORD]]     each delta waits for a POST /_gates/WORD of its own
    [[say any words]]            these words
    [[recall]]                   a JSON list of all user texts so far
    [[count]]                    messages=3 user_texts=2 tool_results=0 images=0
    [[think any words]]          a thinking block first, where the request turns thinking on, else nothing
    [[tool NAME {"json": 1}]]    a tool call, `{}` if left out; several in one step are parallel calls
    [[then]] [[then tool ...]]   begins the next step: the answer once results, or a paused turn, come back
    [[fault KIND ...]]           of several in one step, the first that still applies

Every fault takes `times=N`: only the first N requests fail, counted for equal conversations, or for all that
share a `key=WORD`. Those that stop a stream take `after=N` deltas (by default half of them):

    429 [retry_after=1]  529  500  400 ...   an HTTP error
    cut | cut_tool                           the connection drops: anywhere, or in the middle of tool JSON
    error_event [overloaded_error]           an error event after status 200
    hang SECONDS                             silence before the headers, or after N deltas; then the answer
    malformed_tool_json                      the last brace of the first input is missing, the stream whole
    max_tokens                               ends in the middle of the first input, or else of the text
    stop_reason WORD                         any stop reason, known or not
    refusal                                  only what [[say]] or [[text]] say, or no content at all
    pause_turn [bare]                        ends in an open call of a server tool; bare: without that block

`max_tokens`, `stop_sequences`, `tool_choice` and `thinking` of the request are heeded. A directive that
cannot be read raises Unscripted, so that a slip in a test is seen.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

from tests.fakes.anthropic_rules import PLAIN_ID, THOUGHT_ID, Json, blocks_of, sign

OPEN = re.compile(r"\[\[(?:(then)\b\s*)?(?:(text|say|think|tool|fault|recall|count)\b)?[ \t]*")
TOOL = re.compile(r"([a-zA-Z0-9_-]{1,128})\s*")
CLOSE = re.compile(r"\s*\]\]")
TEXT = re.compile(r"(\d{1,6})x(\d{1,6})(?:\s+delay=(\d+(?:\.\d+)?)|\s+gate=(\w+))?")
STATUSES = {
    "400": "invalid_request_error", "401": "authentication_error", "403": "permission_error",
    "404": "not_found_error", "413": "request_too_large", "429": "rate_limit_error", "500": "api_error",
    "503": "api_error", "504": "timeout_error", "529": "overloaded_error",
}  # fmt: skip
TRANSPORT = {"cut", "cut_tool", "error_event", "hang", *STATUSES}
DAMAGE = {"malformed_tool_json", "max_tokens", "stop_reason", "refusal", "pause_turn"}
DELTA_CHARS = 12
MAX_DELTAS = 400
QUOTED_CHARS = 2_000
MAX_TEXT_CHARS = 1_000_000
DEFAULT_THOUGHT = "The request is clear, so this comes first."


class Unscripted(ValueError):
    """A directive that cannot be read."""


class Fault(NamedTuple):
    """One thing to go wrong, where it stands in the script, and how often."""

    place: str
    kind: str
    value: str = ""
    after: int | None = None
    times: int | None = None
    key: str = ""
    retry_after: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """One content block; `text` is what is said, thought or, as JSON that may be damaged, put into a call."""

    kind: str
    text: str
    size: int = DELTA_CHARS
    delay: float | None = None  # seconds between deltas, each then a write of its own
    gate: str = ""  # what each delta waits for
    name: str = ""
    id: str = ""
    signature: str = ""

    @property
    def tokens(self) -> int:
        """Count four characters as a token."""
        return len(self.text) // 4 + 1

    def start(self) -> Json:
        """Give the block as content_block_start has it."""
        match self.kind:
            case "text":
                return {"type": "text", "text": ""}
            case "thinking":
                return {"type": "thinking", "thinking": "", "signature": ""}
            case "web_search_tool_result":
                return {"type": self.kind, "tool_use_id": self.id, "content": []}
            case _:
                pass
        return {
            "type": self.kind,
            "id": self.id,
            "name": self.name,
            "input": {},
            "caller": {"type": "direct"},
        }

    def deltas(self) -> Iterator[tuple[str, str, str]]:
        """Yield delta type, field and piece; JSON begins with an empty piece and never comes in one."""
        size = self.size
        match self.kind:
            case "text":
                names = ("text_delta", "text")
            case "thinking":
                names = ("thinking_delta", "thinking")
            case _:
                names = ("input_json_delta", "partial_json")
                size = max(1, min(size, len(self.text) // 2))
                if self.text:
                    yield *names, ""
        for place in range(0, len(self.text), size):
            yield *names, self.text[place : place + size]
        if self.signature:
            yield "signature_delta", "signature", self.signature

    def whole(self) -> Json:
        """Give the block as a message that is not streamed has it; damaged input is left out."""
        match self.kind:
            case "text":
                return {"type": "text", "text": self.text}
            case "thinking":
                return {"type": "thinking", "thinking": self.text, "signature": self.signature}
            case "tool_use" | "server_tool_use":
                with suppress(ValueError):
                    return {**self.start(), "input": json.loads(self.text)}
            case _:
                pass
        return self.start()


@dataclass(slots=True)
class Step:
    """What one answer consists of, before it knows its conversation."""

    parts: list[Block] = field(default_factory=list)
    asks: list[str] = field(default_factory=list)  # recall, count
    thought: str = ""
    faults: list[Fault] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Turn:
    """A request, the step it has reached, and the digest of all the model has read."""

    request: Json
    step: Step
    script_at: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """One message, ready to be written."""

    id: str
    model: str
    blocks: tuple[Block, ...]
    stop_reason: str
    stop_sequence: str | None = None

    def output_tokens(self, kind: str = "") -> int:
        """Count the tokens of all blocks, or of those of one kind."""
        return sum(block.tokens for block in self.blocks if kind in ("", block.kind))


def read(request: Json, digest: bytes) -> Turn:
    """Find the script and the step that an accepted request has reached, or raise Unscripted."""
    messages = request["messages"]
    script_at = max((index for index, message in enumerate(messages) if _texts(message)), default=0)
    steps = parse("\n".join(_texts(messages[script_at])))
    done = sum(message["role"] == "assistant" for message in messages[script_at:])
    return Turn(request, steps[done] if done < len(steps) else Step(), script_at, digest)


def parse(text: str) -> list[Step]:
    """Read the directives of a text, step by step."""
    steps, position = [Step()], 0
    while match := OPEN.search(text, position):
        then, word = match.groups()
        position = match.end()
        if then:
            steps.append(Step())
        if word == "tool":
            position = _read_tool(text, position, steps[-1])
        elif then or word:
            end = text.find("]]", position)
            if end < 0:
                raise Unscripted(f"[[{then or word} has no end")
            _read_word(word or "", text[position:end].strip(), steps[-1], len(steps))
            position = end + 2
    return steps


def _read_tool(text: str, position: int, step: Step) -> int:
    name = TOOL.match(text, position)
    if not name:
        raise Unscripted("[[tool needs a name of letters, digits, _ and -")
    value: Json = {}
    position = name.end()
    if text[position : position + 1] == "{":
        try:
            value, position = json.JSONDecoder().raw_decode(text, position)
        except ValueError as error:
            raise Unscripted(f"[[tool {name[1]}: {error}") from error
    end = CLOSE.match(text, position)
    if not end:
        raise Unscripted(f"[[tool {name[1]} takes one JSON object and nothing else")
    step.parts.append(_call(name[1], value))
    return end.end()


def _read_word(word: str, rest: str, step: Step, number: int) -> None:
    match word:
        case "text":
            step.parts.append(_read_text(rest))
        case "say" if rest:
            step.parts.append(Block("text", rest))
        case "think" if rest:
            step.thought = f"{step.thought}\n{rest}".strip()
        case "fault":
            step.faults.append(_read_fault(rest, f"{number}.{len(step.faults)}"))
        case "recall" | "count" if not rest:
            step.asks.append(word)
        case "" if not rest:
            pass
        case _:
            raise Unscripted(f"[[{word or 'then'} {rest}]] cannot be read")


def _read_text(rest: str) -> Block:
    match = TEXT.fullmatch(rest)
    if not match:
        raise Unscripted(f"[[text {rest}]] is not COUNTxSIZE with an optional delay=SECONDS or gate=WORD")
    count, size = int(match[1]), int(match[2])
    if not 0 < count * size <= MAX_TEXT_CHARS:
        raise Unscripted(f"[[text {rest}]] is empty or too long")
    delay = float(match[3]) if match[3] else None
    return Block("text", _filler(count, size), size, delay, match[4] or "")


@lru_cache(maxsize=64)
def _filler(count: int, size: int) -> str:
    """Write a number into each delta, so that one that is lost, doubled or out of place can be seen."""
    words = (f"{number:0{size}d}"[1 - size :] + " " if size > 1 else str(number % 10) for number in range(count))
    return "".join(words)[:-1] + "."


def _read_fault(rest: str, place: str) -> Fault:
    words = [word for word in rest.split() if "=" not in word]
    named = dict(word.split("=", 1) for word in rest.split() if "=" in word)
    if not words or len(words) > 2 or words[0] not in TRANSPORT | DAMAGE:
        raise Unscripted(f"[[fault {rest}]]: the kinds are {sorted(TRANSPORT | DAMAGE)}")
    kind, value = words[0], "".join(words[1:])
    key, retry_after = named.pop("key", ""), named.pop("retry_after", "")
    try:
        after, times = (int(named.pop(name)) if name in named else None for name in ("after", "times"))
        float(value if kind == "hang" else retry_after or 0)
    except ValueError as error:
        raise Unscripted(f"[[fault {rest}]]: {error}") from error
    if named:
        raise Unscripted(f"[[fault {rest}]]: unknown {sorted(named)}")
    return Fault(place, kind, value, after, times, key, retry_after)


def answer(turn: Turn, fault: Fault | None, salt: bytes = b"") -> Reply:
    """Decide the message: the step's blocks, then the limits of the request, then the damage of the fault."""
    kind = fault.kind if fault else ""
    blocks = [*_search_result(turn), *_thinking(turn)]
    blocks += _spoken(turn, may_call=kind not in ("refusal", "pause_turn"), may_be_empty=kind == "refusal")
    if fault and kind == "pause_turn" and fault.value != "bare":
        blocks.append(replace(_call("web_search", {"query": "more"}), kind="server_tool_use"))
    calls = any(block.kind == "tool_use" for block in blocks)
    blocks, stop, sequence = _limited(blocks, turn.request, "tool_use" if calls else "end_turn")
    if fault:
        blocks, stop = _damaged(blocks, stop, fault)
    base = hashlib.sha256(salt + turn.digest).hexdigest()
    return Reply(f"msg_01{base[:22]}", turn.request["model"], tuple(_with_ids(blocks, base)), stop, sequence)


def _search_result(turn: Turn) -> list[Block]:
    """Give the result of a server tool call that a paused turn left open."""
    last = blocks_of(turn.request["messages"][-1])[-1]
    is_open = last["type"] == "server_tool_use"
    return [Block("web_search_tool_result", "", id=last["id"])] if is_open else []


def _thinking(turn: Turn) -> list[Block]:
    config = turn.request.get("thinking") or {"type": "disabled"}
    is_on = config["type"] in ("enabled", "adaptive")
    if config["type"] == "between_tools":
        is_on = turn.script_at < len(turn.request["messages"]) - 1
    thought = turn.step.thought or (DEFAULT_THOUGHT if config["type"] == "enabled" else "")
    if not is_on or not thought:
        return []
    shown = "" if config.get("display") == "omitted" else thought
    return [Block("thinking", shown, signature=sign(shown, turn.digest))]


def _spoken(turn: Turn, *, may_call: bool, may_be_empty: bool) -> list[Block]:
    """Give the step's text and calls as far as the tool choice lets it; it may also demand a call."""
    request = turn.request
    choice = request.get("tool_choice") or {"type": "auto"}
    texts = [part for part in turn.step.parts if part.kind == "text"]
    calls = [part for part in turn.step.parts if part.kind == "tool_use"]
    offered = [tool for tool in request.get("tools", []) if "name" in tool]
    if choice["type"] == "tool":
        offered = [tool for tool in offered if tool["name"] == choice["name"]]
        calls = [call for call in calls if call.name == choice["name"]]
    if choice["type"] in ("tool", "any") and offered and not calls:
        calls = [_call(offered[0]["name"], _sample(offered[0].get("input_schema", {})))]
    if choice["type"] == "none" or not request.get("tools") or not may_call:
        calls = []
    if choice.get("disable_parallel_tool_use"):
        calls = calls[:1]
    said = [*texts, *(_informed(request["messages"], ask) for ask in turn.step.asks), *calls]
    return said if said or may_be_empty else [_default(turn)]


def _call(name: str, value: Json) -> Block:
    return Block("tool_use", json.dumps(value, ensure_ascii=False), name=name)


def _long_text(text: str) -> Block:
    return Block("text", text, max(DELTA_CHARS, len(text) // MAX_DELTAS))


def _informed(messages: list[Json], ask: str) -> Block:
    texts = [text for message in messages for text in _texts(message)]
    if ask == "recall":
        return _long_text(json.dumps(texts, ensure_ascii=False))
    results = sum(block["type"] == "tool_result" for message in messages for block in blocks_of(message))
    images = sum(block["type"] == "image" for message in messages for block in blocks_of(message))
    return _long_text(f"messages={len(messages)} user_texts={len(texts)} tool_results={results} images={images}")


def _default(turn: Turn) -> Block:
    """Quote the results since the script, or echo the script where it is the newest message."""
    messages = turn.request["messages"][turn.script_at :]
    blocks = [block for message in messages for block in blocks_of(message)]
    results = [block for block in blocks if block["type"] == "tool_result"]
    lines = [f"The tool {'failed' if block.get('is_error') else 'said'}: {_quoted(block)}" for block in results]
    if not results or len(messages) == 1:
        said = "\n".join(_texts(messages[0])).strip()[:QUOTED_CHARS]
        lines.append(f"You said: {said or '(nothing)'}")
    return _long_text("\n".join(lines).rstrip())


def _quoted(result: Json) -> str:
    content = result.get("content", "")
    if not isinstance(content, str):
        content = "\n".join(item.get("text", f"({item['type']})") for item in content)
    return content.strip()[:QUOTED_CHARS] or "(nothing)"


def _sample(schema: Json) -> Json:
    """Make up the smallest input that names every required property."""
    kinds: Json = {"integer": 1, "number": 1, "boolean": True, "array": [], "object": {}, "null": None}
    value: Json = {}
    for name in schema.get("required") or []:
        rule = (schema.get("properties") or {}).get(name)
        rule = rule if isinstance(rule, dict) else {}
        value[name] = rule.get("const", (rule.get("enum") or [None])[0] or kinds.get(str(rule.get("type")), name))
    return value


def _limited(blocks: list[Block], request: Json, stop: str) -> tuple[list[Block], str, str | None]:
    """End the message at the first stop sequence, or when its tokens are used up."""
    left = request["max_tokens"]
    for place, block in enumerate(blocks):
        if block.kind == "text" and (found := _first_stop(block.text, request.get("stop_sequences", []))):
            last = [replace(block, text=found[0])] if found[0] else []
            return [*blocks[:place], *last], "stop_sequence", found[1]
        if block.tokens > left:
            may_be_cut = left and block.kind in ("text", "tool_use")
            last = [replace(block, text=block.text[: left * 4])] if may_be_cut else []
            return [*blocks[:place], *last], "max_tokens", None
        left -= block.tokens
    return blocks, stop, None


def _first_stop(text: str, sequences: list[str]) -> tuple[str, str] | None:
    found = [(text.index(sequence), sequence) for sequence in sequences if sequence in text]
    return (text[: min(found)[0]].rstrip(), min(found)[1]) if found else None


def _damaged(blocks: list[Block], stop: str, fault: Fault) -> tuple[list[Block], str]:
    calls = [place for place, block in enumerate(blocks) if block.kind == "tool_use"]
    if fault.kind in ("malformed_tool_json", "cut_tool") and not calls:
        raise Unscripted(f"[[fault {fault.kind}]] needs a [[tool]] in its step")
    match fault.kind:
        case "malformed_tool_json":
            call = blocks[calls[0]]
            return [*blocks[: calls[0]], replace(call, text=call.text[:-1]), *blocks[calls[0] + 1 :]], stop
        case "max_tokens":
            place = calls[0] if calls else len(blocks) - 1
            half = blocks[place].text[: max(1, len(blocks[place].text) // 2)].rstrip()
            return [*blocks[:place], replace(blocks[place], text=half)], "max_tokens"
        case "stop_reason":
            return blocks, fault.value or "unheard_of"
        case "refusal" | "pause_turn":
            return blocks, fault.kind
        case _:
            pass
    return blocks, stop


def _with_ids(blocks: list[Block], base: str) -> Iterator[Block]:
    """Give calls their ids; the prefix says whether the message began with thinking."""
    prefix = THOUGHT_ID if blocks and blocks[0].kind == "thinking" else PLAIN_ID
    for place, block in enumerate(blocks):
        suffix = hashlib.sha256(f"{base}.{place}".encode()).hexdigest()[:22]
        match block.kind:
            case "tool_use":
                yield replace(block, id=f"{prefix}{suffix}")
            case "server_tool_use":
                yield replace(block, id=f"srvtoolu_01{suffix}")
            case _:
                yield block


def _texts(message: Json) -> list[str]:
    return [block["text"] for block in blocks_of(message) if message["role"] == "user" and block["type"] == "text"]
