"""One call of the model: deltas while it answers, facts when it has.

Decides what each step sends. An answer that is not whole becomes the facts of a failure, and nothing of it is kept.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from parley.core import compaction
from parley.core.agent import Agent
from parley.core.answer import Accumulator
from parley.core.compose import Scribe, answer_events, compaction_events, failure_events
from parley.core.delta import Delta, DraftDiscarded, DraftGrew, DraftStarted
from parley.core.errors import ModelError
from parley.core.event import Event
from parley.core.run import CallModel, Compact
from parley.core.session import Session
from parley.ports import Model, ModelRequest


@dataclass(frozen=True, slots=True)
class Facts:
    """Events that are true whatever the log says; `last` when the step that made them is over."""

    events: list[Event]
    last: bool = True


async def call(
    model: Model, step: CallModel | Compact, session: Session, agent: Agent, scribe: Scribe
) -> AsyncGenerator[Delta | Facts, None]:
    """Ask for an answer, or for a summary, of which no listener hears; the facts come last."""
    began, accumulator = scribe.now(), Accumulator()
    drafts: dict[int, str] = {}
    try:
        async with aclosing(model.stream(request(step, session, agent))) as events:
            async for event in events:
                piece = accumulator.take(event)
                if piece is None or piece.kind == "agent.tool_use" or isinstance(step, Compact):
                    continue
                if piece.key not in drafts:
                    drafts[piece.key] = scribe.new_id("sevt")
                    yield DraftStarted(drafts[piece.key], piece.kind)
                if piece.text:
                    yield DraftGrew(drafts[piece.key], piece.kind, piece.text)
        answer = accumulator.answer()
        if isinstance(step, Compact):
            facts = compaction_events(scribe, answer, began, step, session)
        else:
            facts = answer_events(scribe, agent, answer, began, drafts)
    except ModelError as error:
        for event_id in drafts.values():
            yield DraftDiscarded(event_id)
        yield Facts(failure_events(scribe, error, began, session, agent))
        return
    kept = {block.key for block in answer.blocks}
    for event_id in (id for key, id in drafts.items() if key not in kept):
        yield DraftDiscarded(event_id)
    yield Facts(facts)


def request(step: CallModel | Compact, session: Session, agent: Agent) -> ModelRequest:
    """Write what the model is sent: the whole context, or what a summary shall stand for."""
    limits = agent.limits
    asked = ModelRequest(
        model=agent.model,
        system=agent.prompt,
        tools=agent.tools_json,
        messages=session.context,
        max_tokens=limits.max_tokens,
        thinking_tokens=limits.thinking_tokens,
    )
    if isinstance(step, CallModel):
        return asked
    most = limits.compact_at_tokens * compaction.EXCERPT_BYTES_PER_TOKEN if step.excerpts else None
    return replace(
        asked,
        messages=compaction.request(session.context, step.replaced, excerpt_bytes=most),
        max_tokens=compaction.SUMMARY_TOKENS,
        thinking_tokens=0,
        tool_choice="none",
    )
