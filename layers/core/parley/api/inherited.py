"""The conversation that a fork has begun with, as people read it: out of what its model was given."""

import json
from typing import Any, Literal

from parley.api.shapes import MessageShape
from parley.core.control import SessionRestored

Block = dict[str, Any]


def inherited(event: SessionRestored) -> list[MessageShape]:
    """Write the messages that came with a fork; thinking is not shown, as nowhere in a list of messages."""
    names: dict[str, str] = {}
    shown: list[MessageShape] = []
    for number, message in enumerate(map(json.loads, event.messages)):
        blocks: list[Block] = message["content"]
        names |= {block["id"]: block["name"] for block in blocks if block["type"] == "tool_use"}
        content = [_block(block, names) for block in blocks if "thinking" not in block["type"]]
        role: Literal["user", "assistant", "tool"] = message["role"]
        if blocks[0]["type"] == "tool_result":
            role = "tool"
        shown.append(
            MessageShape(
                id=f"{event.id}_{number}",
                seq=event.seq,
                role=role,
                content=content,
                created_at=event.created_at,
                run_id=None,
                task_id=event.task_id,
            )
        )
    return shown


def _block(block: Block, names: dict[str, str]) -> Block:
    """Write a block as lists of messages do; calls have the model's own ids here."""
    if block["type"] != "tool_result":
        return block
    return {
        "type": "tool_result",
        "tool_use_id": block["tool_use_id"],
        "name": names.get(block["tool_use_id"], ""),
        "content": block["content"],
        "is_error": block["is_error"],
    }
