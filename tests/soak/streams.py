"""How customers follow a session across cuts: each time behind the last event that they saw."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import httpx

from tests.soak.asking import Asking
from tests.soak.book import Stream


class Frame(NamedTuple):
    """One server-sent event."""

    event: str
    data: dict[str, Any]
    seq: int | None


async def frames(answer: httpx.Response) -> AsyncIterator[Frame]:
    """Parse a stream; what a cut has left of a frame counts for nothing."""
    fields: dict[str, str] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        if "data" in fields:
            seq = int(fields["id"]) if "id" in fields else None
            yield Frame(fields["event"], json.loads(fields["data"]), seq)
        fields = {}


async def read(answer: httpx.Response, stream: Stream, ends: Callable[[Frame], bool]) -> bool:
    """Write down every frame with an id; say whether the last that was asked for has come."""
    async for frame in frames(answer):
        if frame.seq is not None:
            stream.frames.append((frame.seq, str(frame.data["id"]), frame.event))
        if ends(frame):
            return True
    return False


async def follow(asking: Asking, stream: Stream, ends: Callable[[Frame], bool], until_idle: bool = False) -> bool:
    """Follow a session behind what was seen of it, until `ends` says so, or the server when nothing runs.

    Returns whether the session was there to the end.
    """
    path = f"/v1/sessions/{stream.session_id}/events/stream?from=start" + ("&until=idle" if until_idle else "")
    while True:
        if until_idle:
            stream.floor = await _newest(asking, stream)
        headers = {"last-event-id": str(stream.last)} if stream.last else {}
        try:
            async with asking.stream("GET", path, headers) as (_, answer):
                if answer.status_code == 404:
                    return False
                if answer.status_code == 200:
                    rotated = False

                    def seen(frame: Frame) -> bool:
                        nonlocal rotated
                        rotated = rotated or frame.event in ("stream.rotate", "error")
                        return ends(frame)

                    if await read(answer, stream, seen) or (until_idle and not rotated):
                        return True
                elif answer.status_code < 500:
                    await answer.aread()
                    asking.book.complain("stream refused", stream.session_id, answer.text)
                    return False
        except httpx.TransportError:
            stream.cuts += 1
        await asking.again()


async def _newest(asking: Asking, stream: Stream) -> int:
    path = f"/v1/sessions/{stream.session_id}/events?limit=2&order=desc&types[]=run.claimed&types[]=session.status_idle"
    answer = await asking.insist("GET", path)
    found = answer.json()["data"] if answer.status_code == 200 else []
    return int(found[0]["seq"]) if found else 0
