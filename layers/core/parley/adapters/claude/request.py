"""How a `ModelRequest` is put to Claude: its bytes, what is cached, and how a model is asked to think.

Sources, all read 2026-11-20: `MessageCreateParams`, `ThinkingConfigParam`, `ThinkingTypes` and
`CacheControlEphemeralParam` of the `anthropic` package 2.11 (API version 2026-10-21). Which model takes which
kind of thinking, and that none is shown unless asked for: "Migrating to Claude Sonnet 5.5" and "What's new in
Claude Opus 5.5" on platform.claude.com.
"""

import re
from typing import Any

import orjson

from parley.core.message import is_answer, is_results
from parley.ports import ModelRequest

MIN_THINKING_TOKENS = 1024
CACHED = {"type": "ephemeral"}

NO_TOOL_LEFT = {
    "tools": [{"name": "none", "description": "There is no tool any more.", "input_schema": {"type": "object"}}],
    "tool_choice": {"type": "none"},
}
"""The API wants tools where a conversation has calls, also when the agent has lost all of its own."""

_TAKES_BUDGET = re.compile(r"claude-3-7|(?:opus|sonnet|haiku)-4-(?:[015]\b|20\d{6})")
"""Models up to 4.5 want a budget. Later ones decide for themselves, and from 4.7 on they refuse a budget."""

_WITHOUT_THINKING = {
    "between_tools": re.compile(r"sonnet-5-5"),
    "disabled": re.compile(r"(?:opus|sonnet)-5(?!-\d\b)|haiku-5-5"),
}
"""How to stop those that think unless told otherwise; Opus 5.5, Fable and Mythos cannot be stopped."""


def to_bytes(request: ModelRequest) -> bytes:
    """Splice the body without parsing it; the top-level `cache_control` marks whatever block is last."""
    head = orjson.dumps({**_head(request), "cache_control": CACHED})[:-1]
    tools = b',"tools":%b' % request.tools if _has_tools(request) else b""
    return b'%b%b,"messages":[%b]}' % (head, tools, b",".join(request.messages))


def to_object(request: ModelRequest) -> dict[str, Any]:
    """Build the body for Bedrock, which refuses a top-level `cache_control`: the last block gets its own."""
    tools = {"tools": orjson.loads(request.tools)} if _has_tools(request) else {}
    messages = [orjson.loads(message) for message in request.messages]
    last = messages[-1]["content"][-1]
    if isinstance(last, dict) and last["type"] not in ("thinking", "redacted_thinking"):
        last["cache_control"] = CACHED
    return {**_head(request), **tools, "messages": messages}


def thinking(request: ModelRequest) -> dict[str, Any] | None:
    """Say how this model is asked to think, or not to; `None` leaves it to the model."""
    if not MIN_THINKING_TOKENS <= request.thinking_tokens < request.max_tokens:
        ways = (way for way, models in _WITHOUT_THINKING.items() if models.search(request.model))
        return next(({"type": way} for way in ways), None)
    if _TAKES_BUDGET.search(request.model):
        if _began_without_thinking(request.messages):
            return None
        return {"type": "enabled", "budget_tokens": request.thinking_tokens}
    return {"type": "adaptive", "display": "summarized"}


def _head(request: ModelRequest) -> dict[str, Any]:
    head: dict[str, Any] = {"model": request.model, "max_tokens": request.max_tokens, "stream": True}
    if request.system.strip():
        head["system"] = [{"type": "text", "text": request.system, "cache_control": CACHED}]
    if config := thinking(request):
        head["thinking"] = config
    if not _has_tools(request) and any(b'"type":"tool_use"' in message for message in request.messages):
        head |= NO_TOOL_LEFT
    if _has_tools(request) and request.tool_choice:
        head["tool_choice"] = {"type": request.tool_choice}
    return head


def _began_without_thinking(messages: tuple[bytes, ...]) -> bool:
    """Say whether the turn under way has lost its thinking, in a compaction: then it is refused unless it is off."""
    began = b""
    for message in reversed(messages):
        if is_answer(message):
            began = message
        elif not is_results(message):
            break
    thinks = (b'{"role":"assistant","content":[{"type":"thinking"', b'{"role":"assistant","content":[{"type":"redacted')
    return bool(began) and not began.startswith(thinks)


def _has_tools(request: ModelRequest) -> bool:
    return request.tools not in (b"", b"[]")
