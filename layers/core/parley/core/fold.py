"""A session is the fold of its events.

Decides what every event changes. `fold` is total: any log that Parley ever wrote gives a session that can go on, and
its `context` always satisfies the model's rule that every tool_use is followed by its tool_result.
"""

from collections.abc import Callable, Iterable
from typing import Any

from parley.core import compaction, image, message
from parley.core import event as e
from parley.core.errors import CONTEXT_FULL, REFUSED_REQUEST
from parley.core.session import Call, Run, Session
from parley.core.status import Phase
from parley.core.value import Usage


def fold(session: Session, events: Iterable[e.Event]) -> Session:
    """Apply events in order."""
    seq = session.seq
    for event in events:
        session, seq = _CHANGES[type(event)](session, event), event.seq or seq
    return session.but(seq=seq)


def apply(session: Session, event: e.Event) -> Session:
    """Return the session after one event; what does not fit changes nothing but `seq`."""
    return fold(session, (event,))


def _user_message(session: Session, event: e.UserMessage) -> Session:
    session = _close_calls(session)
    return session.but(context=image.with_room((*session.context, message.user_message(event))))


def _run_started(session: Session, event: e.RunStarted) -> Session:
    """Begin a run; thinking is bound to the prompt and tools that it was thought under, so it does not outlive them."""
    if session.run and session.run.agent_version != event.agent_version:
        session = session.but(context=tuple(map(message.without_thinking, session.context)))
    run = Run(
        id=event.run_id or "",
        agent_id=event.agent_id,
        agent_version=event.agent_version,
        started_at=event.created_at,
        task_id=event.task_id,
    )
    return session.but(run=run, phase="planning")


def _run_claimed(session: Session, event: e.RunClaimed) -> Session:
    claims = session.run.claims + 1 if session.run else 0
    return session.but(epoch=event.epoch).but_run(claims=claims, parked=False)


def _status_running(session: Session, event: e.StatusRunning) -> Session:
    return session.but(phase="planning")


def _status_rescheduled(session: Session, event: e.StatusRescheduled) -> Session:
    return session.but(phase="rescheduling").but_run(retry_after_seconds=event.after_seconds)


def _status_idle(session: Session, event: e.StatusIdle) -> Session:
    if event.stop_reason.type != "requires_action":
        return session
    return session.but(phase="waiting").but_run(parked=True)


def _answer_part(session: Session, event: e.AgentMessage | e.AgentThinking | e.AgentToolUse) -> Session:
    if session.compacting:
        return session  # a compaction answers nobody
    if isinstance(event, e.AgentThinking) and not (event.signature or event.redacted):
        return session  # cut off: the provider would refuse it
    session = session.but(answer=(*session.answer, message.answer_block(event)))
    if not isinstance(event, e.AgentToolUse) or not session.run:
        return session
    call = Call(id=event.id, provider_id=event.provider_id, name=event.name, input=event.input)
    return session.but_run(calls=(*session.run.calls, call))


def _answer_begins(session: Session, event: e.ModelRequestStart) -> Session:
    return session.but(answer=(), compacting=False).but_run(calls=())


def _answer_ends(session: Session, event: e.ModelRequestEnd) -> Session:
    if event.is_error or not session.run:
        return session.but(answer=(), compacting=False)
    if session.compacting:
        return _spent(session.but(compacting=False), event.model_usage)
    context = session.context
    if answer := message.without_trailing_thinking(session.answer):
        context = (*context, message.message("assistant", answer))
    run = session.run
    phase: Phase = "executing" if run.calls else "planning"
    session = session.but(answer=(), context=context, phase=phase, context_tokens=event.model_usage.total)
    return _spent(session, event.model_usage).but_run(
        steps=run.steps + 1,
        stop_reason="end_turn" if event.stop_reason == "tool_use" and not run.calls else event.stop_reason,
        compacted=False,
        **_RECOVERED,
    )


_RECOVERED: dict[str, Any] = {"failures": 0, "failure": None, "too_long": 0, "retry_after_seconds": 0.0, "claims": 0}
"""What a model call that worked changes in its run."""


def _spent(session: Session, usage: Usage) -> Session:
    total = session.run.usage + usage if session.run else usage
    return session.but(usage=session.usage + usage).but_run(usage=total)


def _compacted(session: Session, event: e.ContextCompacted) -> Session:
    """Put the summary in its place; one that does not fit this context is only the end of an attempt."""
    if session.answer:
        return session  # amid an answer: nobody writes that
    context = compaction.compacted(session.context, event.replaced, event.summary)
    session = session.but(compacting=True).but_run(compacted=True, **_RECOVERED)
    if context is None:
        return session
    session = session.but(context=context, context_tokens=0)
    run = session.run
    if run is None or not run.open or run.parked:
        return session
    stop_reason = None if run.stop_reason == "model_context_window_exceeded" else run.stop_reason
    return session.but(phase="planning").but_run(stop_reason=stop_reason)


def _session_error(session: Session, event: e.SessionError) -> Session:
    run = session.run
    if run is None:
        return session
    too_long = run.too_long + (event.error.code == CONTEXT_FULL)
    failed: dict[str, Any] = {"failure": event.error, "too_long": too_long, "retry_after_seconds": 0.0}
    return session.but_run(failures=run.failures + 1, claims=0, **failed)


def _tool_intended(session: Session, event: e.ToolIntended) -> Session:
    session = session.but(phase="executing")
    return session.but_call(event.tool_use_id, state="intended", effect=event.effect, attempt=event.attempt)


def _tool_result(session: Session, event: e.AgentToolResult) -> Session:
    call = _open_call(session, event.tool_use_id)
    if call is None or session.run is None:
        return session
    session = session.but_run(tool_errors=session.run.tool_errors + event.is_error, claims=0)
    block = message.result_block(call.provider_id, event)
    return _settle(session.but_call(call.id, state="settled", result=block))


def _outcome_unknown(session: Session, event: e.ToolOutcomeUnknown) -> Session:
    return session.but_call(event.tool_use_id, state="unknown")


def _outcome_decided(session: Session, event: e.ToolOutcomeDecided) -> Session:
    call = _open_call(session, event.tool_use_id)
    if call is None:
        return session
    session = session.but(phase="executing").but_run(parked=False, claims=0)
    if event.outcome != "retry":
        return session
    return session.but_call(call.id, state="requested", attempt=call.attempt + 1)


def _run_closed(session: Session, event: e.RunFinished | e.RunFailed) -> Session:
    phase: Phase = event.status if isinstance(event, e.RunFinished) else "error"
    if isinstance(event, e.RunFailed) and event.code == REFUSED_REQUEST:
        session = session.but(context=image.without_refused(session.context))
    return _close_calls(session).but(phase=phase).but_run(open=False, parked=False)


def _deleted(session: Session, event: e.SessionDeleted) -> Session:
    return session.but(phase="deleted").but_run(open=False)


def _open_call(session: Session, call_id: str) -> Call | None:
    calls = session.run.calls if session.run else ()
    return next((call for call in calls if call.id == call_id and call.state != "settled"), None)


def _settle(session: Session) -> Session:
    """Write the results into the context as soon as every call has one."""
    calls = session.run.calls if session.run else ()
    if not calls or any(call.state != "settled" for call in calls):
        return session
    results = message.message("user", tuple(call.result for call in calls))
    return session.but(context=(*session.context, results), phase="planning").but_run(calls=(), stop_reason=None)


def _close_calls(session: Session) -> Session:
    """Give every open call a result, because the conversation goes on without it."""
    for call in session.run.calls if session.run else ():
        if call.state != "settled":
            block = message.missing_result_block(call.provider_id)
            session = session.but_call(call.id, state="settled", result=block)
    return _settle(session)


_CHANGES: dict[type[e.EventBase], Callable[[Session, Any], Session]] = {
    e.UserMessage: _user_message,
    e.AgentMessage: _answer_part,
    e.AgentThinking: _answer_part,
    e.AgentToolUse: _answer_part,
    e.AgentToolResult: _tool_result,
    e.ToolIntended: _tool_intended,
    e.ToolOutcomeUnknown: _outcome_unknown,
    e.ToolOutcomeDecided: _outcome_decided,
    e.ModelRequestStart: _answer_begins,
    e.ModelRequestEnd: _answer_ends,
    e.ContextCompacted: _compacted,
    e.RunStarted: _run_started,
    e.RunClaimed: _run_claimed,
    e.RunFinished: _run_closed,
    e.RunFailed: _run_closed,
    e.StatusIdle: _status_idle,
    e.StatusRunning: _status_running,
    e.StatusRescheduled: _status_rescheduled,
    e.SessionError: _session_error,
    e.SessionDeleted: _deleted,
}
"""One row per event type; a test holds it against the union."""
