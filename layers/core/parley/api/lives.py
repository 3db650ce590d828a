"""`POST /v1/sessions/{id}` and its `suspend`, `resume`, `archive`: what a person decides on a whole session.

Each answers with the session as it is then. What is so already stays so, and nothing is stored.
"""

from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from parley.api.budgets import BudgetInput, checked
from parley.api.depends import Principals, Refs, States
from parley.api.idempotency import REPLAYED
from parley.api.session_shape import SessionShape, shown
from parley.api.sessions import Title
from parley.api.words import Bys, tell
from parley.core.changes import Changes
from parley.core.policy import Autonomy
from parley.state import Principal, State
from parley.store import Ref
from parley.store.words import Spoken

router = APIRouter(tags=["sessions"])


Patch = dict[
    Annotated[str, StringConstraints(min_length=1, max_length=64)],
    Annotated[str, StringConstraints(max_length=512)] | None,
]


class UpdateSession(BaseModel):
    """What is to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    title: Title | None = Field(default=None, description="`null` takes it away.")
    metadata: Patch | None = Field(default=None, max_length=32, description="Names to set; `null` takes one away.")
    autonomy: Autonomy | None = Field(default=None, description="Counts from the next answer of the model on.")
    budget: BudgetInput | None = Field(
        default=None, description="Replaces the budget; `null` takes it away. A run that waits at a cap goes on."
    )


@router.post("/v1/sessions/{session_id}", summary="Update a session")
async def update_session(
    session: Refs, body: UpdateSession, response: Response, state: States, principal: Principals, by: Bys
) -> SessionShape:
    """Change title, metadata, level of autonomy or budget, also while a run is open."""
    head = await state.store.sessions.head(session, principal.sees)
    title = (body.title or "") if "title" in body.model_fields_set else None
    asked = "budget" in body.model_fields_set
    budget = checked(body.budget, state.agents.get(head.agent_id)) if asked else None
    changes = Changes(title, body.metadata, body.autonomy, budget)
    said = await state.store.lives.update(session, by, changes)
    if asked:
        await tell(state, session)
    return await _then(state, session, principal, response, said)


@router.post("/v1/sessions/{session_id}/suspend", summary="Suspend a session")
async def suspend_session(
    session: Refs, response: Response, state: States, principal: Principals, by: Bys
) -> SessionShape:
    """Let nothing start any more: an open run pauses when what it is doing has ended, and messages wait."""
    return await _then(state, session, principal, response, await state.store.lives.suspend(session, by))


@router.post("/v1/sessions/{session_id}/resume", summary="Resume a session")
async def resume_session(
    session: Refs, response: Response, state: States, principal: Principals, by: Bys
) -> SessionShape:
    """Let a suspended session go on: its open run, and then the messages that wait."""
    said = await state.store.lives.resume(session, by)
    await tell(state, session)
    return await _then(state, session, principal, response, said)


@router.post("/v1/sessions/{session_id}/archive", summary="Archive a session")
async def archive_session(
    session: Refs, response: Response, state: States, principal: Principals, by: Bys
) -> SessionShape:
    """Let nothing be added any more, for good; it can be read, forked and deleted."""
    return await _then(state, session, principal, response, await state.store.lives.archive(session, by))


async def _then(state: State, session: Ref, principal: Principal, response: Response, said: Spoken) -> SessionShape:
    if said.replayed:
        response.headers.update(REPLAYED)
    return await shown(state, session, principal)
