"""`make dev`: the whole of Parley in one process, for a laptop. The same routers as the deployment has."""

import asyncio
import fcntl
import logging
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO

import uvicorn
import uvloop
from fastapi import FastAPI

from parley import wiring
from parley.api import docs
from parley.api.app import create_app
from parley.api.routers import ROUTERS
from parley.core.errors import Unavailable
from parley.settings import Settings, SettingsError, load
from parley.state import State


class AlreadyRunning(Exception):
    """Another server has the data folder."""


class CannotListen(Exception):
    """The port is not to be had."""


def app(settings: Settings, state: State) -> FastAPI:
    """Mount every router, and go on with what an earlier process left."""
    embedded = settings.store == "sqlite"

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        runner = state.runner
        assert runner is not None, "the dev server runs agents"  # noqa: S101 - narrows a type
        await runner.recover(void_leases=embedded)
        recovery = asyncio.create_task(runner.recover_for_ever(settings.recover_seconds), name="recovery")
        yield
        recovery.cancel()
        with suppress(asyncio.CancelledError):
            await recovery
        await runner.close()
        await state.store.table.close()

    made = create_app(state, ROUTERS)
    made.router.lifespan_context = lifespan
    docs.install(made)
    return made


def lock(folder: Path) -> IO[str]:
    """Take the data folder for this process; it is free again when the process ends, however it ends.

    Raises:
        AlreadyRunning: another process has it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    held = (folder / "lock").open("w")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        held.close()
        raise AlreadyRunning(
            f"Another Parley server is using {folder}/. Stop it, or choose another folder with PARLEY_DATA."
        ) from error
    return held


def listen(port: int) -> socket.socket:
    """Bind to a port of this machine only; 0 takes a free one.

    Raises:
        CannotListen: it is taken, or not allowed.
    """
    bound = socket.socket(
        socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )  # named: asyncio then sets TCP_NODELAY
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port))
    except OSError as error:
        bound.close()
        raise CannotListen(
            f"cannot listen on port {port}: {error.strerror}. Choose another with PARLEY_PORT."
        ) from error
    bound.listen(2048)
    bound.setblocking(False)
    return bound


def banner(settings: Settings, state: State, port: int) -> str:
    """Say where it is and what to try: lines to copy."""
    url = f"http://127.0.0.1:{port}"
    first = next(iter(state.agents.values()))
    providers = {
        "scripted": "the scripted model (no ANTHROPIC_API_KEY is set; tools and streams are real, the wit is not)",
        "anthropic": f"{first.model}",
        "bedrock": f"{first.model} on Bedrock",
    }
    where = f"{settings.data}/" if settings.store == "sqlite" else f"DynamoDB table '{settings.table}'"
    execute_url = f"{url}/v1/agents/{first.id}/execute"
    return f"""
Parley is ready on {url}
  agent   {first.id} ({first.name or first.id}) with {providers[settings.provider]}
  tools   {", ".join(tool.name for tool in first.tools) or "none"}
  data    {where}
  docs    {url}/docs

Try these, in another terminal:

  curl -N {execute_url} -H 'content-type: application/json' -d '{{"input": "What is my balance?"}}'
  curl -N {execute_url} -H 'content-type: application/json' -d '{{"input": "Pay 5 to alice"}}'
  curl -s {url}/v1/sessions
"""


class Announced(uvicorn.Server):
    """A server that says that it is ready when it is."""

    def __init__(self, config: uvicorn.Config, words: str) -> None:
        super().__init__(config)
        self.words = words

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            print(self.words, flush=True)


async def serve(settings: Settings) -> None:
    """Serve until stopped."""
    wiring.check(settings)
    state = wiring.running(settings)
    await wiring.prepare(settings, state)
    bound = listen(settings.port)
    config = uvicorn.Config(
        app(settings, state),
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=30,
    )
    await Announced(config, banner(settings, state, bound.getsockname()[1])).serve(sockets=[bound])


def main() -> int:
    """Run the dev server; return what the shell should know."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    for chatty in ("botocore", "httpx2"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        settings = load()
        with lock(settings.data):
            uvloop.run(serve(settings))
    except KeyboardInterrupt:  # uvicorn has shut down and passes it on
        print("parley: stopped; what was under way goes on at the next start.", file=sys.stderr)
    except (SettingsError, AlreadyRunning, Unavailable, CannotListen, OSError) as error:
        print(f"parley: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
