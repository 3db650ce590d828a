"""A person's word on a call whose outcome is unknown. The first durable word counts."""

from parley.core import event as e
from parley.core import value as v
from parley.core.compose import Scribe
from parley.core.errors import Conflict, NotFound
from parley.core.session import Call, Session

DID_NOT_HAPPEN = "This call was interrupted. A person has checked: it did not happen."


def decide(
    scribe: Scribe,
    session: Session,
    call_id: str,
    outcome: e.OutcomeWord,
    result: str | None,
    decided_by: str,
) -> list[e.Event]:
    """Write the decision, and with it the result that the model will read, unless the call is made again.

    Raises:
        NotFound: the open run has no such call.
        Conflict: its outcome is not unknown.
    """
    call = _call(session, call_id)
    if call.state != "unknown":
        raise Conflict(f"The outcome of tool call '{call_id}' is not unknown.", code="outcome_not_unknown")
    decided = scribe.write(e.ToolOutcomeDecided, tool_use_id=call_id, outcome=outcome, decided_by=decided_by)
    if outcome == "retry":
        return [decided]
    happened = outcome == "happened"
    block = v.TextBlock(text=(result or "It happened.") if happened else DID_NOT_HAPPEN)
    answered = scribe.write(
        e.AgentToolResult, tool_use_id=call_id, name=call.name, content=(block,), is_error=not happened
    )
    return [decided, answered]


def _call(session: Session, call_id: str) -> Call:
    calls = session.run.calls if session.run else ()
    for call in calls:
        if call.id == call_id:
            return call
    raise NotFound("tool call", call_id)
