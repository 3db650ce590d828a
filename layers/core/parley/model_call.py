"""One call of the model: deltas while it answers, facts when it has.

Decides what each step sends. An answer that is not whole becomes the facts of a failure, and nothing of it is kept; of
one that is stopped, what a reader has seen is.
"""

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from parley.core import compaction
from parley.core.agent import Agent
from parley.core.answer import Accumulator, Answer, Piece
from parley.core.answered import answer_events, compaction_events, failure_events
from parley.core.delta import Delta, DraftDiscarded, DraftGrew, DraftStarted
from parley.core.errors import ModelError
from parley.core.event import Event
from parley.core.run import CallModel, Compact
from parley.core.scribe import Scribe
from parley.core.session import Session
from parley.ports import Clock, Model, ModelRequest
from parley.stop import Stop, Stopped


@dataclass(frozen=True, slots=True)
class Facts:
    """Events that are true whatever the log says; `last` when the step that made them is over."""

    events: list[Event]
    last: bool = True


@dataclass(frozen=True, slots=True)
class Asking:
    """How a driver asks the model, until it is stopped."""

    model: Model
    clock: Clock
    stop: Stop

    async def call(
        self, step: CallModel | Compact, session: Session, agent: Agent, scribe: Scribe
    ) -> AsyncGenerator[Delta | Facts, None]:
        """Ask for an answer, or for a summary, of which no listener hears; the facts come last.

        There are none when a stop came before anything was asked.
        """
        drafts: dict[int, str] = {}
        accumulator = Accumulator()
        if not await self._paused(step.after_seconds):
            return
        began = scribe.now()
        try:
            async with aclosing(self.model.stream(request(step, session, agent))) as events:
                following = partial(anext, events, None)
                while (event := await self.stop.lets(following)) is not None:
                    piece = accumulator.take(event)
                    if piece and isinstance(step, CallModel):
                        for delta in _deltas(scribe, drafts, piece):
                            yield delta
            answer: Answer | None = (whole := accumulator.answer())
            if isinstance(step, Compact):
                facts = compaction_events(scribe, agent, whole, began, step, session)
            else:
                facts = answer_events(scribe, agent, whole, began, drafts, session.autonomy)
        except Stopped:
            answer = accumulator.interrupted(words=isinstance(step, CallModel))
            facts = answer_events(scribe, agent, answer, began, drafts)
        except ModelError as error:
            answer, facts = None, failure_events(scribe, error, began, session, agent, accumulator.usage)
        kept = {block.key for block in answer.blocks} if answer else set()
        for event_id in (id for key, id in drafts.items() if key not in kept):
            yield DraftDiscarded(event_id)
        yield Facts(facts)

    async def _paused(self, seconds: float) -> bool:
        """Wait before a retry; say whether nobody has stopped it."""
        try:
            await self.stop.lets(lambda: self.clock.sleep(seconds))
        except Stopped:
            return False
        return True


def _deltas(scribe: Scribe, drafts: dict[int, str], piece: Piece) -> Iterator[Delta]:
    """Write a piece as a listener sees it, if it does; `drafts` are the ids of the blocks that have begun."""
    if piece.kind == "agent.tool_use":
        return
    if piece.key not in drafts:
        drafts[piece.key] = scribe.new_id("sevt")
        yield DraftStarted(drafts[piece.key], piece.kind)
    if piece.text:
        yield DraftGrew(drafts[piece.key], piece.kind, piece.text)


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
