"""Watching a session from outside: events as they are stored, and drafts in between, by looking again and again.

Decides how often to look, what a watcher is told of drafts, and when a stream ends by plan. One look is one read.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from parley.core import control as c
from parley.core import event as e
from parley.core.delta import Delta, DraftDiscarded, DraftGrew, DraftStarted, Output, Rotated
from parley.core.errors import ParleyError, Unavailable
from parley.deadline import Deadline
from parley.ports import WriteUncertain
from parley.store import Ref, Store
from parley.store.drafts import MARK_SECONDS, Draft

log = logging.getLogger("parley")

POLL_SECONDS = 0.15
"""Between two looks while something happens; it grows to `IDLE_POLL_SECONDS` while nothing does."""

IDLE_POLL_SECONDS = 0.4

HEARTBEAT_SECONDS = 10.0
"""After so long without a word a watcher gets an empty batch: API Gateway closes what is silent for 5 minutes."""

IDLE_SECONDS = 60.0
"""A stream of a session where nothing runs ends after so long: a forgotten tab must not cost a Lambda."""

LIFE_SECONDS = 14 * 60.0
"""A stream ends by plan before API Gateway would cut it at 15 minutes."""

MARGIN_SECONDS = 10.0
"""A stream ends by plan when its process has less time than this left."""

_OVER = e.RunFinished | e.RunFailed | c.RunCancelled | e.SessionDeleted
_WAKES = e.RunClaimed | e.ToolOutcomeDecided | c.ApprovalDecided | c.ApprovalExpired | c.UserInterrupt


@dataclass(slots=True)
class _Shown:
    """What one watcher has been told of drafts."""

    lengths: dict[str, int] = field(default_factory=dict)
    """Characters of every open draft that were told."""

    def grown(self, drafts: Sequence[Draft], after: int) -> list[Delta]:
        """Tell what is new; a row from before the log reached `after` is left over and begins nothing."""
        said: list[Delta] = []
        for draft in drafts:
            if draft.event_id not in self.lengths:
                if draft.after < after:
                    continue
                self.lengths[draft.event_id] = 0
                said.append(DraftStarted(draft.event_id, draft.kind))
            if text := draft.text[self.lengths[draft.event_id] :]:
                self.lengths[draft.event_id] = len(draft.text)
                said.append(DraftGrew(draft.event_id, draft.kind, text))
        return said

    def settled(self, events: Sequence[e.Event]) -> list[Output]:
        """Put the rest of a draft before its event, and a discard behind the end of a model request without one."""
        said: list[Output] = []
        for event in events:
            if event.id in self.lengths:
                said += _rest(event, self.lengths.pop(event.id))
            said.append(event)
            if isinstance(event, e.ModelRequestEnd | e.RunClaimed | _OVER):
                said += [DraftDiscarded(event_id) for event_id in self.lengths]
                self.lengths.clear()
        return said


def _rest(event: e.Event, told: int) -> list[Output]:
    """Tell what of an event's text was never a row: its last pieces, and what a store in trouble refused."""
    match event:
        case e.AgentMessage():
            text = "".join(block.text for block in event.content)[told:]
        case e.AgentThinking():
            text = event.thinking[told:]
        case _:
            return []
    return [DraftGrew(event.id, event.type, text)] if text else []


@dataclass(slots=True)
class Watch:
    """One watcher of one session, behind `after`."""

    store: Store
    ref: Ref
    after: int
    running: bool
    """Whether a driver is at work, as far as is known."""
    until_idle: bool = False
    """Whether the watcher leaves when nothing goes on without a person; one who came before all waits for a run."""
    early: bool = False
    """Whether the watcher came before what it wants to see."""
    drafts: bool = True
    """Whether it wants drafts; nobody writes any for who does not."""
    deadline: Deadline = field(default_factory=Deadline)
    """Of this process."""
    shown: _Shown = field(default_factory=_Shown)
    caught_up: bool = False
    """Whether it has seen what was there when it came."""

    async def outputs(self) -> AsyncIterator[Sequence[Output]]:
        """Yield what is new, in batches; an empty batch is a sign of life.

        Ends when the session is gone, with `Rotated` by plan, or as `until_idle` says.
        """
        clock = self.store.log.clock
        began = spoke = active = clock.now()
        marked, pause = began - timedelta(seconds=MARK_SECONDS), POLL_SECONDS
        while (new := await self._look()) is not None:
            batch, now = self._told(*new), clock.now()
            if batch or seconds(spoke, now) >= HEARTBEAT_SECONDS:
                spoke = now
                yield batch
            if self.running or batch:
                active = now
            if any(isinstance(output, e.SessionDeleted) for output in batch):
                return
            if (over := self._is_over(seconds(began, now))) or seconds(active, now) >= IDLE_SECONDS:
                yield [Rotated(self.after, "deadline" if over else "idle")]
                return
            if self.drafts and seconds(marked, now) >= MARK_SECONDS / 3:
                marked = now
                await self._mark()
            pause = POLL_SECONDS if batch or self.shown.lengths else min(pause * 1.3, IDLE_POLL_SECONDS)
            await clock.sleep(pause)

    async def _look(self) -> tuple[Sequence[e.Event], Sequence[Draft]] | None:
        """Read what is new; `None` when the watcher leaves. A look that fails shows nothing; the next comes soon."""
        try:
            if not self.caught_up:  # the cursor may lie inside an entry
                missed = await self.store.log.tail(self.ref, self.after)
                self.caught_up = True
                return missed, ()
            idle = self.until_idle and not (self.running or self.early)
            leaves = idle and not await self._goes_on()  # asked first: what is taken up then is news
            events, drafts = await self.store.log.watch(self.ref, self.after)
        except Unavailable:
            log.warning("watch_look_failed", extra={"session_id": self.ref.id})
            return (), ()
        return None if leaves and not events else (events, drafts)

    async def _goes_on(self) -> bool:
        """Say whether a message waits that needs nobody's word to have its turn."""
        if not await self.store.inputs.wait(self.ref):
            return False
        _, lock = await self.store.sessions.read(self.ref)
        return not (lock.held or (lock.run and lock.lease_until_ms is None))

    def _is_over(self, age: float) -> bool:
        return age >= LIFE_SECONDS or self.deadline.seconds_left() < MARGIN_SECONDS

    def _told(self, events: Sequence[e.Event], drafts: Sequence[Draft]) -> list[Output]:
        for event in events:
            self.after, self.early = event.seq, False
            if isinstance(event, e.StatusIdle | _OVER):
                self.running = False
            elif isinstance(event, _WAKES) and event.run_id:
                self.running = True
        return [*self.shown.settled(events), *self.shown.grown(drafts if self.drafts else (), self.after)]

    async def _mark(self) -> None:
        """Say that somebody watches; without it there are no drafts, and that is all."""
        try:
            await self.store.drafts.mark(self.ref)
        except (ParleyError, WriteUncertain) as error:
            log.warning("watch_not_marked", extra={"session_id": self.ref.id, "error": type(error).__name__})


def seconds(since: datetime, now: datetime) -> float:
    """Return how long it is since then."""
    return (now - since).total_seconds()
