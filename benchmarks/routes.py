"""The three things that turns are sent to, and the scripts of the fake model that they are sent."""

from typing import Any

from benchmarks import floor as floor_server
from benchmarks.client import Route

Message = dict[str, Any]


def user(text: str) -> Message:
    """Write a message of the Messages API."""
    return {"role": "user", "content": text}


def floor(url: str, history: tuple[Message, ...] = ()) -> Route:
    """Send turns to the floor; it keeps nothing, so the client sends what came before."""
    return Route(
        "floor", url, "/chat", lambda text: {"messages": [*history, user(text)]}, b"text_delta", b"message_stop"
    )


def parley(url: str, session_id: str | None = None, agent: str = "bench") -> Route:
    """Send turns to Parley, each in a new session or all in one."""
    session = {"session_id": session_id} if session_id else {}
    path = f"/v1/agents/{agent}/execute"
    return Route("Parley", url, path, lambda text: {"input": text} | session, b"event: text\n", b'"status":"completed"')


def model(url: str, history: tuple[Message, ...] = ()) -> Route:
    """Send turns to the model itself: what it takes is in every other figure."""
    fixed = {
        "model": floor_server.MODEL,
        "max_tokens": floor_server.MAX_TOKENS,
        "system": floor_server.SYSTEM,
        "tools": floor_server.TOOLS,
        "stream": True,
    }
    return Route(
        "model",
        url,
        "/v1/messages",
        lambda text: {**fixed, "messages": [*history, user(text)]},
        b"text_delta",
        b"message_stop",
        {"x-api-key": "test", "anthropic-version": "2023-06-01"},
    )


PLAIN = "[[text 200x8]]"
"""200 deltas of 8 characters, as fast as they can be read."""

SINGLE = "[[text 200x8 delay=0]]"
"""The same, each delta a write of its own, as they come from the real API."""

TOOLS = (
    '[[tool lookup {"key": "a"}]] [[then tool lookup {"key": "b"}]] [[then tool lookup {"key": "c"}]]'
    " [[then]] [[text 200x8]]"
)
"""Three rounds of one call, then the same answer."""

PLAIN_TEXT = "".join(f"{number:07d} " for number in range(200))[:-1] + "."
"""What the model says to each of these."""
