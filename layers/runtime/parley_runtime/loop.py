"""The loop: import the handler, then take one event after the other, for as long as the process lives.

Sources, read 2026-11-20: "Building a custom runtime" (Lambda Developer Guide); for SnapStart, which that page leaves
out, `awslambdaric` 4.2.2.
"""

import asyncio
import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from parley_runtime import cycle
from parley_runtime.context import Context
from parley_runtime.log import configure, log
from parley_runtime.request import body_of, is_request, scope_of
from parley_runtime.response import Buffered, Streamed
from parley_runtime.runtime_api import Invocation, RuntimeApi, failure

Handler = Callable[..., Any]


def main() -> None:
    """Be the runtime of the function that the environment describes; never returns."""
    configure()
    sys.path[:] = search_path(Path(sys.argv[1]).parent)
    api = RuntimeApi(os.environ["AWS_LAMBDA_RUNTIME_API"])
    loop = asyncio.new_event_loop()  # one for the life of the process: clients belong to the loop they were used on
    asyncio.set_event_loop(loop)
    snapshot = os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start"
    with fatal(api, "/init/error"):
        handler = load(os.environ["_HANDLER"])
        if snapshot:
            run_hooks("get_before_snapshot", newest_first=True)
            api.wait_for_restore()
    if snapshot:
        with fatal(api, "/restore/error"):
            run_hooks("get_after_restore")
    while True:
        # Nothing runs while this waits: Lambda freezes the process between two events, so tasks may not count on it.
        handle(api, handler, api.next(), loop)


def search_path(runtime: Path) -> list[str]:
    """Order `sys.path` as the managed runtime does: the function, the layers, then what came with the interpreter."""
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    ours = [os.environ["LAMBDA_TASK_ROOT"], f"/opt/python/lib/{python}/site-packages", "/opt/python"]
    return [*ours, *(place for place in sys.path if place not in ours), str(runtime)]


@contextmanager
def fatal(api: RuntimeApi, path: str) -> Iterator[None]:
    """Tell an error before the first event, and end; no request is there yet that its message could quote."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the edge: whatever a handler's import raises has to be told
        log.exception("%s: %s", path, error)
        api.fail(path, failure("Runtime", error, str(error)))
        sys.exit(1)


def load(name: str) -> Handler:
    """Import a handler, `module.attribute`; the module may be in a folder, `folder/module.attribute`."""
    module, _, attribute = name.rpartition(".")
    handler: Handler = getattr(importlib.import_module(module.replace("/", ".")), attribute)
    return handler


def run_hooks(registry: str, *, newest_first: bool = False) -> None:
    """Call what was registered with AWS's `snapshot_restore_py`; nothing was if nobody imported it."""
    hooks = sys.modules.get("snapshot_restore_py")
    registered = list(getattr(hooks, registry)()) if hooks else []
    for function, args, kwargs in reversed(registered) if newest_first else registered:
        function(*args, **kwargs)


def handle(api: RuntimeApi, handler: Handler, invocation: Invocation, loop: asyncio.AbstractEventLoop) -> None:
    """Answer one event, or say that it failed."""
    context = Context.of(invocation.headers)
    os.environ["_X_AMZN_TRACE_ID"] = invocation.headers.get("Lambda-Runtime-Trace-Id", "")  # AWS's SDKs pass it on
    try:
        if is_asgi(handler):
            answer = loop.run_until_complete(serve(api, handler, invocation, context))
        else:
            answer = json.dumps(handler(invocation.event, context)).encode()
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - the edge: an error ends one invocation
        log.exception("invocation_failed", extra={"invocation": invocation.id})
        path = f"/invocation/{invocation.id}/error"
        status = api.fail(path, failure("Function", error), invocation.echoed)
    else:
        status = 200 if answer is None else api.respond(invocation, answer)
    if not 200 <= status < 300:  # 202 says Lambda, 200 cargo-lambda
        log.error("answer_refused", extra={"status": status, "invocation": invocation.id})


def is_asgi(handler: Handler) -> bool:
    """Tell an app from a plain handler: calling it gives a coroutine."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)


async def serve(api: RuntimeApi, app: Handler, invocation: Invocation, context: Context) -> bytes | None:
    """Give a request to the app; return its answer if it was not streamed."""
    response = Buffered() if os.environ.get("AWS_SAM_LOCAL") == "true" else Streamed(api, invocation)
    if is_request(invocation.event):
        await cycle.answer(app, scope_of(invocation.event, context), body_of(invocation.event), response)
    else:  # such as a ping to keep the function warm
        log.warning("event_not_understood", extra={"invocation": invocation.id})
        await response.begin(200, ())
        await response.end()
    return response.proxy_answer() if isinstance(response, Buffered) else None
