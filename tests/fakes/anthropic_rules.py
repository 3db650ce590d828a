"""What the Messages API refuses: one pure function from a request body to its first problem.

Decides whether a body is acceptable and what a signature vouches for; nothing about the answer. Stricter than
the API on purpose: `max_tokens: 0`, the role `system` and an empty last assistant message are refused, and a
result must stand in the very next message even where the API would join consecutive user messages.

Sources: shapes from the types of the anthropic package 2.11 (API version 2026-10-21), read 2026-11-20. The
messages say what the API says, in other words.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

Json: TypeAlias = dict[str, Any]

VERSIONS = ("2023-06-01", "2026-10-21")
MAX_MESSAGES = 100_000
MAX_CACHE_MARKS = 4
MAX_IMAGES = 100
MAX_IMAGE_BYTES = 5 * 1024 * 1024
IMAGE_TOKENS = 1600
IMAGES = {
    "image/jpeg": re.compile(rb"\xff\xd8\xff"),
    "image/png": re.compile(rb"\x89PNG\r\n\x1a\n"),
    "image/gif": re.compile(rb"GIF8[79]a"),
    "image/webp": re.compile(rb"RIFF....WEBP", re.DOTALL),
}
MIN_THINKING_TOKENS = 1024
PLAIN_ID, THOUGHT_ID = "toolu_01", "toolu_02"  # the second begins ids given out after a thinking block
SIGNING_KEY = b"thinking blocks of the fake model"

TOOL_USE_ID = re.compile(r"[a-zA-Z0-9_-]+")
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
PROPERTY = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
UP_TO_4_5 = re.compile(r"claude-(?:[123]|instant|(?:opus|sonnet|haiku)-4-(?:[015]\b|2025))")
ADAPTIVE_ONLY = re.compile(r"claude-(?:mythos|fable|opus-4-[78]|opus-5)")
SERVER_TOOL = re.compile(
    r"(bash_20250124|memory_20250818|code_execution_20(250522|250825|260120|260521)"
    r"|(browser|computer)_toolset_20260801|text_editor_20250(124|429|728)|web_search_20(250305|260209|260318)"
    r"|web_fetch_20(250910|260209|260309|260318)|tool_search_tool_(bm25|regex)_20251119)"
)
KINDS: dict[str, type] = {
    "str": str, "int": int, "bool": bool, "list": list, "object": dict, "number": float, "null": type(None)
}  # fmt: skip


class Refused(ValueError):
    """A body the API answers with 400; its text is the message of the error."""


class Shape:
    """The fields an object may have, written `name:kind|kind`, with `name?` for one that may be left out."""

    def __init__(self, *fields: str) -> None:
        split = [field.split(":") for line in fields for field in line.split()]
        self.required = [name for name, _ in split if not name.endswith("?")]
        self.words = {name.rstrip("?"): words for name, words in split}
        self.kinds = {name: tuple(KINDS[word] for word in words.split("|")) for name, words in self.words.items()}

    def check(self, value: object, where: str) -> Json:
        """Refuse missing, unknown and mistyped fields; `where` is a path that ends in a dot, or empty."""
        if not isinstance(value, dict):
            raise Refused(f"{where.rstrip('.') or 'request'}: input should be an object")
        for name in self.required:
            if name not in value:
                raise Refused(f"{where}{name}: field required")
        for name, item in value.items():
            kinds = self.kinds.get(name)
            if kinds is None:
                raise Refused(f"{where}{name}: extra inputs are not permitted")
            if not isinstance(item, kinds) or (isinstance(item, bool) and bool not in kinds):
                raise Refused(f"{where}{name}: input should be a valid {self.words[name]}")
        return value


MARKED = "type:str cache_control?:object|null"
REQUEST = (
    "model:str max_tokens:int messages:list stream?:bool system?:str|list tools?:list tool_choice?:object"
    " thinking?:object metadata?:object stop_sequences?:list service_tier?:str output_config?:object"
    " inference_geo?:str|null speed?:str|null container?:str|object|null diagnostics?:object|null"
    " cache_control?:object|null"
)
REQUESTS = {
    "2023-06-01": Shape(REQUEST, "temperature?:number|int top_p?:number|int top_k?:int"),
    "2026-10-21": Shape(REQUEST),
}
MESSAGE = Shape("role:str content:str|list")
MARK = Shape("type:str ttl?:str")
METADATA = Shape("user_id?:str|null")
OUTPUT_CONFIG = Shape("effort?:str|null format?:object|null")
BASE64_SOURCE = Shape("type:str data:str media_type:str")
CUSTOM_TOOL = Shape(
    "type?:str|null name:str input_schema:object description?:str strict?:bool defer_loading?:bool"
    " input_examples?:list allowed_callers?:list eager_input_streaming?:bool|null cache_control?:object|null"
)
SERVER_RESULT = Shape(MARKED, "tool_use_id:str content:object|list caller?:object")
BLOCKS = {
    "text": Shape(MARKED, "text:str citations?:list|null"),
    "image": Shape(MARKED, "source:object transformations?:object|null"),
    "document": Shape(MARKED, "source:object citations?:object|null context?:str|null title?:str|null"),
    "search_result": Shape(MARKED, "content:list source:str title:str citations?:object"),
    "thinking": Shape("type:str thinking:str signature:str"),
    "redacted_thinking": Shape("type:str data:str"),
    "tool_use": Shape(MARKED, "id:str name:str input:object caller?:object toolset_name?:str|null"),
    "tool_result": Shape(MARKED, "tool_use_id:str content?:str|list is_error?:bool toolset_name?:str|null"),
    "server_tool_use": Shape(MARKED, "id:str name:str input:object caller?:object"),
    "container_upload": Shape(MARKED, "file_id:str"),
    "tool_reference": Shape(MARKED, "tool_name:str"),
    "browser_state": Shape(MARKED, "tabs:list state_changes?:list|null"),
    "web_search_tool_result": SERVER_RESULT,
    "web_fetch_tool_result": SERVER_RESULT,
    "code_execution_tool_result": SERVER_RESULT,
    "bash_code_execution_tool_result": SERVER_RESULT,
    "text_editor_code_execution_tool_result": SERVER_RESULT,
    "tool_search_tool_result": SERVER_RESULT,
}
BY_SERVER = {kind for kind, shape in BLOCKS.items() if shape is SERVER_RESULT} | {"server_tool_use"}
IN_MESSAGE = {
    "user": {"text", "image", "document", "search_result", "tool_result", "container_upload"},
    "assistant": {"text", "thinking", "redacted_thinking", "tool_use"} | BY_SERVER,
}
IN_RESULT = {"text", "image", "document", "search_result", "tool_reference", "browser_state"}
CHOICES = {
    "auto": Shape("type:str disable_parallel_tool_use?:bool"),
    "any": Shape("type:str disable_parallel_tool_use?:bool"),
    "tool": Shape("type:str name:str disable_parallel_tool_use?:bool"),
    "none": Shape("type:str"),
}
THINKING = {
    "enabled": Shape("type:str budget_tokens:int display?:str|null"),
    "adaptive": Shape("type:str display?:str|null"),
    "between_tools": Shape("type:str"),
    "disabled": Shape("type:str"),
}
ENUMS: dict[str, tuple[str | None, ...]] = {
    "service_tier": ("auto", "standard_only"),
    "speed": ("standard", "fast", None),
    "effort": ("low", "medium", "high", "xhigh", "max", None),
    "display": ("summarized", "omitted", None),
    "ttl": ("5m", "1h"),
}


def parse(body: bytes) -> object:
    """Read strict JSON: UTF-8, no NaN, no lone surrogate, or raise Refused."""
    try:
        text = body.decode("utf-8")
        value: object = json.loads(text, parse_constant=_no_constant)
        if SURROGATE_ESCAPE.search(text):
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise Refused(f"the request body is not valid JSON: {error}") from error
    return value


def first_problem(request: object, *, version: str = VERSIONS[-1], bound: bool = False) -> str | None:
    """Say why the API would refuse this body, or None; `bound` ties thinking blocks to what precedes them."""
    try:
        _check(REQUESTS[version].check(request, ""), bound)
    except Refused as refused:
        return str(refused)
    return None


def _check(request: Json, bound: bool) -> None:
    _check_top(request)
    _check_tools(request)
    for index, message in enumerate(request["messages"]):
        _check_message(message, f"messages.{index}.")
    _check_images(request)
    _check_marks(request)
    _check_order(request)
    _check_pairs(request["messages"])
    _check_thinking(request)
    if bound:
        _check_bound(request)


def _check_top(request: Json) -> None:
    if not request["model"].strip():
        raise Refused("model: string should have at least 1 character")
    if request["max_tokens"] < 1:
        raise Refused("max_tokens: input should be greater than or equal to 1")
    if not 1 <= len(request["messages"]) <= MAX_MESSAGES:
        raise Refused(f"messages: between 1 and {MAX_MESSAGES} messages are required")
    for index, stop in enumerate(request.get("stop_sequences", [])):
        if not isinstance(stop, str) or not stop.strip():
            raise Refused(f"stop_sequences.{index}: each stop sequence must contain non-whitespace text")
    for field in ("service_tier", "speed"):
        _check_enum(request, field, "")
    METADATA.check(request.get("metadata", {}), "metadata.")
    config = OUTPUT_CONFIG.check(request.get("output_config", {}), "output_config.")
    _check_enum(config, "effort", "output_config.")
    if isinstance(request.get("system"), list):
        for index, block in enumerate(request["system"]):
            _check_block(block, {"text"}, f"system.{index}.")


def _check_enum(holder: Json, field: str, where: str) -> None:
    if field in holder and holder[field] not in ENUMS[field]:
        raise Refused(f"{where}{field}: input should be one of {ENUMS[field]}")


def _check_message(message: object, where: str) -> None:
    role = MESSAGE.check(message, where)["role"]
    assert isinstance(message, dict)
    if role not in IN_MESSAGE:
        raise Refused(f"{where}role: input should be 'user' or 'assistant'")
    if not message["content"]:
        raise Refused(f"{where}content: all messages must have non-empty content")
    for index, block in enumerate(blocks_of(message)):
        _check_block(block, IN_MESSAGE[role], f"{where}content.{index}.")
        if role == "user" and block.get("citations") and block["type"] == "text":
            raise Refused(f"{where}content.{index}.citations: not permitted in user messages")
    if role == "assistant" and blocks_of(message)[-1]["type"] in ("thinking", "redacted_thinking"):
        raise Refused(f"{where[:-1]}: the final block in an assistant message cannot be `thinking`")


def _check_block(block: object, allowed: set[str], where: str) -> None:
    kind = block.get("type") if isinstance(block, dict) else None
    if not isinstance(block, dict) or not isinstance(kind, str) or kind not in BLOCKS:
        raise Refused(f"{where}type: input tag {kind!r} does not match any of the expected tags: {sorted(allowed)}")
    if kind not in allowed:
        raise Refused(f"{where[:-1]}: `{kind}` blocks are not allowed here, only {sorted(allowed)}")
    BLOCKS[kind].check(block, where)
    if block.get("cache_control") is not None:
        _check_mark(block["cache_control"], where)
    _check_contents(kind, block, where)


def _check_contents(kind: str, block: Json, where: str) -> None:
    match kind:
        case "text":
            if not block["text"].strip():
                raise Refused(f"{where}text: text content blocks must be non-empty and contain non-whitespace text")
        case "image" | "document":
            (_check_image if kind == "image" else _check_source)(block["source"], f"{where}source.")
        case "tool_use":
            if not TOOL_USE_ID.fullmatch(block["id"]):
                raise Refused(f"{where}id: string should match pattern '^[a-zA-Z0-9_-]+$'")
        case "tool_result":
            _check_result(block, where)
        case "thinking":
            if not is_signed(block["thinking"], block["signature"]):
                raise Refused(f"{where[:-1]}: invalid `signature` in `thinking` block")
        case "redacted_thinking":
            raise Refused(f"{where[:-1]}: invalid `data` in `redacted_thinking` block")
        case _:
            pass


def _check_source(source: Json, where: str) -> None:
    if source.get("type") not in ("base64", "url", "file", "text", "content"):
        raise Refused(f"{where}type: unknown source {source.get('type')!r}")
    if source["type"] == "base64":
        BASE64_SOURCE.check(source, where)
        if not _decoded(source["data"]):
            raise Refused(f"{where}data: invalid or empty base64 data")


def _check_image(source: Json, where: str) -> None:
    if source.get("type") not in ("base64", "url", "file"):
        raise Refused(f"{where}type: input tag {source.get('type')!r} is none of 'base64', 'url', 'file'")
    _check_source(source, where)
    if source["type"] == "url" and not str(source.get("url")).startswith("https://"):
        raise Refused(f"{where}url: only HTTPS URLs are supported")
    if source["type"] != "base64":
        return
    if source["media_type"] not in IMAGES:
        raise Refused(f"{where}media_type: input should be one of {sorted(IMAGES)}")
    if len(source["data"]) > MAX_IMAGE_BYTES:
        raise Refused(
            f"{where}base64: image exceeds 5 MB maximum: {len(source['data'])} bytes > {MAX_IMAGE_BYTES} bytes"
        )
    if not IMAGES[source["media_type"]].match(_decoded(source["data"])):
        raise Refused(f"{where}base64.media_type: the image does not appear to be {source['media_type']}")


def _check_images(request: Json) -> None:
    images = sum(block["type"] == "image" for message in request["messages"] for block in blocks_of(message))
    if images > MAX_IMAGES:
        raise Refused(f"messages: too many images: {images} > {MAX_IMAGES}")


def _check_result(block: Json, where: str) -> None:
    content = block.get("content", "")
    if isinstance(content, str):
        return
    for index, item in enumerate(content):
        _check_block(item, IN_RESULT, f"{where}content.{index}.")
        if block.get("is_error") and item["type"] != "text":
            raise Refused(f"{where}content: all content must be type `text` if `is_error` is true")


def _check_tools(request: Json) -> None:
    names: set[str] = set()
    for index, tool in enumerate(request.get("tools", [])):
        where = f"tools.{index}."
        if not isinstance(tool, dict):
            raise Refused(f"{where[:-1]}: input should be an object")
        if tool.get("type") in (None, "custom"):
            CUSTOM_TOOL.check(tool, f"{where}custom.")
            _check_schema(tool["input_schema"], f"{where}custom.input_schema")
        elif not isinstance(tool["type"], str) or not SERVER_TOOL.fullmatch(tool["type"]):
            raise Refused(f"{where}type: input tag {tool['type']!r} does not match any of the expected tags")
        name = tool.get("name", tool.get("type"))
        if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
            raise Refused(f"{where}custom.name: string should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
        if name in names:
            raise Refused(f"tools: tool names must be unique, {name!r} is not")
        if tool.get("cache_control") is not None:
            _check_mark(tool["cache_control"], where)
        names.add(name)
    _check_choice(request, names)


def _check_schema(schema: Json, where: str) -> None:
    if schema.get("type") != "object":
        raise Refused(f"{where}.type: input should be 'object'")
    for word in ("oneOf", "allOf", "anyOf"):
        if word in schema:
            raise Refused(f"{where}: oneOf, allOf and anyOf are not supported at the top level")
    properties = schema.get("properties") or {}
    required = schema.get("required") or []
    if not isinstance(properties, dict) or not all(isinstance(item, dict | bool) for item in properties.values()):
        raise Refused(f"{where}.properties: JSON schema is invalid")
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise Refused(f"{where}.required: JSON schema is invalid")
    for name in properties:
        if not PROPERTY.fullmatch(name):
            raise Refused(f"{where}.properties: property keys should match pattern '^[a-zA-Z0-9_.-]{{1,64}}$'")


def _check_choice(request: Json, names: set[str]) -> None:
    choice = request.get("tool_choice")
    if choice is None:
        return
    if not isinstance(choice.get("type"), str) or choice["type"] not in CHOICES:
        raise Refused(f"tool_choice.type: input should be one of {sorted(CHOICES)}")
    CHOICES[choice["type"]].check(choice, "tool_choice.")
    if not names and choice["type"] != "none":
        raise Refused("tool_choice: may only be specified while providing tools")
    if choice["type"] == "tool" and choice["name"] not in names:
        raise Refused(f"tool_choice.name: tool {choice['name']!r} not found in provided tools")


def _check_mark(mark: Json, where: str) -> None:
    MARK.check(mark, f"{where}cache_control.")
    if mark["type"] != "ephemeral":
        raise Refused(f"{where}cache_control.type: input should be 'ephemeral'")
    _check_enum(mark, "ttl", f"{where}cache_control.")


def is_marked(block: Json) -> bool:
    """Say whether a block, or one inside a tool result, ends a cached prefix."""
    return any(holder.get("cache_control") is not None for holder in _holders(block))


def _holders(block: Json) -> list[Json]:
    inner = block.get("content") if block.get("type") == "tool_result" else None
    return [*inner, block] if isinstance(inner, list) else [block]


def _check_marks(request: Json) -> None:
    if request.get("cache_control") is not None:
        _check_mark(request["cache_control"], "")
    holders = [holder for _, _, block in _walk(request) for holder in _holders(block)]
    marks = [holder["cache_control"] for holder in [*holders, request] if holder.get("cache_control") is not None]
    if len(marks) > MAX_CACHE_MARKS:
        raise Refused(f"a maximum of {MAX_CACHE_MARKS} blocks with cache_control may be provided, found {len(marks)}")
    ttls = [mark.get("ttl", "5m") for mark in marks]
    if ttls != sorted(ttls):
        raise Refused("a cache_control block with ttl '1h' must not come after one with ttl '5m'")


def _check_order(request: Json) -> None:
    messages = request["messages"]
    if messages[0]["role"] != "user":
        raise Refused("messages: first message must use the `user` role")
    kinds = {block["type"] for message in messages for block in blocks_of(message)}
    if kinds & {"tool_use", "tool_result"} and not request.get("tools"):
        raise Refused("tools: field required when messages contain `tool_use` or `tool_result` blocks")
    last = blocks_of(messages[-1])[-1]
    if messages[-1]["role"] != "assistant":
        return
    if last["type"] == "text" and last["text"] != last["text"].rstrip():
        raise Refused("messages: final assistant content cannot end with trailing whitespace")
    if last["type"] == "text" and not UP_TO_4_5.search(request["model"]):
        raise Refused("this model does not support assistant message prefill; end the conversation with a user message")


def _check_pairs(messages: list[Json]) -> None:
    seen: set[str] = set()
    asked: list[str] = []
    for index, message in enumerate(messages):
        blocks = blocks_of(message)
        results = [block["tool_use_id"] for block in blocks if block["type"] == "tool_result"]
        _check_results(f"messages.{index}", asked, results)
        if missing := [asked_id for asked_id in asked if asked_id not in results]:
            raise Refused(_unanswered(index - 1, missing))
        if any(block["type"] != "tool_result" for block in blocks[: len(results)]):
            raise Refused(f"messages.{index}: `tool_result` blocks must come first in the content")
        asked = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len(set(asked)) < len(asked) or seen & set(asked):
            raise Refused(f"messages.{index}: `tool_use` ids must be unique")
        seen.update(asked)
    if asked:
        raise Refused(_unanswered(len(messages) - 1, asked))


def _check_results(where: str, asked: list[str], results: list[str]) -> None:
    for number, answered in enumerate(results):
        if answered not in asked:
            raise Refused(
                f"{where}: unexpected `tool_use_id` found in `tool_result` blocks: {answered}; each needs"
                " its `tool_use` block in the previous message"
            )
        if answered in results[:number]:
            raise Refused(f"{where}: found multiple `tool_result` blocks with id {answered}")


def _unanswered(index: int, ids: list[str]) -> str:
    return (
        f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after:"
        f" {', '.join(ids)}; each needs one in the next message"
    )


def _check_thinking(request: Json) -> None:
    config = request.get("thinking") or {"type": "disabled"}
    mode = config.get("type")
    if not isinstance(mode, str) or mode not in THINKING:
        raise Refused(f"thinking.type: input should be one of {sorted(THINKING)}")
    THINKING[mode].check(config, "thinking.")
    _check_enum(config, "display", "thinking.")
    if mode == "enabled":
        if config["budget_tokens"] < MIN_THINKING_TOKENS:
            raise Refused(f"thinking.enabled.budget_tokens: should be at least {MIN_THINKING_TOKENS}")
        if config["budget_tokens"] >= request["max_tokens"]:
            raise Refused("`max_tokens` must be greater than `thinking.budget_tokens`")
        if ADAPTIVE_ONLY.search(request["model"]):
            raise Refused("thinking.type: 'enabled' is not supported by this model, use 'adaptive'")
        if request.get("tool_choice", {}).get("type") in ("any", "tool"):
            raise Refused("thinking may not be enabled when tool_choice forces tool use")
    if mode == "adaptive" and UP_TO_4_5.search(request["model"]):
        raise Refused("thinking.type: 'adaptive' is not supported by this model")
    if mode != "disabled":
        _check_turn(request["messages"], manual=mode == "enabled")


def _check_turn(messages: list[Json], *, manual: bool) -> None:
    """Hold the turn that is being continued to its thinking blocks.

    A turn is everything since the last user message without results. With manual thinking it must begin with
    thinking, and a message whose tool ids were given out after thinking must begin with it. In the other modes the
    oldest thinking may be left out, as long as nothing is left out behind thinking that is kept.
    """
    turn: list[tuple[int, list[Json]]] = []
    for index, message in enumerate(messages):
        blocks = blocks_of(message)
        if message["role"] == "assistant":
            turn.append((index, blocks))
        elif all(block["type"] != "tool_result" for block in blocks):
            turn = []
    for number, (index, blocks) in enumerate(turn):
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        kept = manual or any(earlier[0]["type"] == "thinking" for _, earlier in turn[:number])
        must = (manual and number == 0) or (kept and any(call.startswith(THOUGHT_ID) for call in calls))
        if must and blocks[0]["type"] != "thinking":
            raise Refused(
                f"messages.{index}.content.0.type: expected `thinking`, but found `{blocks[0]['type']}`; when"
                " thinking is on, the turn being continued must begin with its thinking block"
            )


def _check_bound(request: Json) -> None:
    before = b""
    for segment in segments(request):
        block = segment.block
        if block.get("type") == "thinking" and not is_signed(block["thinking"], block["signature"], before):
            raise Refused(
                f"messages.{segment.message}: invalid `signature` in `thinking` block; the block is bound to"
                " a different conversation"
            )
        before = segment.digest


class Segment(NamedTuple):
    """One block of what the model reads, and the digest of everything up to its end."""

    message: int  # -1 for tools and system
    block: Json
    tokens: int  # four characters of JSON make a token here, and an image many
    digest: bytes


def segments(request: Json) -> Iterator[Segment]:
    """Walk tools, system and messages in the order of the cache; digests see neither marks nor thinking."""
    running = hashlib.sha256()
    for message, role, block in _walk(request):
        plain = {key: value for key, value in block.items() if key != "cache_control"}
        encoded = json.dumps([role, plain], sort_keys=True).encode()
        if block.get("type") != "thinking":
            running.update(encoded)
        tokens = IMAGE_TOKENS if block.get("type") == "image" else len(encoded) // 4 + 1
        yield Segment(message, block, tokens, running.digest())


def _walk(request: Json) -> Iterator[tuple[int, str, Json]]:
    for tool in request.get("tools", []):
        yield -1, "tool", tool
    for block in _blocks(request.get("system") or []):
        yield -1, "system", block
    for index, message in enumerate(request["messages"]):
        for block in blocks_of(message):
            yield index, message["role"], block


def blocks_of(message: Json) -> list[Json]:
    """Give the content of a message as blocks, whichever way it was written."""
    return _blocks(message["content"])


def _blocks(content: str | list[Json]) -> list[Json]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def sign(thinking: str, before: bytes) -> str:
    """Vouch for a thinking text after a prefix with this digest; without state, so it outlives a restart."""
    bound = before[:16].ljust(16, b"\0")
    return base64.b64encode(bound + hmac.digest(SIGNING_KEY, bound + thinking.encode(), "sha256")).decode()


def is_signed(thinking: str, signature: str, before: bytes | None = None) -> bool:
    """Check a signature against its text and, where given, the digest of what came before it."""
    bound = _decoded(signature)[:16] if before is None else before
    return hmac.compare_digest(signature.encode(), sign(thinking, bound).encode())


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
