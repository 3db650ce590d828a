"""`POST` and `DELETE /v1/sessions/{id}/events/{event_id}`: second thoughts about a message that waits."""

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict
from starlette.convertors import StringConvertor, register_url_convertor

from parley.api.depends import Actors, Principals, Refs, States
from parley.api.idempotency import REPLAYED
from parley.api.send import queued_shape
from parley.api.shapes import QueuedShape
from parley.api.size import share
from parley.api.words import Bys
from parley.core.compose import blocks
from parley.core.content import Blocks, content_of, text_bytes
from parley.core.errors import NotFound, TooLarge
from parley.core.limits import MAX_INPUT_BYTES
from parley.store.audit import By
from parley.store.idempotency import find

router = APIRouter(tags=["events"])


class EventId(StringConvertor):
    """The id of an event in a path; never `stream`, which is a resource of its own."""

    regex = r"(?!stream$)[^/]+"


register_url_convertor("event", EventId())


class Edit(BaseModel):
    """What the message shall say."""

    model_config = ConfigDict(extra="forbid")

    content: Blocks


class Removed(BaseModel):
    """A message that waited, and does no more."""

    id: str
    type: Literal["event_removed"] = "event_removed"


@router.post("/v1/sessions/{session_id}/events/{event_id:event}", summary="Edit a waiting message")
async def edit_event(
    session: Refs, event_id: str, body: Edit, response: Response, state: States, by: Bys
) -> QueuedShape:
    """Change what a message says that waits for its turn. One that has been taken into the log stays as it is."""
    inputs, content = state.store.inputs, content_of(body.content)
    if text_bytes(content) > MAX_INPUT_BYTES:
        raise TooLarge(f"The text of a message is larger than {MAX_INPUT_BYTES:,} bytes.")
    await state.store.sessions.head(session, by.sees)
    if await find(state.store.table, by.once):
        response.headers.update(REPLAYED)
    else:
        await inputs.edit(session, event_id, content, by)
    queued = await inputs.find(session, event_id)
    message = queued.message if queued else await inputs.placed(session, event_id)
    if message is None:
        raise NotFound("event", event_id[:64])
    [shown] = share([queued_shape(message.model_copy(update={"content": blocks(content)}))])
    return shown


@router.delete("/v1/sessions/{session_id}/events/{event_id:event}", summary="Remove a waiting message")
async def remove_event(session: Refs, event_id: str, state: States, principal: Principals, actor: Actors) -> Removed:
    """Take a message that waits for its turn out of the queue: it begins no run and leaves no trace."""
    await state.store.inputs.remove(session, event_id, By(actor, principal.sees))
    return Removed(id=event_id)
