"""How events change a call: asked for, intended, settled, or of an outcome that nobody knows."""

from parley.core import control as c
from parley.core import event as e
from parley.core import image, message
from parley.core.budget import Spent
from parley.core.fold.rows import Rows
from parley.core.session import Approval, Call, Plan, Session


def _tool_intended(session: Session, event: e.ToolIntended) -> Session:
    session = session.but(phase="executing", spent=session.spent.and_also(calls=1))
    return session.but_call(event.tool_use_id, state="intended", effect=event.effect, attempt=event.attempt)


def _tool_result(session: Session, event: e.AgentToolResult) -> Session:
    call = open_call(session, event.tool_use_id)
    if call is None or session.run is None:
        return session
    errors = session.run.tool_errors + event.is_error
    session = session.but(spent=_made(session.spent, call, event)).but_run(tool_errors=errors, claims=0)
    block = message.result_block(call.provider_id, event)
    return settle(session.but_call(call.id, state="settled", result=block))


def _made(spent: Spent, call: Call, event: e.AgentToolResult) -> Spent:
    """Count a call that was made: one that was intended counts since then, a result without a duration is of none."""
    if event.duration_ms is None:
        return spent
    return spent.and_also(calls=call.state == "requested", active_ms=event.duration_ms)


def _outcome_unknown(session: Session, event: e.ToolOutcomeUnknown) -> Session:
    return session.but_call(event.tool_use_id, state="unknown")


def _outcome_decided(session: Session, event: e.ToolOutcomeDecided) -> Session:
    call = open_call(session, event.tool_use_id)
    if call is None:
        return session
    session = session.but(phase="executing").but_run(parked=False, claims=0)
    if event.outcome != "retry":
        return session
    return session.but_call(call.id, state="requested", attempt=call.attempt + 1)


def _approval_requested(session: Session, event: c.ApprovalRequested) -> Session:
    asked = Approval(
        id=event.approval_id, binding=event.binding, expires_at=event.expires_at, on_expire=event.on_expire
    )
    return session.but_call(event.tool_use_id, approval=asked)


def _approval_decided(session: Session, event: c.ApprovalDecided) -> Session:
    """Let a call run as it was approved; a decision that is about another call, or other arguments, changes nothing."""
    call = open_call(session, event.tool_use_id)
    if call is None:
        return session
    session = session.but(phase="executing").but_run(parked=False, claims=0)
    if event.decision == "edit" and event.input is not None:
        return session.but_call(call.id, input=event.input, approved=event.binding, edited=True)
    return session.but_call(call.id, approved=event.binding) if event.decision == "approve" else session


def _approval_expired(session: Session, event: c.ApprovalExpired) -> Session:
    session = session.but(phase="executing").but_run(parked=False, claims=0)
    return session.but_run(cancel="approval_expired") if event.on_expire == "cancel" else session


def _plan_proposed(session: Session, event: c.PlanProposed) -> Session:
    return session.but_run(plan=Plan(id=event.plan_id, whole=event.verdict == "ask_whole"))


def _plan_decided(session: Session, event: c.PlanApproved | c.PlanRejected) -> Session:
    return session.but_run(plan=None)


def open_call(session: Session, call_id: str) -> Call | None:
    """Find a call that has no result yet."""
    calls = session.run.calls if session.run else ()
    return next((call for call in calls if call.id == call_id and call.state != "settled"), None)


def settle(session: Session) -> Session:
    """Write the results into the context as soon as every call has one."""
    calls = session.run.calls if session.run else ()
    if not calls or any(call.state != "settled" for call in calls):
        return session
    results = message.message("user", tuple(call.result for call in calls))
    session = session.but(context=(*session.context, results), phase="planning")
    return steer(session.but_run(calls=(), plan=None, stop_reason=None))


def steer(session: Session) -> Session:
    """Let the model read the messages that came in the middle, with its next request."""
    if not session.steered:
        return session
    context = image.with_room((*session.context, *session.steered))
    return session.but(context=context, steered=()).but_run(stop_reason=None)


def close_calls(session: Session) -> Session:
    """Give every open call a result, because the conversation goes on without it."""
    for call in session.run.calls if session.run else ():
        if call.state != "settled":
            block = message.missing_result_block(call.provider_id)
            session = session.but_call(call.id, state="settled", result=block)
    return settle(session)


ROWS: Rows = {
    e.AgentToolResult: _tool_result,
    e.ToolIntended: _tool_intended,
    e.ToolOutcomeUnknown: _outcome_unknown,
    e.ToolOutcomeDecided: _outcome_decided,
    c.ApprovalRequested: _approval_requested,
    c.ApprovalDecided: _approval_decided,
    c.ApprovalExpired: _approval_expired,
    c.PlanProposed: _plan_proposed,
    c.PlanApproved: _plan_decided,
    c.PlanRejected: _plan_decided,
}
