"""A person's word on a call whose outcome is unknown. The first durable word counts."""

from dataclasses import dataclass

from parley.core import event as e
from parley.core.compose import no_result, told
from parley.core.errors import Conflict
from parley.core.scribe import Scribe
from parley.core.session import Session


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
    call = session.call(call_id)
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
    if word.outcome == "did_not_happen":
        return [decided, no_result(scribe, call, DID_NOT_HAPPEN)]
    content = told(call, word.result or "It happened.")
    return [decided, scribe.write(e.AgentToolResult, tool_use_id=call_id, name=call.name, content=content)]
