"""`make dev`: the whole of Parley in one process, for a laptop. The same routers as the deployment has."""

import asyncio
import fcntl
import logging
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from os import getpid
from pathlib import Path
from typing import IO

import uvicorn
import uvloop
from fastapi import FastAPI

from parley import wiring
from parley.adapters.sqlite import SqliteTable
from parley.api import docs
from parley.api.app import create_app
from parley.api.routers import ROUTERS
from parley.core.errors import ParleyError, Unavailable
from parley.runner import Runner
from parley.settings import Settings, SettingsError, load
from parley.state import State
from parley.store.keys import SHOWN, Ref
from parley.store.work import work
from parley.sweeper import Sweeper

log = logging.getLogger("parley")


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
        await recover(runner, void_leases=embedded)
        sweeping = asyncio.create_task(sweep_for_ever(state, settings.recover_seconds), name="sweeper")
        try:
            yield
        finally:
            sweeping.cancel()
            await asyncio.gather(sweeping, return_exceptions=True)
            await runner.close()
            await state.store.table.close()

    made = create_app(state, ROUTERS, keyless=True)  # it listens on this machine only
    made.router.lifespan_context = lifespan
    docs.install(made)
    return made


async def recover(runner: Runner, *, void_leases: bool) -> None:
    """Go on with what an earlier process left; `void_leases` when no other driver can be alive."""
    async for ref, sk in work(runner.store.table):
        if sk != SHOWN:
            await runner.nudge(ref, void_lease=void_leases)


async def sweep_for_ever(state: State, every_seconds: float) -> None:
    """Do the sweeper's rounds; on Lambda a schedule and the table's stream do."""
    assert state.queue is not None, "the dev server has a queue"  # noqa: S101 - narrows a type
    sweeper = Sweeper(state.store, state.queue)
    while True:
        await state.store.log.clock.sleep(every_seconds)
        try:
            await sweeper.sweep()
            await sweep_expired(sweeper)
        except ParleyError as error:
            log.warning("sweep_postponed", extra={"code": error.code})


async def sweep_expired(sweeper: Sweeper) -> None:
    """End sessions that have lapsed in the embedded store, and remove other rows past their time."""
    table = sweeper.store.table
    if isinstance(table, SqliteTable):
        for key in await table.sweep_expired(spared=SHOWN):
            if key.sk == SHOWN:
                await sweeper.expire(Ref.of(key.pk))


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
    send = f"  curl -N {url}/v1/agents/{first.id}/execute -H 'content-type: application/json' -d"
    said = ("What is my balance?", "Pay 5 to alice", "Donate 5 to alice") if first.id == "wallet" else ("Hello",)
    tries = "\n".join(f"""{send} '{{"input": "{text}"}}'""" for text in said)
    return f"""
Parley is ready on {url}
  agent   {first.id} ({first.name or first.id}) with {providers[settings.provider]}
  tools   {", ".join(tool.name for tool in first.tools) or "none"}
  data    {where}
  docs    {url}/docs
  process {getpid()}: kill -9 it while it answers, start again, and the run goes on

Try these, in another terminal:

{tries}
  curl -s {url}/v1/sessions
  curl -s {url}/v1/approvals

The last lists what waits until you decide, like a donation. How to decide, stop and cap: docs/guide/control.md
"""


class Lines(logging.Formatter):
    """Log lines for people: the event's name, and its keys behind it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own hook
        """Write all that the record has and an ordinary one has not."""
        words = {name: value for name, value in vars(record).items() if name not in _ORDINARY}
        return " ".join([super().formatMessage(record), *(f"{name}={value}" for name, value in words.items())])


_ORDINARY = vars(logging.makeLogRecord({})).keys() | {"message", "asctime", "taskName"}


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
    state = wiring.running(settings, wiring.DEV)
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
    lines = logging.StreamHandler()
    lines.setFormatter(Lines("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[lines])
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
