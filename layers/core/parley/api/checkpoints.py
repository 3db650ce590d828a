"""Places of a session's log: name one, set the conversation back to one, begin another session from one."""

from typing import Annotated, Literal, Self

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, model_validator

from parley.api.depends import Principals, Refs, States, ref
from parley.api.idempotency import REPLAYED
from parley.api.pages import page_of
from parley.api.session_shape import SessionShape, session_shape, shown
from parley.api.sessions import Metadata, Title, new_head
from parley.api.shapes import PageOf
from parley.api.words import Bys
from parley.core.agent import Agent
from parley.core.errors import Unavailable
from parley.core.session import Checkpoint
from parley.core.value import Timestamp
from parley.ports import ConditionFailed
from parley.store.idempotency import find

router = APIRouter(tags=["checkpoints"])

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]


NO_NAME: dict[str, JsonValue] = {"checkpoint": {"type": "null"}}
NO_SEQ: dict[str, JsonValue] = {"seq": {"type": "null"}}
"""Of the two ways to name a place, one is left out."""


class CheckpointShape(BaseModel):
    """A place of a session's log that has a name: behind event `seq`."""

    name: str
    type: Literal["checkpoint"] = "checkpoint"
    seq: int
    created_at: Timestamp


class CreateCheckpoint(BaseModel):
    """A name for the place where the session's log ends now."""

    model_config = ConfigDict(extra="forbid")

    name: Name


class Place(BaseModel):
    """A place of the log: behind a checkpoint, or behind an event."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"anyOf": [{"properties": NO_NAME}, {"properties": NO_SEQ}]}
    )

    checkpoint: Name | None = None
    seq: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.checkpoint is not None and self.seq is not None:
            raise ValueError("give `checkpoint` or `seq`, not both")
        return self


class RestoreSession(Place):
    """Where to set the conversation back to."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"properties": NO_NAME | {"seq": {"type": "integer"}}, "required": ["seq"]},
                {"properties": NO_SEQ | {"checkpoint": {"type": "string"}}, "required": ["checkpoint"]},
            ]
        }
    )

    @model_validator(mode="after")
    def _a_place(self) -> Self:
        if self.checkpoint is None and self.seq is None:
            raise ValueError("give `checkpoint` or `seq`")
        return self


class ForkSession(Place):
    """Where the new session begins; without a place, where this one is now."""

    title: Title | None = Field(default=None, description="Else it has this session's.")
    metadata: Metadata = Field(default_factory=dict, max_length=16)


@router.post("/v1/sessions/{session_id}/checkpoints", summary="Create a checkpoint")
async def create_checkpoint(
    session: Refs, body: CreateCheckpoint, response: Response, state: States, principal: Principals, by: Bys
) -> CheckpointShape:
    """Name the place where the log ends now, to come back to it; a name belongs to one place."""
    said = await state.store.lives.checkpoint(session, by, body.name)
    if said.replayed:
        response.headers.update(REPLAYED)
    made = await state.store.lives.checkpoints(session, principal.sees)
    return next(_shape(each) for each in made if each.name == body.name)


@router.get("/v1/sessions/{session_id}/checkpoints", summary="List checkpoints")
async def list_checkpoints(session: Refs, state: States, principal: Principals) -> PageOf[CheckpointShape]:
    """List a session's checkpoints, the first first; there are at most 100."""
    return page_of([_shape(each) for each in await state.store.lives.checkpoints(session, principal.sees)], None)


@router.post("/v1/sessions/{session_id}/restore", summary="Set a session back")
async def restore_session(
    session: Refs, body: RestoreSession, response: Response, state: States, principal: Principals, by: Bys
) -> SessionShape:
    """Let the model go on from what it had read at an earlier place. What tools have done since is not undone."""
    said = await state.store.lives.restore(session, by, body.checkpoint, body.seq)
    if said.replayed:
        response.headers.update(REPLAYED)
    return await shown(state, session, principal)


@router.post("/v1/sessions/{session_id}/fork", summary="Fork a session")
async def fork_session(
    request: Request,
    session: Refs,
    body: ForkSession,
    response: Response,
    state: States,
    principal: Principals,
    by: Bys,
) -> SessionShape:
    """Begin a session of your own that goes on from a place of this one; this one stays as it is."""
    source = await state.store.sessions.head(session, principal.sees)
    if not (done := await find(state.store.table, by.once)):
        fork, agent = ref(principal, state.store.log.ids.new("sesn")), Agent(id=source.agent_id, prompt="-")
        title = source.title if body.title is None else body.title
        head = new_head(
            state, fork, agent, principal.owner, title=title, task_id=source.task_id, metadata=body.metadata
        )
        try:
            head = await state.store.lives.fork(session, by, head, body.checkpoint, body.seq)
        except ConditionFailed:
            done = await find(state.store.table, by.once)
        else:
            response.headers["location"] = f"{request.scope.get('root_path', '')}/v1/sessions/{fork.id}"
            return session_shape(state, head)
    if done is None:
        raise Unavailable("The request could not be stored. Try again.")
    response.headers.update(REPLAYED)
    return await shown(state, ref(principal, done.session_id), principal)


def _shape(checkpoint: Checkpoint) -> CheckpointShape:
    return CheckpointShape(name=checkpoint.name, seq=checkpoint.seq, created_at=checkpoint.created_at)
