"""`POST /v1/sessions/{id}/tool_calls/{event_id}/outcome`: a person's word on an interrupted call."""

from typing import Annotated, Literal, Self

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from parley.api.depends import Principals, Refs, States
from parley.api.idempotency import REPLAYED, Onces
from parley.core.compose import Scribe
from parley.core.errors import Conflict, NotFound, Unavailable
from parley.core.event import Event, ToolOutcomeDecided
from parley.core.limits import MAX_TOOL_OUTPUT_BYTES
from parley.core.outcome import Word, decide
from parley.ports import ConditionFailed
from parley.state import Principal, State
from parley.store import Once, Ref, SlotTaken
from parley.store.head import milliseconds
from parley.store.idempotency import find
from parley.store.log import CONTENTION_RETRIES

router = APIRouter(tags=["tool calls"])


class Outcome(BaseModel):
    """What a person found out about the call."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "if": {"properties": {"outcome": {"const": "happened"}}},
            "else": {"properties": {"result": {"type": "null"}}},
        },
    )

    outcome: Literal["happened", "did_not_happen", "retry"]
    result: Annotated[str, StringConstraints(max_length=MAX_TOOL_OUTPUT_BYTES // 4)] | None = None
    """With `happened`: what the model reads as the call's result."""

    attempt: Annotated[int, Field(ge=1)] = 1
    """Which attempt the word is about; `tool.outcome_unknown` says. Only after a `retry` is it more than 1."""

    @model_validator(mode="after")
    def _result_only_when_it_happened(self) -> Self:
        if self.result is not None and self.outcome != "happened":
            raise ValueError("`result` goes with `happened` only")
        return self


class Decided(BaseModel):
    """The events that the decision stored."""

    data: list[Event]


@router.post(
    "/v1/sessions/{session_id}/tool_calls/{event_id}/outcome",
    summary="Decide an unknown outcome",
    response_model_exclude_none=True,
)
async def decide_outcome(
    session: Refs,
    event_id: str,
    body: Outcome,
    response: Response,
    state: States,
    principal: Principals,
    once: Onces,
) -> Decided:
    """Say what came of the call: it happened (with this result), it did not, or try again. The run then goes on."""
    await state.store.sessions.head(session, principal.sees)
    if done := await find(state.store.table, once):
        response.headers.update(REPLAYED)
        events = await _word_at(state, session, done.seq or 1)
    else:
        events = await _decide(state, session, principal, event_id, body, once)
    if state.queue:
        await state.queue.send(session.tenant, session.id)
    return Decided(data=list(events))


async def _decide(
    state: State, session: Ref, principal: Principal, event_id: str, body: Outcome, once: Once | None
) -> tuple[Event, ...]:
    store = state.store
    word = Word(body.outcome, body.attempt, body.result)
    for _ in range(CONTENTION_RETRIES):
        _, lock = await store.sessions.open(session, principal.sees)
        folded, _ = await store.log.load(session, lock.sealed)
        scribe = Scribe(store.log.ids.new, store.log.clock.now, lock.run, folded.run.task_id if folded.run else None)
        try:
            events = decide(scribe, folded, event_id, word, principal.owner)
        except (NotFound, Conflict) as error:
            return await _decided(state, session, event_id, word, error)
        now = milliseconds(store.log.clock.now()) // 1000
        row = [once.put(now, session.id, seq=folded.seq + 1)] if once else []
        try:
            return await store.drives.wake(session, lock, folded, events, *row)
        except (SlotTaken, ConditionFailed):
            if done := await find(store.table, once):
                return await _word_at(state, session, done.seq or 1)
    raise Unavailable("The session is being written to all the time. Try again.")


async def _decided(
    state: State, session: Ref, event_id: str, word: Word, otherwise: NotFound | Conflict
) -> tuple[Event, ...]:
    """Return the word that stands; the same word again is no mistake, another one comes too late."""
    for event in await state.store.log.tail(session, 0):
        if not isinstance(event, ToolOutcomeDecided):
            continue
        if (event.tool_use_id, event.attempt) == (event_id, word.attempt):
            if event.outcome != word.outcome:
                message = f"This call's outcome was decided before: '{event.outcome}'."
                raise Conflict(message, code="outcome_decided")
            return await _word_at(state, session, event.seq)
    raise otherwise


async def _word_at(state: State, session: Ref, seq: int) -> tuple[Event, ...]:
    """Return the decision at `seq`, with the result that was stored beside it."""
    events = await state.store.log.tail(session, seq - 1)
    both = isinstance(events[0], ToolOutcomeDecided) and events[0].outcome != "retry"
    return events[: 1 + both]
