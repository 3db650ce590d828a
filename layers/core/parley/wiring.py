"""Ports to adapters, from the settings. Heavy imports stay inside the functions that need them."""

import importlib
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from parley.core.agent import Agent
from parley.ports import Blobs, Model, Queue, Table
from parley.settings import Settings, SettingsError
from parley.state import Principal, State
from parley.store import Ref, Store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from parley.adapters.secrets import Secret
    from parley.sweeper import Sweeper
    from parley.worker import Worker

PRINCIPAL = Principal(tenant="default", owner="admin", admin=True, how="admin_key")
"""Whoever has the admin key."""

DEV = Principal(tenant="default", owner="dev", admin=True)
"""Whoever is at the machine that the dev server runs on."""

_NOT_THEIRS = ("<", f"{Path(__file__).parent}/", f"{Path(traceback.__file__).parent}/")
"""How the files begin that are Parley's or Python's: whoever looks for a slip of theirs need not see them."""


def agents(settings: Settings) -> dict[str, Agent]:
    """Import the agents that `PARLEY_AGENT` names.

    Raises:
        SettingsError: there is no such module or attribute, or it is not an `Agent`.
    """
    found: dict[str, Agent] = {}
    for name in settings.agent.split(","):
        module, _, attribute = name.strip().partition(":")
        try:
            agent = getattr(importlib.import_module(module), attribute or "agent")
        except Exception as error:
            if module.endswith(".py"):
                raise SettingsError(f"PARLEY_AGENT: write '{module.removesuffix('.py')}:agent'.") from error
            raise SettingsError(f"PARLEY_AGENT: '{name.strip()}' cannot be loaded: {_told(error, module)}") from error
        if not isinstance(agent, Agent):
            raise SettingsError(f"PARLEY_AGENT: '{name.strip()}' is a {type(agent).__name__}, not an Agent.")
        if agent.id in found:
            raise SettingsError(f"PARLEY_AGENT: two agents have the id '{agent.id}'.")
        found[agent.id] = agent
    return found


def _told(error: Exception, module: str) -> str:
    """Say what is wrong with the user's file, and where, without our own frames."""
    if isinstance(error, ModuleNotFoundError) and error.name == module:
        return f"there is no module '{module}' in layers/agent or on PYTHONPATH."
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_NOT_THEIRS)]
    where = [f"{frame.filename}, line {frame.lineno}: " for frame in theirs if "site-packages" not in frame.filename]
    return f"{where[-1] if where else ''}{type(error).__name__}: {error}"


def store(settings: Settings) -> Store:
    """Build the store."""
    from parley.adapters.system import SystemClock, UlidIds

    clock = SystemClock()
    return Store.over(
        _table(settings),
        _blobs(settings),
        clock,
        UlidIds(),
        lease_seconds=settings.lease_seconds,
        ttl_days=settings.ttl_days,
    )


def reading(settings: Settings) -> State:
    """Build what is needed to create, list, get and delete sessions: no engine, no model."""
    return _state(settings, State(store(settings), agents(settings), PRINCIPAL, queue=_queue(settings)))


def running(settings: Settings, principal: Principal = PRINCIPAL) -> State:
    """Build everything."""
    from parley.adapters.inline import InlineQueue
    from parley.adapters.python_tools import PythonTools
    from parley.engine import Engine
    from parley.runner import Runner

    found = agents(settings)
    its_store = store(settings)
    clock, ids = its_store.log.clock, its_store.log.ids
    engine = Engine(its_store, model(settings), PythonTools(), clock, ids)
    queue = _queue(settings) or InlineQueue(lambda tenant, session_id: runner.nudge(Ref(tenant, session_id)))
    runner = Runner(engine, found, queue)
    return _state(settings, State(its_store, found, principal, runner, queue, runner.deadline))


def worker(settings: Settings) -> "tuple[Worker, Callable[[str, int], Awaitable[None]]]":
    """Build what the queue's messages are done with, and how a failed one is delivered again soon.

    Raises:
        SettingsError: there is no queue.
    """
    from parley.adapters.sqs import SqsQueue
    from parley.worker import Worker

    state = running(settings)
    if state.runner is None or not isinstance(state.queue, SqsQueue):
        raise SettingsError("There is no queue: set PARLEY_QUEUE_URL.")
    return Worker(state.runner, PRINCIPAL, settings.queue_max_receives), state.queue.retry_later


def sweeper(settings: Settings) -> "Sweeper":
    """Build what mends.

    Raises:
        SettingsError: there is no queue.
    """
    from parley.sweeper import Sweeper

    queue = _queue(settings)
    if queue is None:
        raise SettingsError("There is no queue: set PARLEY_QUEUE_URL.")
    return Sweeper(store(settings), queue)


def _state(settings: Settings, state: State) -> State:
    """Add what the requests of every function are held to."""
    key = _secret(settings, settings.admin_key_secret)
    return replace(state, admin_key=key.read if key else None, cors_origin=settings.cors_origin)


def model(settings: Settings) -> Model:
    """Build the model of the provider in force."""
    match settings.provider:
        case "scripted":
            from parley.adapters.scripted import ScriptedModel
            from parley.adapters.system import SystemClock

            return ScriptedModel(SystemClock(), settings.scripted_delay_seconds)
        case "anthropic":
            from parley.adapters.claude import over_api

            key = settings.anthropic_api_key or _secret(settings, settings.anthropic_key_secret) or ""
            return over_api(api_key=key, base_url=settings.anthropic_base_url or None)
        case "bedrock":
            from parley.adapters.claude import over_bedrock

            return over_bedrock(region=settings.aws_region or None)


def _table(settings: Settings) -> Table:
    from parley.adapters.system import SystemClock

    if settings.store == "sqlite":
        from parley.adapters.sqlite import SqliteTable

        settings.data.mkdir(parents=True, exist_ok=True)
        return SqliteTable(settings.data / "parley.db", SystemClock())
    from parley.adapters.dynamodb import DynamoTable
    from parley.adapters.dynamodb.table import connect

    return DynamoTable(settings.table, SystemClock(), partial(connect, settings.aws_region or None))


def _blobs(settings: Settings) -> Blobs:
    if settings.bucket:
        from parley.adapters.s3 import S3Blobs, connect

        return S3Blobs(settings.bucket, partial(connect, settings.aws_region or None))
    from parley.adapters.files import FileBlobs

    return FileBlobs(settings.data / "blobs")


def _queue(settings: Settings) -> Queue | None:
    if not settings.queue_url:
        return None
    from parley.adapters.sqs import SqsQueue, connect

    return SqsQueue(settings.queue_url, partial(connect, settings.aws_region or None))


def _secret(settings: Settings, arn: str) -> "Secret | None":
    if not arn:
        return None
    from parley.adapters.secrets import Secret, connect
    from parley.adapters.system import SystemClock

    return Secret(arn, SystemClock(), partial(connect, settings.aws_region or None))


def check(settings: Settings) -> None:
    """Look for what clients would miss at their first call.

    Raises:
        SettingsError: no key, no region or no credentials are found; the message says what to set.
    """
    if settings.provider == "anthropic" and not (settings.anthropic_api_key or settings.anthropic_key_secret):
        raise SettingsError("PARLEY_MODEL_PROVIDER=anthropic: set ANTHROPIC_API_KEY.")
    uses = {
        "STORE=dynamodb": settings.store == "dynamodb",
        "MODEL_PROVIDER=bedrock": settings.provider == "bedrock",
        "QUEUE_URL": settings.queue_url,
        "ADMIN_KEY_SECRET": settings.admin_key_secret,
        "ANTHROPIC_KEY_SECRET": settings.provider == "anthropic" and settings.anthropic_key_secret,
    }
    for name in (name for name, used in uses.items() if used):
        import boto3

        session = boto3.Session(region_name=settings.aws_region or None)
        if session.region_name is None:
            raise SettingsError(f"PARLEY_{name}: set AWS_REGION.")
        if session.get_credentials() is None:
            raise SettingsError(
                f"PARLEY_{name}: no AWS credentials are found. Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY (an emulator takes any)."
            )


async def prepare(settings: Settings, state: State) -> None:
    """Do beforehand what would keep the first request waiting; make the table when an emulator does not have it."""
    from parley.adapters.claude.deferred import DeferredModel

    if state.runner and isinstance(state.runner.engine.model, DeferredModel):
        await state.runner.engine.model.ready()
    if settings.store == "dynamodb" and settings.aws_endpoint_url:
        from parley.adapters.dynamodb import DynamoTable

        if isinstance(state.store.table, DynamoTable):
            await state.store.table.create_table_if_missing()
