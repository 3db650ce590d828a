"""What answers look like: the wire's shapes, as models, so that `/openapi.json` tells them.

Agents have every field of `BetaManagedAgentsAgent` of `anthropic` 2.11 (read 2026-11-20), and fields of ours
besides. Events are `core.event` itself.
"""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from parley.core.budget import Budget
from parley.core.event import Event
from parley.core.policy import Policy
from parley.core.price import Price
from parley.core.status import RunStatus
from parley.core.tool import Effect, Permission
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
    """A tool of an agent; `effect` says what repeating it means, `permission` whether a person is asked first."""

    type: Literal["custom"] = "custom"
    name: str
    description: str
    input_schema: dict[str, Any]
    effect: Effect
    permission: Permission


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
    version: int = Field(description="Hash of prompt, model, tools, limits and policy.")
    model: ModelShape
    system: str
    tools: list[ToolShape]
    limits: dict[str, float]
    policy: Policy
    budget: Budget | None
    daily_budget: int | None = Field(description="Micro-dollars of all sessions in a day, of UTC.")
    price: Price | None = Field(description="Micro-dollars for a million tokens.")
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
    cost: int = Field(description="Micro-dollars.")
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

    data: list[Event | QueuedShape]


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
    run_id: str | None = None
    status: str
    output: str
    stop_reason: str | None
    usage: Usage
    cost: int = 0
    pending_tool_call_ids: list[str] | None = None
    pending_approval_ids: list[str] | None = None
    error: RunErrorShape | None = None
    messages: list[MessageShape] | None = None


class HealthShape(BaseModel):
    """The process answers, and its store does."""

    status: Literal["ok"] = "ok"
    version: str
    agents: list[str]
