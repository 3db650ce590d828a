"""`POST /v1/sessions/{id}/events`: messages for the agent, and the stop; the answer does not wait for the agent."""

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from parley.api import confirmations
from parley.api.busy import Speech
from parley.api.confirmations import ConfirmationInput
from parley.api.depends import Refs, States
from parley.api.idempotency import REPLAYED
from parley.api.sessions import TaskId
from parley.api.shapes import QueuedShape, SentShape
from parley.api.size import share
from parley.api.words import Bys
from parley.core.busy import OnBusy
from parley.core.compose import user_message
from parley.core.content import Blocks, content_of, text_bytes
from parley.core.errors import Invalid, TooLarge
from parley.core.event import UserMessage
from parley.core.limits import MAX_INPUT_BYTES
from parley.core.scribe import Scribe
from parley.store.head import moment
from parley.store.idempotency import Done
from parley.store.inputs import MAX_QUEUED

router = APIRouter(tags=["events"])

SENDABLE = (
    "Messages and interrupts (an interrupt goes before the messages, wherever it stands), or confirmations of calls "
    "that wait for a person: not both in one request."
)

ON_BUSY = (
    "What becomes of messages while a run is open: they wait for its end (`queue`), join it before its next model call "
    "(`steer`), stop it and wait (`interrupt`), or are refused with 409, also while others wait (`reject`)."
)


class MessageInput(BaseModel):
    """A message to the agent."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["user.message"]
    content: Blocks


class InterruptInput(BaseModel):
    """A stop: no call of the open run with an effect starts behind it. Where none is open, it is only kept."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["user.interrupt"]
    session_thread_id: None = None
    """Threads of several agents are not there."""


Sendable = Annotated[MessageInput | InterruptInput | ConfirmationInput, Field(discriminator="type")]


class SendEvents(BaseModel):
    """What to send, in its order: all of it is stored, or nothing."""

    model_config = ConfigDict(extra="forbid")

    events: Annotated[list[Sendable], Field(min_length=1, max_length=MAX_QUEUED, description=SENDABLE)]


@router.post("/v1/sessions/{session_id}/events", summary="Send events")
async def send_events(
    session: Refs,
    body: SendEvents,
    response: Response,
    state: States,
    by: Bys,
    on_busy: Annotated[OnBusy, Query(description=ON_BUSY)] = "queue",
    x_task_id: Annotated[TaskId | None, Header()] = None,
) -> SentShape:
    """Store messages and answer at once; each begins a run of its own when the one before has ended, or joins one.

    A stop is heard by whoever drives the run, within about a second. Confirmations are decisions, and the run goes on.
    """
    store = state.store
    head = await store.sessions.head(session, by.sees)
    if confirmed := confirmations.among(body.events):
        confirmed_events = await confirmations.store(state, session, confirmed, by, response)
        return SentShape(data=share(confirmed_events))
    scribe = Scribe(store.log.ids.new, store.log.clock.now, None, x_task_id)
    messages = _messages(scribe, body)
    if messages and head.agent_id not in state.agents:
        raise Invalid(f"This session's agent '{head.agent_id}' is not deployed any more.", code="agent_not_found")
    sent = await Speech(state, session, by).say(messages, len(body.events) - len(messages), on_busy)
    if sent.done:
        response.headers.update(REPLAYED)
    waiting = _sent(sent.done, body, x_task_id) if sent.done and sent.done.inputs else sent.waiting
    return SentShape(data=share([*sent.events, *map(queued_shape, waiting)]))


def queued_shape(message: UserMessage) -> QueuedShape:
    """Write a message that waits."""
    return QueuedShape(**message.model_dump(exclude={"seq", "run_id", "processed_at"}))


def _messages(scribe: Scribe, body: SendEvents) -> list[UserMessage]:
    at = scribe.now()
    contents = [content_of(event.content) for event in body.events if isinstance(event, MessageInput)]
    if any(text_bytes(content) > MAX_INPUT_BYTES for content in contents):
        raise TooLarge(f"The text of a message is larger than {MAX_INPUT_BYTES:,} bytes.")
    return [user_message(scribe, content, at) for content in contents]


def _sent(done: Done, body: SendEvents, task_id: str | None) -> list[UserMessage]:
    """Say again what was said to the first request with this key, whose body was the same."""
    at, ids = moment(done.created_ms), iter(done.inputs)
    scribe = Scribe(lambda _: next(ids), lambda: at, None, task_id)
    return _messages(scribe, body)
