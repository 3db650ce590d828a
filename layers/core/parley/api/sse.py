"""Server-sent events: frames as bytes.

Source: WHATWG HTML, "Server-sent events" (read 2026-11-20). One `data:` line of JSON, LF only, an event name always
(the `anthropic` SDK drops frames without one). Stored events carry their `seq` as `id:`; deltas carry none.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any

import orjson

from parley.core.delta import Output
from parley.core.errors import ParleyError
from parley.watch import HEARTBEAT_SECONDS, seconds

log = logging.getLogger("parley")

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


async def frames(
    batches: AsyncIterator[Sequence[Output]], say: Callable[[Output], bytes], now: Callable[[], datetime]
) -> AsyncIterator[bytes]:
    """Write batches as bytes: what is waiting goes out in one send, what is alone goes at once.

    Who asked for little gets a sign of life in the place of what it did not want. An error that comes when the status
    is long gone is told as a frame, and the stream ends.
    """
    spoke = now()
    yield RETRY
    try:
        async for batch in batches:
            data = b"".join(map(say, batch))
            if data or not batch or seconds(spoke, now()) >= HEARTBEAT_SECONDS:
                spoke = now()
                yield data or HEARTBEAT
    except ParleyError as error:
        log.error("stream_failed", exc_info=error)  # noqa: TRY400 - as everywhere: the formatter leaves messages out
        told = {"code": error.code, "message": error.message, "retryable": error.status == 503}
        yield frame("error", {"type": "error", **told, "error": {"type": "api_error", "message": error.message}})
