"""Ports to adapters, from the settings. Heavy imports stay inside the functions that need them."""

import importlib
import traceback
from functools import partial

from parley.core.agent import Agent
from parley.ports import Blobs, Model, Table
from parley.settings import Settings, SettingsError
from parley.state import Principal, State
from parley.store import Ref, Store

PRINCIPAL = Principal(tenant="default", owner="dev")
"""Everybody, until keys and tokens say who is calling."""


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
    theirs = [frame for frame in frames if "/parley/" not in frame.filename and not frame.filename.startswith("<")]
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
    return State(store(settings), agents(settings), PRINCIPAL)


def running(settings: Settings) -> State:
    """Build everything."""
    from parley.adapters.inline import InlineQueue
    from parley.adapters.python_tools import PythonTools
    from parley.engine import Engine
    from parley.runner import Runner

    found = agents(settings)
    its_store = store(settings)
    clock, ids = its_store.log.clock, its_store.log.ids
    engine = Engine(its_store, model(settings), PythonTools(), clock, ids)
    runner = Runner(engine, found)
    queue = InlineQueue(lambda tenant, session_id: runner.nudge(Ref(tenant, session_id)))
    return State(its_store, found, PRINCIPAL, runner, queue)


def model(settings: Settings) -> Model:
    """Build the model of the provider in force."""
    match settings.provider:
        case "scripted":
            from parley.adapters.scripted import ScriptedModel
            from parley.adapters.system import SystemClock

            return ScriptedModel(SystemClock(), settings.scripted_delay_seconds)
        case "anthropic":
            from parley.adapters.claude import ClaudeModel

            return ClaudeModel(api_key=settings.anthropic_api_key, base_url=settings.anthropic_base_url or None)
        case "bedrock":
            from parley.adapters.claude import BedrockModel

            return BedrockModel(region=settings.aws_region or None)


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


def check(settings: Settings) -> None:
    """Look for what clients would miss at their first call.

    Raises:
        SettingsError: no key, no region or no credentials are found; the message says what to set.
    """
    if settings.provider == "anthropic" and not settings.anthropic_api_key:
        raise SettingsError("PARLEY_MODEL_PROVIDER=anthropic: set ANTHROPIC_API_KEY.")
    uses = {"STORE=dynamodb": settings.store == "dynamodb", "MODEL_PROVIDER=bedrock": settings.provider == "bedrock"}
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
    """Make the table when an emulator does not have it; on AWS the template does."""
    if settings.store == "dynamodb" and settings.aws_endpoint_url:
        from parley.adapters.dynamodb import DynamoTable

        if isinstance(state.store.table, DynamoTable):
            await state.store.table.create_table_if_missing()
