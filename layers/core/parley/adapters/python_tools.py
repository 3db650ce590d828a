"""The `Toolbox` for tools that are Python functions: finds, checks, runs, limits, and puts results into text.

Decides what a time-out means: a call that may have had its effect and may not be repeated has an unknown
outcome. What a tool itself reports, by a result or an exception, is known whatever its effect.
"""

import asyncio
import contextvars
import inspect
import json
import logging
import re
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from parley.core.agent import Agent
from parley.core.tool import OutcomeStatus, Tool, ToolContext, ToolOutcome

log = logging.getLogger("parley")

WORKERS = 64
"""Threads for tools that are not `async`; a call that hangs keeps its thread until it ends."""

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class PythonTools:
    """Runs `async` tools in the event loop and all others in threads of its own."""

    def __init__(self, *, workers: int = WORKERS) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="tool")

    async def call(self, agent: Agent, name: str, arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        """Run the tool to its end or its time limit; every failure of it is an outcome."""
        tool = agent.tool(name)
        if tool is None:
            known = ", ".join(tool.name for tool in agent.tools) or "none"
            return _outcome("error", f"There is no tool '{name}'. The tools are: {known}.")
        try:
            values = tool.parse(arguments)
        except Exception as error:  # noqa: BLE001 - the user's tool: a validator of its own may raise anything
            return _outcome("error", f"The arguments do not fit '{name}': {error}")
        if tool.context_parameter:
            values[tool.context_parameter] = context
        limit = tool.timeout_seconds or agent.limits.tool_timeout_seconds
        return await self._run(_Call(tool, values, context), limit)

    async def _run(self, call: "_Call", limit: float) -> ToolOutcome:
        work = self._start(call)
        try:
            await asyncio.wait({work.outcome}, timeout=limit)
        except asyncio.CancelledError:
            work.abandon()
            raise
        if work.outcome.cancelled():
            return call.interrupted("was cancelled")
        if work.outcome.done():
            return work.outcome.result()
        if work.abandon():
            return _outcome("error", f"'{call.tool.name}' did not begin within {limit:g} s; try again later.")
        return call.interrupted(f"timed out after {limit:g} s")

    def _start(self, call: "_Call") -> "_Work":
        if inspect.iscoroutinefunction(call.tool.function):
            return _Work(asyncio.create_task(call.in_loop()))
        job = self._threads.submit(contextvars.copy_context().run, call.in_thread)
        return _Work(asyncio.wrap_future(job), job)

    def close(self) -> None:
        """Begin nothing more; what hangs is left behind."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True, slots=True)
class _Call:
    """A tool and what it is called with."""

    tool: Tool
    values: dict[str, Any]
    context: ToolContext

    async def in_loop(self) -> ToolOutcome:
        try:
            value = await self.tool.function(**self.values)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's tool; sys.exit() must not end us
            return self.failed(error)
        return _finished(value)

    def in_thread(self) -> ToolOutcome:
        try:
            value = self.tool.function(**self.values)
        except asyncio.CancelledError:
            return self.interrupted("was cancelled")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's tool; sys.exit() must not end us
            return self.failed(error)
        return _finished(value)

    def failed(self, error: BaseException) -> ToolOutcome:
        """The tool says so itself; the log gets the place, the model the message."""
        place = traceback.extract_tb(error.__traceback__)[-1]
        self.log("tool_failed", error=type(error).__name__, at=f"{Path(place.filename).name}:{place.lineno}")
        return _outcome("error", f"{type(error).__name__}: {error}")

    def interrupted(self, how: str) -> ToolOutcome:
        """Nobody knows how far it came: fine if it may be repeated, else for a person to find out."""
        self.log("tool_interrupted", how=how)
        if self.tool.effect == "non_idempotent":
            return _outcome("unknown", f"'{self.tool.name}' {how}; it may or may not have happened.")
        return _outcome("error", f"'{self.tool.name}' {how}; it may be tried again.")

    def log(self, event: str, **words: str) -> None:
        """Log without arguments, results and messages."""
        context = self.context
        where = {"session_id": context.session_id, "run_id": context.run_id, "tool": self.tool.name}
        log.warning(event, extra={**where, **words})


@dataclass(frozen=True, slots=True)
class _Work:
    """A call under way: what will come of it, and its job if it has a thread."""

    outcome: "asyncio.Future[ToolOutcome]"
    job: "Future[ToolOutcome] | None" = None

    def abandon(self) -> bool:
        """Stop what can be stopped and drop what comes late; return whether it had not even begun."""
        never_began = self.job is not None and self.job.cancel()
        self.outcome.cancel()
        return never_began


def _finished(value: object) -> ToolOutcome:
    """Put what a tool returned into text: strings as they are, everything else as JSON."""
    kind = type(value).__name__
    try:
        if isinstance(value, bytes | bytearray | memoryview):
            raise TypeError("bytes are not text")
        if not isinstance(value, str) or isinstance(value, Enum):
            value = to_jsonable_python(value)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except Exception as error:  # noqa: BLE001 - the user's tool: what it returns may be anything
        return _outcome("error", f"The tool ran, but its result ({kind}) cannot be put into JSON: {error}")
    return _outcome("ok", text)


def _outcome(status: OutcomeStatus, text: str) -> ToolOutcome:
    """Make an outcome without what no store and no wire takes: NUL and halves of surrogate pairs."""
    return ToolOutcome(status, _UNSTORABLE.sub("\ufffd", text))
