"""Server-sent events: frames as bytes.

Source: WHATWG HTML, "Server-sent events" (read 2026-11-20). One `data:` line of JSON, LF only, an event name always
(the `anthropic` SDK drops frames without one). Stored events carry their `seq` as `id:`; deltas carry none.
"""

from typing import Any

import orjson

HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
MEDIA_TYPE = "text/event-stream"
RETRY = b"retry: 1000\n\n"
HEARTBEAT = b": hb\n\n"


def frame(name: str, data: dict[str, Any], seq: int | None = None) -> bytes:
    """Write one frame; `seq` makes it one that a client can resume behind."""
    return frame_of(name, orjson.dumps(data), seq)


def frame_of(name: str, data: bytes, seq: int | None = None) -> bytes:
    """Write one frame around JSON; JSON on one line cannot break it."""
    head = b"event: %b\ndata: %b\n\n" % (name.encode(), data)
    return head if seq is None else b"id: %d\n%b" % (seq, head)
