"""A model that plays prepared answers and holds every request to the API's rules."""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

from parley.core.errors import ModelError
from parley.ports import ModelRequest

from tests.fakes.anthropic_rules import first_problem

Raw = dict[str, Any]
Play = Sequence[Raw | Callable[[], Awaitable[object]]] | ModelError
"""Raw events of one call, with things to do in between; or how the call fails."""


class RuleBroken(AssertionError):
    """The Messages API would have refused this request."""


class Answers:
    """Plays one prepared answer for each call, and keeps the requests."""

    def __init__(self, *plays: Play) -> None:
        self.plays = list(plays)
        self.requests: list[ModelRequest] = []
        self.problems: list[str] = []
        """What the API would have refused; a test that ends with any of these has failed."""

    @property
    def messages(self) -> list[Any]:
        """The messages of the last request."""
        return [json.loads(message) for message in self.requests[-1].messages]

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Raw, None]:
        self.requests.append(request)
        if problem := refusal_of(request):
            self.problems.append(problem)
            raise RuleBroken(problem)
        if not self.plays:
            self.problems.append("one more model call than the test has answers for")
            raise RuleBroken(self.problems[-1])
        play = self.plays.pop(0)
        if isinstance(play, ModelError):
            raise play
        for step in play:
            if isinstance(step, dict):
                yield step
            else:
                await step()


def refusal_of(request: ModelRequest) -> str | None:
    """Say why the API would refuse this request, or nothing."""
    return problem_of(request.messages, request.tools, request.model, request.tool_choice)


def problem_of(
    messages: Sequence[bytes],
    tools: bytes = b"[]",
    model: str = "claude-sonnet-5-5",
    tool_choice: str | None = None,
) -> str | None:
    """Say why the API would refuse these messages, or nothing."""
    offered = json.loads(tools) or [{"name": "any", "description": "", "input_schema": {"type": "object"}}]
    body = {
        "model": model,
        "max_tokens": 1000,
        "tools": offered,
        "messages": [json.loads(message, parse_constant=_not_json) for message in messages],
        **({"tool_choice": {"type": tool_choice}} if tool_choice else {}),
    }
    return first_problem(body) or _empty_error(body["messages"])


def _empty_error(messages: Any) -> str | None:
    """The API's "tool_result: content cannot be empty if `is_error` is true", which the shared rules do not have."""
    for message in messages:
        for block in message["content"]:
            if block["type"] == "tool_result" and block.get("is_error") and not block.get("content"):
                return f"the content of the failed tool_result {block['tool_use_id']} is empty"
    return None


def _not_json(name: str) -> None:
    raise RuleBroken(f"{name} is not JSON")
