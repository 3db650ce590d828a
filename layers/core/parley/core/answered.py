"""Events out of a call of the model: what an answer, a summary or a failure becomes.

Pure, as all of `core`: ids and the time come from the caller's `Scribe`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from parley.core import control as c
from parley.core import event as e
from parley.core import value as v
from parley.core.agent import Agent
from parley.core.answer import Answer, Draft
from parley.core.compaction import summary_of
from parley.core.compose import no_result
from parley.core.errors import ModelError
from parley.core.limits import MAX_RETRY_SECONDS
from parley.core.policy import PRESETS, Autonomy, PlanVerdict, Verdict, judge
from parley.core.run import Compact, make_room
from parley.core.scribe import Scribe
from parley.core.session import Session

NOTHING = v.Usage()

BY_POLICY = "policy"
"""Who has decided on a plan about which nobody had to be asked."""


def answer_events(
    scribe: Scribe, agent: Agent, answer: Answer, began: datetime, ids: dict[int, str], level: Autonomy | None = None
) -> list[e.Event]:
    """Write a whole answer, and what `level` makes of its calls; `ids` are those of its blocks' first deltas."""
    start = scribe.write(e.ModelRequestStart, at=began)
    author = v.Author(agent_id=agent.id, name=agent.name or agent.id, model=answer.model or agent.model)
    asked = [block for block in answer.blocks if block.kind == "agent.tool_use"]
    level = level or agent.policy.autonomy
    judgement = judge(agent.policy, level, [agent.tool(block.name) for block in asked])
    verdicts = {block.key: verdict for block, verdict in zip(asked, judgement.calls, strict=True)}
    blocks = [_block(scribe, author, block, ids.get(block.key), verdicts.get(block.key)) for block in answer.blocks]
    end = _request_end(scribe, agent, start, answer.usage, answer.stop_reason)
    calls = [block for block in blocks if isinstance(block, e.AgentToolUse)]
    denied = [_denied(scribe, call, level) for call in calls if call.evaluated_permission == "deny"]
    return [start, *blocks, end, *_plan(scribe, start, calls, judgement.plan), *denied]


def _plan(
    scribe: Scribe, start: e.ModelRequestStart, calls: Sequence[e.AgentToolUse], verdict: PlanVerdict | None
) -> list[e.Event]:
    """Say that the calls of an answer are a plan, and what becomes of it when nobody need be asked."""
    if verdict is None:
        return []
    plan_id = start.id.replace("sevt_", "plan_", 1)
    planned = tuple(c.PlannedCall(tool_use_id=call.id, name=call.name, input=call.input) for call in calls)
    proposed = scribe.write(c.PlanProposed, plan_id=plan_id, calls=planned, verdict=verdict)
    if any(call.evaluated_permission == "ask" for call in calls):
        return [proposed]
    runs = tuple(call.id for call in calls if call.evaluated_permission == "allow")
    if runs:
        return [proposed, scribe.write(c.PlanApproved, plan_id=plan_id, tool_use_ids=runs, decided_by=BY_POLICY)]
    return [proposed, scribe.write(c.PlanRejected, plan_id=plan_id, decided_by=BY_POLICY)]


def _denied(scribe: Scribe, call: e.AgentToolUse, level: Autonomy) -> e.AgentToolResult:
    return no_result(scribe, call, f"Not allowed at autonomy {level} ({PRESETS[level].name}). The call was not made.")


def compaction_events(
    scribe: Scribe, agent: Agent, answer: Answer, began: datetime, step: Compact, session: Session
) -> list[e.Event]:
    """Write a summary of the beginning of the context.

    Raises:
        ModelError: the answer holds none.
    """
    start = scribe.write(e.ModelRequestStart, at=began)
    summary, tokens = summary_of(answer, session.context[: step.replaced]), session.context_tokens
    compacted = scribe.write(e.ContextCompacted, summary=summary, replaced=step.replaced, context_tokens=tokens)
    return [start, compacted, _request_end(scribe, agent, start, answer.usage, answer.stop_reason)]


def _block(scribe: Scribe, author: v.Author, block: Draft, id: str | None, verdict: Verdict | None) -> e.Event:
    match block.kind:
        case "agent.message":
            return scribe.write(e.AgentMessage, id=id, content=(v.TextBlock(text=block.text),), author=author)
        case "agent.thinking":
            text, signature = block.text, block.signature
            return scribe.write(e.AgentThinking, id=id, thinking=text, signature=signature, redacted=block.redacted)
        case "agent.tool_use":
            asked: dict[str, Any] = {"name": block.name, "input": block.input, "provider_id": block.provider_id}
            return scribe.write(e.AgentToolUse, id=id, **asked, evaluated_permission=verdict)


def _request_end(
    scribe: Scribe, agent: Agent, start: e.ModelRequestStart, usage: v.Usage, stop_reason: str | None
) -> e.ModelRequestEnd:
    ended, price = scribe.now(), agent.its_price
    return scribe.write(
        e.ModelRequestEnd,
        at=ended,
        model_request_start_id=start.id,
        model_usage=usage,
        stop_reason=stop_reason,
        is_error=stop_reason is None,
        cost=price.cost(usage) if price else None,
        duration_ms=max(0, round((ended - start.created_at).total_seconds() * 1000)),
    )


_ERROR_TYPES = {
    "overloaded": "model_overloaded_error",
    "rate_limited": "model_rate_limited_error",
    "request_failed": "model_request_failed_error",
    "refused_request": "model_request_failed_error",
    "no_access": "model_request_failed_error",
    "context_full": "model_request_failed_error",
    "cut_short": "model_request_failed_error",
}


def failure_events(
    scribe: Scribe, error: ModelError, began: datetime, session: Session, agent: Agent, usage: v.Usage = NOTHING
) -> list[e.Event]:
    """Write a model call that gave no answer, what it is known to have used, and whether another follows."""
    run = session.run
    assert run is not None, "only a run asks the model"  # noqa: S101 - narrows a type
    start = scribe.write(e.ModelRequestStart, at=began)
    end = _request_end(scribe, agent, start, usage, None)
    again = error.retryable and run.failures < agent.limits.max_model_retries
    if error.failure == "context_full":
        full = run.model_copy(update={"too_long": run.too_long + 1})
        again = isinstance(make_room(session, full, agent.limits), Compact)
    retry_status = "retrying" if again else ("exhausted" if error.retryable else "terminal")
    detail = v.ErrorDetail(
        type=_ERROR_TYPES[error.failure],
        message=error.message,
        retry_status=v.RetryStatus.model_validate({"type": retry_status}),
        code=error.code,
    )
    events: list[e.Event] = [start, end, scribe.write(e.SessionError, error=detail)]
    if again and error.retryable:
        wait = max(min(error.retry_after_seconds or 0, MAX_RETRY_SECONDS), min(0.5 * 2**run.failures, 8.0))
        events.append(scribe.write(e.StatusRescheduled, reason="model_retry", after_seconds=wait))
    return events
