"""A person's word on a call whose outcome is unknown. The first durable word counts."""

from dataclasses import dataclass

from parley.core import event as e
from parley.core import value as v
from parley.core.compose import Scribe
from parley.core.errors import Conflict, NotFound
from parley.core.session import Call, Session


@dataclass(frozen=True, slots=True)
class Word:
    """What a person says, about one attempt: a word that is delivered twice must not count for the next one."""

    outcome: e.OutcomeWord
    attempt: int = 1
    result: str | None = None


DID_NOT_HAPPEN = "This call was interrupted. A person has checked: it did not happen."


def decide(scribe: Scribe, session: Session, call_id: str, word: Word, decided_by: str) -> list[e.Event]:
    """Write the decision, and with it the result that the model will read, unless the call is made again.

    Raises:
        NotFound: no open run has such a call.
        Conflict: its outcome is not unknown, or another attempt's is.
    """
    call = _call(session, call_id)
    if call.state != "unknown":
        raise Conflict(f"The outcome of tool call '{call_id}' is not unknown.", code="outcome_not_unknown")
    if word.attempt != call.attempt:
        message = f"Attempt {call.attempt} of this call is in question. Say `attempt: {call.attempt}` if you mean it."
        raise Conflict(message, code="other_attempt")
    decided = scribe.write(
        e.ToolOutcomeDecided, tool_use_id=call_id, outcome=word.outcome, decided_by=decided_by, attempt=word.attempt
    )
    if word.outcome == "retry":
        return [decided]
    happened = word.outcome == "happened"
    block = v.TextBlock(text=(word.result or "It happened.") if happened else DID_NOT_HAPPEN)
    answered = scribe.write(
        e.AgentToolResult, tool_use_id=call_id, name=call.name, content=(block,), is_error=not happened
    )
    return [decided, answered]


def _call(session: Session, call_id: str) -> Call:
    calls = session.run.calls if session.run and session.run.open else ()
    for call in calls:
        if call.id == call_id:
            return call
    raise NotFound("tool call", call_id)
