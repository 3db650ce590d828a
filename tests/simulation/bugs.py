"""The bugs of `mutants.py`: each has the shape of what it replaces, and is wrong in one thing."""

import itertools
from dataclasses import replace
from typing import Any

from parley.api import starting
from parley.core import answer, approval, compose, control, event, fold, message, outcome, run
from parley.core.binding import binding
from parley.core.errors import ModelError
from parley.core.session import Session
from parley.core.value import TextBlock
from parley.engine import Engine
from parley.follow import tail
from parley.ports import ConditionFailed, Delete, Put, Update, WriteUncertain
from parley.store import claims, inputs, keys, log, snapshot, sweep
from parley.store.rows import run_row
from parley.worker import Worker

_begin = claims.Claims.begin
_entry = log.Log.entry
_clear = sweep.Sweep._clear
_seal = snapshot.write
_engine_store = Engine._store
_closing_events = compose.closing_events
_decide = outcome.decide
_approve = approval.decide
_needed = run._needed
_user_message = message.user_message
_take = Worker.take
_announcement = compose.announcement
_answer = answer.Accumulator.answer
_input = vars(answer.Draft)["input"].fget


async def never(*_: Any, **__: Any) -> bool:
    return False


# The store.


async def believes(self: log.Log, *ops: Any) -> None:
    """Take no answer for a yes."""
    try:
        await self.table.write(*ops)
    except WriteUncertain:
        return


async def asks_anew(self: log.Log, *ops: Any) -> None:
    """Take no answer for a no, and go on at the next slot."""
    try:
        await self.table.write(*ops)
    except WriteUncertain:
        raise log.SlotTaken from None
    except ConditionFailed as error:
        raise log._translate(ops, error) from error


async def overwrites(self: log.Log, *args: Any, **options: Any) -> Put:
    return replace(await _entry(self, *args, **options), condition=None)


async def begins_without_key(self: Any, *args: Any, once: Any = None, **options: Any) -> Any:
    return await _begin(self, *args, **options)


def leaves_it(self: inputs.Queued) -> Delete:
    return Delete(self.ref.at("Q"))


async def buries_without_barrier(self: Any, ref: Any, lock: Any, shown: Any) -> bool:
    row = ref.shown()
    mark = {"PK": row.pk, "SK": row.sk, "id": ref.id, "deleted": True, **keys.work_keys(ref, row.sk)}
    await self.log.write(Update(ref.lock(), set={"deleted": True}), Put(mark, shown))
    return True


async def frees_slots(self: Any, ref: Any, *, barred: bool) -> None:
    await _clear(self, ref, barred=False)


async def shows_it_still(self: Any, ref: Any, lock: Any, shown: Any) -> bool:
    row = ref.shown()
    await self.log.write(
        Update(ref.lock(), set={"deleted": True, "epoch": lock.epoch + 1}, remove=("run", "lease_until")),
        Update(row, set={"deleted": True, **keys.work_keys(ref, row.sk)}, remove=("ttl",)),
        await self.barrier(ref, await self.log.last_seq(ref, lock.sealed) + 1, lock.run),
    )
    return True


async def takes_the_newest(self: inputs.Inputs, ref: Any) -> Any:
    return next(reversed(await self.all(ref)), None)


async def seals_too_little(blobs: Any, ref: Any, session: Any, sealed: int = 0) -> int:
    return await _seal(blobs, ref, session.but(context=session.context[:-1]), sealed)


# The engine and the core.


async def drops_facts(self: Engine, drive: Any, step: Any, events: Any) -> Any:
    said, stands = await _engine_store(self, drive, step, events)
    if not stands:
        drive.facts = []
    return said, stands


def never_idle(scribe: Any, step: Any, run: Any) -> Any:
    return _closing_events(scribe, step, run)[:1]


def another_key(session_id: str, tool_use_id: str) -> str:
    return f"{session_id}.{tool_use_id}.{next(_KEYS)}"


_KEYS = itertools.count()


def for_any_attempt(scribe: Any, session: Any, call_id: str, word: Any, by: str) -> Any:
    attempts = [call.attempt for call in session.run.calls if call.id == call_id]
    return _decide(scribe, session, call_id, replace(word, attempt=attempts[0]), by)


def it_happened(scribe: Any, session: Any, call_id: str, word: Any, by: str) -> Any:
    *decided, told = _decide(scribe, session, call_id, word, by)
    return [*decided, told.model_copy(update={"is_error": False})]


def only_text(event: Any) -> bytes:
    return _user_message(event.model_copy(update={"content": event.content[:1]}))


async def is_never_fenced(self: Any, drive: Any) -> Any:
    tail = await self.store.log.tail(drive.claim.ref, drive.session.seq)
    drive.session = fold.fold(drive.session, tail)
    return tail


def no_intent(scribe: Any, step: Any, *rest: Any) -> Any:
    return [] if isinstance(step, run.CallTools) else _announcement(scribe, step, *rest)


def half_is_enough(self: answer.Accumulator) -> Any:
    self._stopped, self._stop_reason = True, self._stop_reason or "tool_use"
    for block in self._blocks.values():
        block.done = True
    return _answer(self)


def any_input(self: answer.Draft) -> Any:
    try:
        return _input(self)
    except ModelError:
        return {}


# The API and the worker.


async def replays_what_is_deleted(self: starting.Asked, done: Any) -> Any:
    session = keys.Ref(self.session.tenant, done.session_id)
    row = await run_row(self.state.store.table, session, done.run_id)
    batches = tail(self.runner, session, row.id, row.first_seq - 1)
    return starting.Started(session, row.id, batches, replayed=True)


async def takes_each_delivery(self: Worker, body: str, message_id: str, receives: int = 1) -> None:
    await _take(self, body, f"{message_id} {self.runner.store.log.ids.new('key')}", receives)


# A person in control.


def edits_nothing(folded: Session, decided: control.ApprovalDecided) -> Session:
    call = fold.calls.open_call(folded, decided.tool_use_id)
    if call is None or decided.decision == "deny":
        return folded
    return folded.but_run(parked=False).but_call(call.id, approved=binding(call.name, call.input))


def tells_no_edit(_: Any, text: str) -> tuple[TextBlock, ...]:
    return (TextBlock(text=text),)


def decides_again(scribe: Any, folded: Session, call_id: str, *words: Any) -> Any:
    """Take every call for one that waits."""
    return _approve(scribe, folded.but_call(call_id, state="requested", approved=""), call_id, *words)


def stops_later(folded: Session, agent: Any) -> Any:
    ready = folded.run is not None and any(call.state == "requested" and call.may_run for call in folded.run.calls)
    return _needed(folded.but_run(cancel=None) if ready else folded, agent)


def steers_at_once(folded: Session, said: event.UserMessage) -> Session:
    return folded.but(context=(*folded.context, message.user_message(said)))
