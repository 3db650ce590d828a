"""A session as the API tells it.

It has every field of `BetaManagedAgentsSession` of `anthropic` 2.11 (read 2026-11-28), and fields of ours besides.
"""

from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, Field

from parley.api.agents import agent_shape
from parley.api.budgets import budget_shown
from parley.api.shapes import AgentShape, GoneAgentShape
from parley.core.budget import Budget, Money, dollars
from parley.core.policy import Autonomy
from parley.core.status import AT_REST, OPEN, STATUS, RunStatus, SessionStatus
from parley.core.status import State as LifeState
from parley.core.value import Timestamp
from parley.state import Principal, State
from parley.store import Head, Ref
from parley.store.head import moment


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
    list_cost: Money = Field(description="In cents, rounded up; `cost` of the session is exact.")


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
    autonomy: Autonomy | None
    metadata: dict[str, str]
    owner: str
    task_id: str | None
    source: str
    environment_id: str = "env_local"
    budget: Budget | None = None
    cost: int = Field(description="Micro-dollars, of all runs.")
    resources: list[Any] = []
    vault_ids: list[str] = []
    outcome_evaluations: list[Any] = []
    stats: StatsShape
    usage: SessionUsageShape


async def shown(state: State, session: Ref, principal: Principal) -> SessionShape:
    """Write a session as it is at this moment.

    Raises:
        NotFound: unknown, deleted, expired or somebody else's session.
    """
    head = await state.store.sessions.head(session, principal.sees)
    if head.phase in OPEN:
        _, lock = await state.store.sessions.open(session, principal.sees)
        folded, _ = await state.store.log.load(session, lock.sealed)
        head = replace(head, phase=folded.shows, usage=folded.usage, cost=folded.spent.cost)
    if head.phase not in AT_REST and await state.store.inputs.wait(session):
        head = replace(head, phase="queued")
    return session_shape(state, head)


def session_shape(state: State, head: Head) -> SessionShape:
    """Write a session."""
    status, usage = STATUS[head.phase], head.usage
    agent = state.agents.get(head.agent_id)
    return SessionShape(
        id=head.id,
        agent=agent_shape(agent) if agent else GoneAgentShape(id=head.agent_id),
        title=head.title,
        status=status.session,
        state=status.state,
        run_status=status.run,
        created_at=moment(head.created_ms),
        updated_at=moment(head.updated_ms),
        archived_at=moment(head.archived_ms) if head.archived_ms else None,
        autonomy=head.autonomy or (agent.policy.autonomy if agent else None),
        metadata=head.metadata,
        owner=head.owner,
        task_id=head.task_id,
        source=head.source,
        budget=budget_shown(head, agent),
        cost=head.cost,
        stats=StatsShape(
            active_seconds=head.active_ms / 1000,
            duration_seconds=(head.updated_ms - head.created_ms) / 1000,
            runs=head.runs,
        ),
        usage=SessionUsageShape(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_input_tokens=usage.cache_read_input_tokens,
            cache_creation=CacheCreationShape(ephemeral_5m_input_tokens=usage.cache_creation_input_tokens),
            list_cost=dollars(head.cost),
        ),
    )
