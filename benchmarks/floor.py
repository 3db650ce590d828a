"""The floor: FastAPI and the `anthropic` SDK, raw events as server-sent events. No persistence, no features.

The best that a competent person writes in forty lines: what a turn costs before anybody offers more.

    ANTHROPIC_BASE_URL=http://... ANTHROPIC_API_KEY=test python -m benchmarks.floor
"""

import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
import uvloop
from anthropic import AsyncAnthropic
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

MODEL, MAX_TOKENS, SYSTEM = "claude-sonnet-5-5", 16_000, "You answer briefly."
TOOLS: list[Any] = [
    {
        "name": "lookup",
        "description": "Look something up.",
        "input_schema": {"type": "object", "properties": {"key": {"type": "string"}}, "required": ["key"]},
    }
]


class Chat(BaseModel):
    """The whole conversation: this server keeps nothing."""

    messages: list[Any]


client = AsyncAnthropic(max_retries=0)
app = FastAPI()


@app.post("/chat")
async def chat(body: Chat) -> StreamingResponse:
    """Answer, and make the tool calls that the model asks for."""
    return StreamingResponse(turn(body.messages), media_type="text/event-stream")


async def turn(messages: list[Any]) -> AsyncIterator[str]:
    """Stream answers until one asks for no tool."""
    calls: list[dict[str, Any]] = [{}]
    while calls:
        calls, arguments = [], list[str]()
        stream = await client.messages.create(
            model=MODEL, max_tokens=MAX_TOKENS, system=SYSTEM, tools=TOOLS, messages=messages, stream=True
        )
        async for event in stream:
            if event.type == "content_block_start" and event.content_block.type == "tool_use":
                block = event.content_block
                calls.append({"type": "tool_use", "id": block.id, "name": block.name, "input": {}})
                arguments.append("")
            elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
                arguments[-1] += event.delta.partial_json
            yield f"event: {event.type}\ndata: {event.model_dump_json()}\n\n"
        results: list[dict[str, Any]] = []
        for call, text in zip(calls, arguments, strict=True):
            call["input"] = json.loads(text or "{}")
            results.append({"type": "tool_result", "tool_use_id": call["id"], "content": lookup(**call["input"])})
        messages = [*messages, {"role": "assistant", "content": calls}, {"role": "user", "content": results}]


def lookup(key: str) -> str:
    """Look something up."""
    return f"The value of {key} is 42."


def main() -> None:
    """Serve on a free port with the options of `parley.dev`."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind(("127.0.0.1", 0))
    bound.listen(2048)
    bound.setblocking(False)
    print(f"listening on http://127.0.0.1:{bound.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=5, timeout_keep_alive=30
    )
    uvloop.run(uvicorn.Server(config).serve(sockets=[bound]))


if __name__ == "__main__":
    main()
