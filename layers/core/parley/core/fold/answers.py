"""How a call of the model changes a session: an answer part by part, a summary, or a failure."""

from typing import Any

from parley.core import compaction, message
from parley.core import event as e
from parley.core.answer import INTERRUPTED
from parley.core.errors import CONTEXT_FULL
from parley.core.fold.calls import steer
from parley.core.fold.rows import Rows
from parley.core.session import Call, Session
from parley.core.status import Phase


def _answer_part(session: Session, event: e.AgentMessage | e.AgentThinking | e.AgentToolUse) -> Session:
    if session.compacting:
        return session  # a compaction answers nobody
    if isinstance(event, e.AgentThinking) and not (event.signature or event.redacted):
        return session  # cut off: the provider would refuse it
    session = session.but(answer=(*session.answer, message.answer_block(event)))
    if not isinstance(event, e.AgentToolUse) or not session.run:
        return session
    call = Call(
        id=event.id,
        provider_id=event.provider_id,
        name=event.name,
        input=event.input,
        verdict=event.evaluated_permission,
    )
    return session.but_run(calls=(*session.run.calls, call))


def _answer_begins(session: Session, event: e.ModelRequestStart) -> Session:
    return session.but(answer=(), compacting=False).but_run(calls=(), plan=None)


def _answer_ends(session: Session, event: e.ModelRequestEnd) -> Session:
    session = _spent(session, event)
    if event.is_error or not session.run:
        return session.but(answer=(), compacting=False)
    if session.compacting:
        return steer(session.but(compacting=False))
    context = session.context
    if answer := message.without_trailing_thinking(session.answer):
        context = (*context, message.message("assistant", answer))
    run = session.run
    phase: Phase = "executing" if run.calls else "planning"
    counted = session.context_tokens if event.stop_reason == INTERRUPTED else event.model_usage.total
    session = session.but(answer=(), context=context, phase=phase, context_tokens=counted)
    session = session.but(spent=session.spent.and_also(steps=1)).but_run(
        steps=run.steps + 1,
        stop_reason="end_turn" if event.stop_reason == "tool_use" and not run.calls else event.stop_reason,
        compacted=False,
        **_RECOVERED,
    )
    return session if run.calls else steer(session)


_RECOVERED: dict[str, Any] = {"failures": 0, "failure": None, "too_long": 0, "retry_after_seconds": 0.0, "claims": 0}
"""What a model call that worked changes in its run."""


def _spent(session: Session, event: e.ModelRequestEnd) -> Session:
    """Count what a model call has used; what was set aside for it stays so for the next try, if it cost nothing."""
    usage, cost, run = event.model_usage, event.cost or 0, session.run
    spent = session.spent.and_also(cost=cost, tokens=usage.total, active_ms=event.duration_ms or 0)
    session = session.but(usage=session.usage + usage, spent=spent)
    if run is None:
        return session
    hold = run.hold and run.hold.model_copy(
        update={"used": run.hold.used + cost, "for_next": event.is_error and not cost}
    )
    return session.but_run(usage=run.usage + usage, cost=run.cost + cost, hold=hold)


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
    return steer(session.but_run(failures=run.failures + 1, claims=0, **failed))


ROWS: Rows = {
    e.AgentMessage: _answer_part,
    e.AgentThinking: _answer_part,
    e.AgentToolUse: _answer_part,
    e.ModelRequestStart: _answer_begins,
    e.ModelRequestEnd: _answer_ends,
    e.ContextCompacted: _compacted,
    e.SessionError: _session_error,
}
