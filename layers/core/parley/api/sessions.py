"""`/v1/sessions`: create, list, get, delete. Nothing here needs an engine or a model."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

from parley.api.budgets import BudgetInput, checked
from parley.api.depends import Actors, Principals, Refs, States, ref
from parley.api.idempotency import REPLAYED, Onces
from parley.api.pages import CreatedAts, Cursor, IncludeTotal, Limit, Offset, Order, page_of
from parley.api.session_shape import SessionShape, session_shape, shown
from parley.api.shapes import PageOf
from parley.core.agent import Agent
from parley.core.budget import Budget
from parley.core.changes import settings
from parley.core.errors import Invalid, Unavailable
from parley.core.policy import Autonomy
from parley.core.scribe import Scribe
from parley.core.status import STATUS, RunStatus, SessionStatus
from parley.core.status import State as LifeState
from parley.ports import ConditionFailed
from parley.state import State
from parley.store import Head, Ref
from parley.store.head import milliseconds, moment
from parley.store.idempotency import find
from parley.store.sessions import MAX_OFFSET

router = APIRouter(tags=["sessions"])

Metadata = dict[
    Annotated[str, StringConstraints(min_length=1, max_length=64)],
    Annotated[str, StringConstraints(max_length=512)],
]
"""Up to 16 strings of the caller's own, as in the Managed Agents API."""

NOTHING: dict[str, JsonValue] = {"maxItems": 0, "maxProperties": 0}
"""Of a field that is taken while it is empty."""

Title = Annotated[str, StringConstraints(max_length=500)]

AgentId = Annotated[str, StringConstraints(max_length=256)]

TaskId = Annotated[str, StringConstraints(min_length=1, max_length=256)]


class AgentReference(BaseModel):
    """An agent by id; a version is accepted and the deployed one is used."""

    model_config = ConfigDict(extra="forbid")

    id: AgentId
    type: Literal["agent"] = "agent"
    version: int | None = None


class CreateSession(BaseModel):
    """A new session; it says nothing until something is sent to it."""

    model_config = ConfigDict(extra="forbid")

    agent: AgentId | AgentReference
    title: Title | None = None
    metadata: Metadata = Field(default_factory=dict, max_length=16)
    task_id: TaskId | None = Field(default=None, description="Your own reference, carried on every event.")
    environment_id: str | None = Field(default=None, description="Accepted and ignored: tools run where Parley runs.")
    autonomy: Autonomy | None = Field(
        default=None, description="How much the agent may do unasked; else its own level."
    )
    initial_events: list[Any] | None = Field(
        default=None, description="Not supported yet: use `execute`.", json_schema_extra=NOTHING
    )
    budget: BudgetInput | None = None
    resources: list[Any] | None = Field(default=None, description="Not supported.", json_schema_extra=NOTHING)
    vault_ids: list[str] | None = Field(default=None, description="Not supported.", json_schema_extra=NOTHING)


def new_head(
    state: State,
    session: Ref,
    agent: Agent,
    owner: str,
    *,
    title: str | None = None,
    task_id: str | None = None,
    metadata: dict[str, str] | None = None,
    autonomy: Autonomy | None = None,
    budget: Budget | None = None,
) -> Head:
    """Describe a session that begins now."""
    now = milliseconds(state.store.log.clock.now())
    return Head(
        session.id, agent.id, owner, now, now,
        title=title, task_id=task_id, metadata=metadata or {}, autonomy=autonomy, budget=budget,
    )  # fmt: skip


@router.post("/v1/sessions", summary="Create a session")
async def create_session(
    request: Request,
    body: CreateSession,
    response: Response,
    state: States,
    principal: Principals,
    once: Onces,
    x_task_id: Annotated[TaskId | None, Header()] = None,
) -> SessionShape:
    """Create an empty session of an agent."""
    for name in ("initial_events", "resources", "vault_ids"):
        if getattr(body, name):
            raise Invalid(f"`{name}` is not supported. Leave it out.", code="not_supported")
    agent = state.agent(body.agent if isinstance(body.agent, str) else body.agent.id)
    if not (done := await find(state.store.table, once)):
        session = ref(principal, state.store.log.ids.new("sesn"))
        head = new_head(
            state, session, agent, principal.owner,
            title=body.title, task_id=body.task_id or x_task_id, metadata=body.metadata, autonomy=body.autonomy,
            budget=checked(body.budget, agent) if body.budget else None,
        )  # fmt: skip
        scribe = Scribe(state.store.log.ids.new, state.store.log.clock.now, None, head.task_id)
        said = settings(scribe, principal.owner, autonomy=head.autonomy, budget=head.budget)
        try:
            await state.store.sessions.create(session, head, once, said=said)
        except ConditionFailed:
            done = await find(state.store.table, once)
        else:
            response.headers["location"] = f"{request.scope.get('root_path', '')}/v1/sessions/{session.id}"
            return session_shape(state, head)
    if done is None:
        raise Unavailable("The request could not be stored. Try again.")
    response.headers.update(REPLAYED)
    return session_shape(state, await state.store.sessions.head(ref(principal, done.session_id), principal.sees))


class DeletedShape(BaseModel):
    """A session that is gone."""

    id: str
    type: Literal["session_deleted"] = "session_deleted"


class Filter(BaseModel):
    """Which sessions a list shows."""

    agent_id: str | None = None
    task_id: str | None = None
    source: str | None = None
    owner: str | None = None
    state: list[LifeState] = Field(default_factory=list)
    run_status: list[RunStatus] = Field(default_factory=list)
    status: list[SessionStatus] = Field(default_factory=list)
    statuses: list[SessionStatus] = Field(default_factory=list, alias="statuses[]", description="As `status`.")

    include_archived: bool = False

    def admits(self, head: Head) -> bool:
        """Say whether a session passes."""
        told = STATUS[head.phase]
        status = [*self.status, *self.statuses]
        equal = (
            getattr(self, name) in (None, getattr(head, name)) for name in ("agent_id", "task_id", "source", "owner")
        )
        return (
            all(equal)
            and (self.include_archived or head.archived_ms is None)
            and (not self.state or told.state in self.state)
            and (not self.run_status or told.run in self.run_status)
            and (not status or told.session in status)
        )


@router.get("/v1/sessions", summary="List sessions")
async def list_sessions(
    state: States,
    principal: Principals,
    chosen: Annotated[Filter, Query()],
    created_at: CreatedAts,
    order: Order = "desc",
    limit: Limit = 20,
    page: Cursor = None,
    offset: Offset = 0,
    include_total: IncludeTotal = False,
) -> PageOf[SessionShape]:
    """List your sessions by their last activity, the newest first."""

    def wanted(head: Head) -> bool:
        mine = principal.sees in (None, head.owner)
        return mine and chosen.admits(head) and created_at.admits(moment(head.created_ms))

    sessions = state.store.sessions
    found = await sessions.page(
        principal.tenant,
        question=repr(("sessions", chosen, created_at, order, principal.sees)),
        wanted=wanted,
        limit=limit,
        newest_first=order == "desc",
        page=page,
        offset=offset,
    )
    totals: dict[str, Any] = {}
    if include_total:
        total = await sessions.total(principal.tenant, wanted)
        totals = {"total": min(total, MAX_OFFSET), "total_is_lower_bound": total > MAX_OFFSET}
    return page_of([session_shape(state, head) for head in found.heads], found.next_page, **totals)


@router.get("/v1/sessions/{session_id}", summary="Get a session")
async def get_session(session: Refs, state: States, principal: Principals) -> SessionShape:
    """Return one session; while a run is open or a message waits, its status is that of this moment."""
    return await shown(state, session, principal)


@router.delete("/v1/sessions/{session_id}", summary="Delete a session")
async def delete_session(session: Refs, state: States, principal: Principals, actor: Actors) -> DeletedShape:
    """Make a session and all that it holds unreadable, for good; its run stops at its next step."""
    await state.store.sessions.delete(session, principal.sees, actor)
    return DeletedShape(id=session.id)
