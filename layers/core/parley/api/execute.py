"""`POST /v1/agents/{agent_id}/execute`: a message in, a run's stream out."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from parley.api import sse
from parley.api.depends import Principals, States, ref
from parley.api.idempotency import REPLAYED, Onces
from parley.api.messages import messages_of
from parley.api.sessions import Metadata, TaskId, new_head
from parley.api.shapes import CompleteShape
from parley.api.size import ANSWER_BYTES, PAGE_BYTES, share
from parley.api.vocabulary import RUNNING, Summary, Vocabulary, speaker
from parley.core.content import Said, content_of, text_bytes
from parley.core.delta import Output
from parley.core.errors import Conflict, Invalid, SessionBusy, TooLarge, Unavailable
from parley.core.event import Event, EventBase
from parley.core.limits import MAX_INPUT_BYTES
from parley.follow import follow, tail
from parley.runner import Runner
from parley.state import Principal, State
from parley.store import Once, Ref
from parley.store.idempotency import Done
from parley.store.rows import run_row

router = APIRouter(tags=["execute"])

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
        202: {"content": {"application/json": {}}, "description": "`stream: false`, and the run goes on elsewhere."},
    },
)
async def execute(
    request: Request,
    agent_id: str,
    body: Execute,
    state: States,
    principal: Principals,
    once: Onces,
    vocab: Annotated[Vocabulary, Query(description="Words of the stream.")] = "simple",
    x_task_id: Annotated[TaskId | None, Header()] = None,
) -> Response:
    """Create or continue a session, start a run, and stream what it does. Every refusal comes before the stream."""
    started = await _start(state, principal, agent_id, body, once, x_task_id)
    root = request.scope.get("root_path", "")  # the stage, on API Gateway
    headers = {
        "location": f"{root}/v1/sessions/{started.ref.id}",
        "content-location": f"{root}/v1/sessions/{started.ref.id}/runs/{started.run_id}",
        **(REPLAYED if started.replayed else {}),
    }
    if body.stream:
        say = speaker(vocab, started.ref.id, started.run_id).say
        frames = sse.frames(started.batches, say, state.store.log.clock.now)
        return StreamingResponse(frames, headers=headers | sse.HEADERS, media_type=sse.MEDIA_TYPE)
    whole = await _whole(started)
    status = 202 if whole.status == RUNNING else 200  # it was handed over, and goes on elsewhere
    return Response(whole.model_dump_json(exclude_none=True), status, headers, media_type="application/json")


@dataclass(frozen=True, slots=True)
class Started:
    """A run that can be followed; `replayed` when an earlier request with the same key began it."""

    ref: Ref
    run_id: str
    batches: AsyncIterator[Sequence[Output]]
    replayed: bool = False


async def _start(
    state: State, principal: Principal, agent_id: str, body: Execute, once: Once | None, x_task_id: str | None
) -> Started:
    agent = state.agent(agent_id)
    runner = state.runner
    if runner is None:
        raise Unavailable("This function does not run agents.")
    content = content_of(body.input)
    if text_bytes(content) > MAX_INPUT_BYTES:
        raise TooLarge(f"The text of `input` is larger than {MAX_INPUT_BYTES:,} bytes.")
    if body.session_id is not None and body.metadata:
        raise Invalid("`metadata` belongs to a new session; this one exists. Leave it out.")
    new = None
    session = ref(principal, body.session_id or state.store.log.ids.new("sesn"))
    task_id = body.task_id or x_task_id
    if body.session_id is None:
        new = new_head(state, session, agent, principal.owner, task_id=task_id, metadata=body.metadata)
    try:
        begun = await state.store.claims.begin_once(
            session, agent, content, new=new, once=once, owner=principal.sees, task_id=task_id
        )
    except SessionBusy:
        if state.queue:
            await state.queue.send(session.tenant, session.id)  # in case its driver is gone
        raise
    if isinstance(begun, Done):
        return await _replay(runner, principal, begun)
    return Started(session, begun.run_id, follow(runner, begun, runner.start(begun, agent)))


async def _replay(runner: Runner, principal: Principal, done: Done) -> Started:
    """Stream the run that the first request began, from the log, for as long as it lives."""
    session = ref(principal, done.session_id)
    await runner.store.sessions.head(session, principal.sees)
    row = await run_row(runner.store.table, session, done.run_id or "")
    return Started(session, row.id, tail(runner, session, row.id, row.first_seq - 1), replayed=True)


async def _whole(started: Started) -> CompleteShape:
    """Wait for the end of the run and tell it at once.

    Raises:
        Conflict: a repeated request has waited long enough; the run goes on.
    """
    summary = Summary(started.ref.id, started.run_id)
    events: list[Event] = []
    try:
        async with asyncio.timeout(WAIT_SECONDS if started.replayed else None):
            async for batch in started.batches:
                events += [output for output in batch if isinstance(output, EventBase)]
    except TimeoutError:
        message = f"Run '{started.run_id}' is still at work. Ask again with the same key, or read the session's events."
        raise Conflict(message, code="run_in_progress") from None
    for event in events:
        summary.take(event)
    [complete] = share([CompleteShape(**summary.complete())], ANSWER_BYTES - PAGE_BYTES)
    return complete.model_copy(update={"messages": share(messages_of(events), PAGE_BYTES)})
