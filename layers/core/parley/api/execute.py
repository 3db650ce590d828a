"""`POST /v1/agents/{agent_id}/execute`: a message in, a run's stream out."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from parley.api import sse
from parley.api.depends import Principals, States, ref
from parley.api.idempotency import REPLAYED
from parley.api.messages import messages_of
from parley.api.sessions import Metadata, TaskId, new_head
from parley.api.shapes import CompleteShape
from parley.api.size import ANSWER_BYTES, PAGE_BYTES, share
from parley.api.starting import Asked, Started
from parley.api.summary import RUNNING, Summary
from parley.api.vocabulary import Simple, Vocabulary, speaker
from parley.api.words import Bys
from parley.core.busy import OnBusy
from parley.core.content import Said, content_of, text_bytes
from parley.core.errors import Conflict, Invalid, TooLarge, Unavailable
from parley.core.event import Event, EventBase
from parley.core.limits import MAX_INPUT_BYTES
from parley.state import Principal, State
from parley.store.audit import By

router = APIRouter(tags=["execute"])

ON_BUSY = (
    "What to do while a run is open: refuse with 409 (`reject`), wait for its end (`queue`), join it before its next "
    "model call (`steer`), or stop it and begin next (`interrupt`). A stream of a message that waits has heartbeats "
    "only until its own run begins; `stream: false` answers 202 at once."
)

WAIT_SECONDS = 25.0
"""How long a repeated `stream: false` waits for the run of the first: most clients and proxies give up at 30."""


class Execute(BaseModel):
    """What to do."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "if": {"properties": {"session_id": {"type": "string"}}, "required": ["session_id"]},
            "then": {"properties": {"metadata": {"maxProperties": 0}}},
        },
    )

    input: Said = Field(
        description="The message to the agent: text up to 1,000,000 bytes, or blocks of type `text` and `image`.",
        examples=["What is my balance?"],
    )
    session_id: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        default=None, description="Go on in this session; without it, a new one begins."
    )
    task_id: TaskId | None = Field(default=None, description="Your own reference, carried on every event.")
    metadata: Metadata = Field(default_factory=dict, max_length=16, description="Kept with a new session.")
    stream: bool = Field(default=True, description="`false` answers once, with JSON, when the run has ended.")


@router.post(
    "/v1/agents/{agent_id}/execute",
    summary="Send a message and follow the run",
    response_class=Response,
    responses={
        200: {
            "content": {"text/event-stream": {}, "application/json": {}},
            "description": "The run's stream.",
        },
        202: {
            "content": {"application/json": {}},
            "description": "`stream: false`, and the run goes on elsewhere or waits.",
        },
    },
)
async def execute(
    request: Request,
    agent_id: str,
    body: Execute,
    state: States,
    principal: Principals,
    by: Bys,
    vocab: Annotated[Vocabulary, Query(description="Words of the stream.")] = "simple",
    on_busy: Annotated[OnBusy, Query(description=ON_BUSY)] = "reject",
    x_task_id: Annotated[TaskId | None, Header()] = None,
) -> Response:
    """Create or continue a session, start a run, and stream what it does. Every refusal comes before the stream."""
    started = await _asked(state, principal, agent_id, body, by, on_busy, x_task_id).start()
    location = f"{request.scope.get('root_path', '')}/v1/sessions/{started.ref.id}"  # behind the stage, on API Gateway
    headers = {
        "location": location,
        **({"content-location": f"{location}/runs/{started.run_id}"} if started.run_id else {}),
        **(REPLAYED if started.replayed else {}),
    }
    if body.stream:
        speaks = speaker(vocab, started.ref.id, started.run_id or "")
        if isinstance(speaks, Simple):
            for event in started.behind:
                speaks.take(event)
        frames = sse.frames(started.batches, speaks.say, state.store.log.clock.now)
        return StreamingResponse(frames, headers=headers | sse.HEADERS, media_type=sse.MEDIA_TYPE)
    whole = await _whole(started)
    status = 202 if whole.status == RUNNING else 200  # it was handed over, and goes on elsewhere; or it waits
    return Response(whole.model_dump_json(exclude_none=True), status, headers, media_type="application/json")


def _asked(
    state: State,
    principal: Principal,
    agent_id: str,
    body: Execute,
    by: By,
    on_busy: OnBusy,
    x_task_id: str | None,
) -> Asked:
    """Refuse what no session would take."""
    agent, content = state.agent(agent_id), content_of(body.input)
    if state.runner is None:
        raise Unavailable("This function does not run agents.")
    if text_bytes(content) > MAX_INPUT_BYTES:
        raise TooLarge(f"The text of `input` is larger than {MAX_INPUT_BYTES:,} bytes.")
    if body.session_id is not None and body.metadata:
        raise Invalid("`metadata` belongs to a new session; this one exists. Leave it out.")
    new, session = None, ref(principal, body.session_id or state.store.log.ids.new("sesn"))
    task_id = body.task_id or x_task_id
    if body.session_id is None:
        new = new_head(state, session, agent, principal.owner, task_id=task_id, metadata=body.metadata)
    return Asked(state, state.runner, by, agent, content, session, new, task_id, on_busy)


async def _whole(started: Started) -> CompleteShape:
    """Wait until the run is idle and tell it at once; of a message that waits, tell where.

    Raises:
        Conflict: a repeated request has waited long enough; the run goes on.
    """
    summary = Summary(started.ref.id, started.run_id or "")
    if started.run_id is None:
        return CompleteShape(**summary.complete() | {"run_id": None})
    events: list[Event] = []
    try:
        async with asyncio.timeout(WAIT_SECONDS if started.replayed else None):
            async for batch in started.batches:
                events += [output for output in batch if isinstance(output, EventBase)]
                if started.rests:
                    break  # a person's word may take days
    except TimeoutError:
        message = f"Run '{started.run_id}' is still at work. Ask again with the same key, or read the session's events."
        raise Conflict(message, code="run_in_progress") from None
    for event in [*started.behind, *events]:
        summary.take(event)
    [complete] = share([CompleteShape(**summary.complete())], ANSWER_BYTES - PAGE_BYTES)
    return complete.model_copy(update={"messages": share(messages_of(events), PAGE_BYTES)})
