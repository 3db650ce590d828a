"""What the model reads: messages as exact JSON, made from events.

The bytes are written once and joined for every later request, so that turn 500 costs what turn 1 costs and the
provider's prompt cache hits. Shapes: message params of the `anthropic` package 2.11 (read 2026-11-20).
"""

import json

from parley.core.event import AgentMessage, AgentThinking, AgentToolResult, AgentToolUse, UserMessage
from parley.core.value import Block, ImageBlock, TextBlock

BLANK = TextBlock(text="[blank]")
"""What stands in for a message that says nothing."""


def dump(value: object) -> bytes:
    """Write compact JSON; the same value gives the same bytes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def message(role: str, blocks: tuple[bytes, ...]) -> bytes:
    """Join blocks to one message."""
    return b'{"role":"%s","content":[%s]}' % (role.encode(), b",".join(blocks))


def is_answer(message: bytes) -> bool:
    """Say whether a message is the model's; every other is a person's, or has the results of calls."""
    return message.startswith(b'{"role":"assistant"')


def is_results(message: bytes) -> bool:
    """Say whether a message has the results of calls."""
    return message.startswith(b'{"role":"user","content":[{"type":"tool_result"')


def user_message(event: UserMessage) -> bytes:
    """Write a person's message; the provider takes no block of blank text, and no message without a block."""
    blocks = tuple(_block(block) for block in event.content if isinstance(block, ImageBlock) or block.text.strip())
    return message("user", blocks or (_text(BLANK),))


def answer_block(event: AgentMessage | AgentThinking | AgentToolUse) -> bytes:
    """Write one block of the model's answer the way the provider sent it."""
    match event:
        case AgentMessage():
            return b",".join(_text(block) for block in event.content)
        case AgentThinking(redacted=str() as data):
            return dump({"type": "redacted_thinking", "data": data})
        case AgentThinking():
            return dump({"type": "thinking", "thinking": event.thinking, "signature": event.signature or ""})
        case AgentToolUse():
            return dump({"type": "tool_use", "id": event.provider_id, "name": event.name, "input": event.input})


def without_trailing_thinking(blocks: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Leave out thinking that led to nothing: the provider refuses an answer that ends with it."""
    while blocks and blocks[-1].startswith((b'{"type":"thinking"', b'{"type":"redacted_thinking"')):
        blocks = blocks[:-1]
    return blocks


def without_thinking(message: bytes) -> bytes:
    """Leave the thinking out of an answer; there is always more to it.

    A provider may refuse thinking under another prompt or other tools than it was thought under.
    """
    if b'thinking"' not in message:
        return message
    parsed = json.loads(message)
    kept = [block for block in parsed["content"] if block["type"] not in ("thinking", "redacted_thinking")]
    return dump(parsed | {"content": kept})


def result_block(provider_id: str, event: AgentToolResult) -> bytes:
    """Write a tool's result for the call that the provider knows as `provider_id`."""
    return _result(provider_id, [block.text for block in event.content], is_error=event.is_error)


def missing_result_block(provider_id: str) -> bytes:
    """Write what stands in for the result of a call whose run ended first: every call must have one."""
    return _result(provider_id, ["The run ended before this call had a result."], is_error=True)


def _result(provider_id: str, texts: list[str], *, is_error: bool) -> bytes:
    content = [{"type": "text", "text": text} for text in texts if text.strip()]
    if is_error and not content:
        content = [{"type": "text", "text": "The call failed without a message."}]
    return dump({"type": "tool_result", "tool_use_id": provider_id, "content": content, "is_error": is_error})


def _block(block: Block) -> bytes:
    return dump(block.model_dump())


def _text(block: TextBlock) -> bytes:
    return dump({"type": "text", "text": block.text})
