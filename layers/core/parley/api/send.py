"""`POST /v1/sessions/{id}/events`: messages that wait for their turn; the answer does not wait for the agent."""

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from parley.api.depends import Principals, Refs, States
from parley.api.idempotency import REPLAYED, Onces
from parley.api.sessions import TaskId
from parley.api.shapes import QueuedShape, SentShape
from parley.api.size import share
from parley.core.compose import Scribe, user_message
from parley.core.content import Blocks, content_of, text_bytes
from parley.core.errors import Invalid, TooLarge, Unavailable
from parley.core.event import UserMessage
from parley.core.limits import MAX_INPUT_BYTES
from parley.ports import ConditionFailed
from parley.store.head import moment
from parley.store.idempotency import Done, find
from parley.store.inputs import MAX_QUEUED

router = APIRouter(tags=["events"])

NOT_YET = "Only events of type `user.message` can be sent for now."


class MessageInput(BaseModel):
    """A message to the agent."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["user.message"]
    content: Blocks


class SendEvents(BaseModel):
    """What to send, in its order: all of it is stored, or nothing."""

    model_config = ConfigDict(extra="forbid")

    events: Annotated[list[MessageInput], Field(min_length=1, max_length=MAX_QUEUED, description=NOT_YET)]


@router.post("/v1/sessions/{session_id}/events", summary="Send events")
async def send_events(
    session: Refs,
    body: SendEvents,
    response: Response,
    state: States,
    principal: Principals,
    once: Onces,
    on_busy: Annotated[
        Literal["queue"], Query(description="What to do while a run is open: wait for its end. Others are to come.")
    ] = "queue",
    x_task_id: Annotated[TaskId | None, Header()] = None,
) -> SentShape:
    """Store messages and answer at once; each begins a run of its own when the one before has ended."""
    store = state.store
    head = await store.sessions.head(session, principal.sees)
    if head.agent_id not in state.agents:
        raise Invalid(f"This session's agent '{head.agent_id}' is not deployed any more.", code="agent_not_found")
    done = await find(store.table, once)
    if done is None:
        scribe = Scribe(store.log.ids.new, store.log.clock.now, None, x_task_id)
        messages = _messages(scribe, body)
        try:
            await store.inputs.put(session, messages, owner=principal.sees, once=once)
        except ConditionFailed as error:
            done = await find(store.table, once)
            if done is None:
                await store.sessions.head(session, principal.sees)
                raise Unavailable("The session was changed at this moment. Try again.") from error
    if done is not None:
        response.headers.update(REPLAYED)
        messages = _sent(done, body, x_task_id)
    if state.queue:
        await state.queue.send(session.tenant, session.id)
    return SentShape(data=share([queued_shape(message) for message in messages]))


def queued_shape(message: UserMessage) -> QueuedShape:
    """Write a message that waits."""
    return QueuedShape(**message.model_dump(exclude={"seq", "run_id", "processed_at"}))


def _messages(scribe: Scribe, body: SendEvents) -> list[UserMessage]:
    at = scribe.now()
    contents = [content_of(event.content) for event in body.events]
    if any(text_bytes(content) > MAX_INPUT_BYTES for content in contents):
        raise TooLarge(f"The text of a message is larger than {MAX_INPUT_BYTES:,} bytes.")
    return [user_message(scribe, content, at) for content in contents]


def _sent(done: Done, body: SendEvents, task_id: str | None) -> list[UserMessage]:
    """Say again what was said to the first request with this key, whose body was the same."""
    at, ids = moment(done.created_ms), iter(done.inputs)
    scribe = Scribe(lambda _: next(ids), lambda: at, None, task_id)
    return _messages(scribe, body)
