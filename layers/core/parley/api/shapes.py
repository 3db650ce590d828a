"""What answers look like: the wire's shapes, as models, so that `/openapi.json` tells them.

Sessions and agents have every field of `BetaManagedAgentsSession` and `BetaManagedAgentsAgent` of `anthropic`
2.11 (read 2026-11-20), and fields of ours besides. Events are `core.event` itself.
"""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from parley.core.status import RunStatus, SessionStatus
from parley.core.status import State as LifeState
from parley.core.tool import Effect
from parley.core.value import Author, Block, Timestamp, Usage

T = TypeVar("T")


class PageOf(BaseModel, Generic[T]):
    """One page; `next_page` goes back as `page`, unchanged. `total` only when `include_total` was asked."""

    data: list[T]
    next_page: str | None = None
    has_more: bool = False
    first_id: str | None = None
    last_id: str | None = None
    total: int | None = None
    total_is_lower_bound: bool | None = None


class ToolShape(BaseModel):
    """A tool of an agent; `effect` says what repeating it means."""

    type: Literal["custom"] = "custom"
    name: str
    description: str
    input_schema: dict[str, Any]
    effect: Effect


class ModelShape(BaseModel):
    """A model, by id."""

    id: str


class IdentityShape(BaseModel):
    """As whom an agent acts: the function's own role, always."""

    type: Literal["service_account"] = "service_account"


class AgentShape(BaseModel):
    """A deployed agent."""

    id: str
    type: Literal["agent"] = "agent"
    name: str
    description: str
    version: int = Field(description="Hash of prompt, model, tools and limits.")
    model: ModelShape
    system: str
    tools: list[ToolShape]
    limits: dict[str, float]
    execution_identity: IdentityShape = IdentityShape()
    mcp_servers: list[Any] = []
    skills: list[Any] = []
    metadata: dict[str, str] = {}
    created_at: str
    updated_at: str
    archived_at: str | None = None


class GoneAgentShape(BaseModel):
    """An agent that is not deployed any more."""

    id: str
    type: Literal["agent"] = "agent"


class StatsShape(BaseModel):
    """How long, how often."""

    active_seconds: float
    duration_seconds: float
    runs: int


class CacheCreationShape(BaseModel):
    """Tokens written to the model's cache, by how long it keeps them."""

    ephemeral_5m_input_tokens: int = 0
    ephemeral_1h_input_tokens: int = 0


class SessionUsageShape(BaseModel):
    """Tokens of all runs."""

    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation: CacheCreationShape


class SessionShape(BaseModel):
    """A session."""

    id: str
    type: Literal["session"] = "session"
    agent: AgentShape | GoneAgentShape
    title: str | None
    status: SessionStatus
    state: LifeState
    run_status: RunStatus | None
    created_at: Timestamp
    updated_at: Timestamp
    archived_at: Timestamp | None = None
    metadata: dict[str, str]
    owner: str
    task_id: str | None
    source: str
    environment_id: str = "env_local"
    budget: None = None
    resources: list[Any] = []
    vault_ids: list[str] = []
    outcome_evaluations: list[Any] = []
    stats: StatsShape
    usage: SessionUsageShape


class DeletedShape(BaseModel):
    """A session that is gone."""

    id: str
    type: Literal["session_deleted"] = "session_deleted"


class RunErrorShape(BaseModel):
    """Why a run failed; `code` is stable."""

    code: str
    message: str | None
    retryable: bool | None = None


class AgentVersionShape(BaseModel):
    """The agent that a run used."""

    id: str
    version: int


class RunShape(BaseModel):
    """One run; `input` is the beginning of the message, the whole of it is event `first_seq`."""

    id: str
    type: Literal["run"] = "run"
    status: RunStatus | None
    agent: AgentVersionShape
    task_id: str | None
    input: str
    stop_reason: str | None
    error: RunErrorShape | None
    usage: Usage
    started_at: Timestamp
    ended_at: Timestamp | None
    duration_ms: int | None
    first_seq: int
    last_seq: int | None


class QueuedShape(BaseModel):
    """A message that waits for its turn: an event without a `seq` yet."""

    id: str
    type: Literal["user.message"] = "user.message"
    content: list[Block]
    created_at: Timestamp
    processed_at: None = None
    task_id: str | None = None


class SentShape(BaseModel):
    """What was sent."""

    data: list[QueuedShape]


class MessageShape(BaseModel):
    """One message; `content` has blocks of type `text`, `image`, `tool_use` or `tool_result`."""

    id: str
    seq: int
    role: Literal["user", "assistant", "tool"]
    content: list[dict[str, Any]]
    created_at: Timestamp
    run_id: str | None
    task_id: str | None
    author: Author | None = None


class CompleteShape(BaseModel):
    """How a run ended, or what it waits for; `messages` with `stream: false` only."""

    session_id: str
    run_id: str
    status: str
    output: str
    stop_reason: str | None
    usage: Usage
    pending_tool_call_ids: list[str] | None = None
    error: RunErrorShape | None = None
    messages: list[MessageShape] | None = None


class HealthShape(BaseModel):
    """The process answers, and its store does."""

    status: Literal["ok"] = "ok"
    version: str
    agents: list[str]


class ErrorShape(BaseModel):
    """What the `anthropic` SDK reads."""

    type: str
    message: str


class FieldProblem(BaseModel):
    """One field that was refused."""

    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457 problem details; `code` is stable and safe to branch on."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str | None
    errors: list[FieldProblem] = []
    error: ErrorShape
