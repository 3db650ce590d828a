"""A model whose own time hardly depends on how much it is sent: it looks at the end of a request only.

The fake of the tests checks every message of a request, so a long conversation costs it more than it costs Parley.
`[[prose WORD]]` in the newest message is answered with 500 characters of prose that WORD is the seed of, and so is a
request for a summary. Four bytes of a request are a token.
"""

import socket
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import orjson
import uvicorn
import uvloop

from benchmarks.prose import Prose

CHARACTERS = 500
DELTA_CHARACTERS = 12

Message = MutableMapping[str, Any]


async def app(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Answer any request in the stream events of the Messages API."""
    body = bytearray()
    more = scope["type"] == "http"
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    begin = body.rfind(b"[[prose ") + 8
    seed = body[begin : body.find(b"]]", begin)].decode() if begin > 8 else ""
    await send({"type": "http.response.body", "body": b"".join(_events(said(seed), len(body) // 4))})


def said(seed: str) -> str:
    """Say what a seed is answered with."""
    return Prose(seed).text(CHARACTERS)


def _events(text: str, tokens: int) -> Iterator[bytes]:
    usage = {"input_tokens": tokens, "output_tokens": 1}
    message = {"id": "msg_01", "type": "message", "role": "assistant", "model": "flat", "content": []}
    yield _event("message_start", message=message | {"stop_reason": None, "stop_sequence": None, "usage": usage})
    yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for place in range(0, len(text), DELTA_CHARACTERS):
        piece = text[place : place + DELTA_CHARACTERS]
        yield _event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    yield _event("content_block_stop", index=0)
    ended = {"stop_reason": "end_turn", "stop_sequence": None}
    yield _event("message_delta", delta=ended, usage={"output_tokens": 125})
    yield _event("message_stop")


def _event(kind: str, **fields: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **fields}))


def main() -> None:
    """Serve on a free port."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.bind(("127.0.0.1", 0))
    bound.listen(2048)
    bound.setblocking(False)
    print(f"listening on http://127.0.0.1:{bound.getsockname()[1]}", flush=True)
    config = uvicorn.Config(app, log_level="critical", access_log=False, lifespan="off", timeout_keep_alive=75)
    uvloop.run(uvicorn.Server(config).serve(sockets=[bound]))


if __name__ == "__main__":
    main()
