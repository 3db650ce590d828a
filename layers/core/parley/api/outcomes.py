"""`POST /v1/sessions/{id}/tool_calls/{event_id}/outcome`: a person's word on an interrupted call."""

from contextlib import aclosing
from typing import Annotated, Literal, Self

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from parley.api.depends import Refs, States
from parley.api.idempotency import REPLAYED
from parley.api.words import Bys, tell
from parley.core.errors import Conflict, NotFound
from parley.core.event import AgentToolUse, Event, ToolOutcomeDecided
from parley.core.limits import MAX_TOOL_OUTPUT_BYTES
from parley.core.outcome import Word, decide
from parley.state import State
from parley.store import Ref
from parley.store.words import Spoken

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
    session: Refs, event_id: str, body: Outcome, response: Response, state: States, by: Bys
) -> Decided:
    """Say what came of the call: it happened (with this result), it did not, or try again. The run then goes on."""
    await state.store.sessions.head(session, by.sees)
    word = Word(body.outcome, body.attempt, body.result)
    try:
        said = await state.store.words.say(
            session, lambda scribe, folded: decide(scribe, folded, event_id, word, by.actor.id), by
        )
    except (NotFound, Conflict) as error:
        said = Spoken(await _decided(state, session, event_id, word, error))
    if said.replayed:
        response.headers.update(REPLAYED)
    await tell(state, session)
    return Decided(data=list(said.events))


async def _decided(
    state: State, session: Ref, event_id: str, word: Word, otherwise: NotFound | Conflict
) -> tuple[Event, ...]:
    """Return the word that stands; the same word again is no mistake, another one comes too late."""
    async with aclosing(state.store.log.events(session, newest_first=True)) as events:
        async for event in events:
            if isinstance(event, AgentToolUse) and event.id == event_id:
                break
            if not isinstance(event, ToolOutcomeDecided):
                continue
            if (event.tool_use_id, event.attempt) == (event_id, word.attempt):
                if event.outcome != word.outcome:
                    message = f"This call's outcome was decided before: '{event.outcome}'."
                    raise Conflict(message, code="outcome_decided") from otherwise
                return await state.store.log.around(session, event.seq)
    raise otherwise
