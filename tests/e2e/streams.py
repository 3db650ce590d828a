"""Reads what the server streams."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Frame:
    """One server-sent event."""

    event: str
    data: dict[str, Any]
    id: int | None


def frames(lines: Iterable[str]) -> Iterator[Frame]:
    """Parse lines; comments and `retry` are passed over."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif "data" in fields:
            yield Frame(fields["event"], json.loads(fields["data"]), int(fields["id"]) if "id" in fields else None)
            fields = {}
        else:
            fields = {}


def execute(client: httpx.Client, agent: str, text: str, **body: Any) -> list[Frame]:
    """Send a message and read the whole stream."""
    key = {"idempotency-key": body.pop("key")} if "key" in body else {}
    with client.stream("POST", f"/v1/agents/{agent}/execute", json={"input": text, **body}, headers=key) as answer:
        if answer.status_code != 200:
            raise AssertionError(f"{answer.status_code}: {answer.read().decode()}")
        return list(frames(answer.iter_lines()))


def text_of(said: Iterable[Frame]) -> str:
    """Join the text that a client would show."""
    return "".join(frame.data["text"] for frame in said if frame.event == "text")


def ids_of(said: Iterable[Frame]) -> list[int]:
    """List the ids, in order."""
    return [frame.id for frame in said if frame.id is not None]
