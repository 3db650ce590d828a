"""The store's protocol, small: what a write does to the log and to the lock, and when it is refused.

As in `parley.store`: a slot takes one entry; a claim and a settlement are transactions of the lock and an entry; a
delete puts a tombstone on the lock and a barrier behind the log. `Rules` are the mechanism's parts; a bug changes one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from parley.core.session import Session
from parley.ports import Item
from parley.store.sweep import _may_be_aimed_at

from tests.model_check.decisions import Book
from tests.model_check.world import LAPSED, Lock, Log, State, Write

Refusal = Literal["slot taken", "condition failed"]


def fenced(session: Session, epoch: int) -> bool:
    """Say whether what a driver has read ends it; as in `Engine._catch_up`."""
    return session.epoch > epoch or session.phase == "deleted"


@dataclass(frozen=True)
class Rules:
    """What drivers and writes hold to."""

    fence: Callable[[Session, int], bool] = fenced
    claims_stand_in_the_log: bool = True
    """A claim is the lock and an entry, not the lock alone."""
    unknown_is_asked_again: bool = True
    """A lost answer: the same bytes at the same key. Otherwise: as if refused, so read the tail and decide again."""
    slots_are_written_once: bool = True
    settles_at_once: bool = True
    """A settlement is one transaction; otherwise the lock is given back first, whoever has it."""
    settle_checks_epoch: bool = True
    marks_who_left: bool = True
    """A run that is given back is marked, so that a renewal under way cannot give it a lease again."""
    claim_takes_the_message: bool = True
    """The row of a waiting message goes in the transaction that puts it into the log."""
    runs_are_taken_over: bool = True
    aimed_at: Callable[[Item, int], bool] = _may_be_aimed_at
    """Which slots of a deleted session keep a barrier."""


def only_the_lock(sent: Write, rules: Rules) -> bool:
    """Say whether a write has no entry: a take-over in a store with that bug."""
    taking_over = sent.kind == "claim" and not sent.takes_message and sent.slot > 0
    return taking_over and not rules.claims_stand_in_the_log


def write(state: State, sent: Write, rules: Rules) -> State | Refusal:
    """Apply a write to the table, or say why not; one that was applied before is applied."""
    log, lock, slot = state.log, state.lock, sent.slot
    if not only_the_lock(sent, rules):
        if slot < len(log) and log[slot] == sent.entry:
            return state
        if sent.kind != "append" and not _holds(lock, sent, rules):
            return "condition failed"
        if slot < len(log) and log[slot] is not None and rules.slots_are_written_once:
            return "slot taken"
        log = _put((*log, *(None,) * (slot + 1 - len(log))), slot, sent.entry)
    elif not _holds(lock, sent, rules):
        return "condition failed"
    if sent.takes_message and state.message != "waiting":
        return "condition failed"
    message = "taken" if sent.takes_message and rules.claim_takes_the_message else state.message
    return state._replace(log=log, lock=_after(lock, sent, rules), message=message)


def _holds(lock: Lock, sent: Write, rules: Rules) -> bool:
    if sent.kind == "claim":
        return sent.seen is not None and lock._replace(left=False) == sent.seen._replace(left=False, deleted=False)
    return lock.run == sent.run and lock.epoch == sent.epoch if rules.settle_checks_epoch else not lock.deleted


def _after(lock: Lock, sent: Write, rules: Rules) -> Lock:
    match sent.kind:
        case "append":
            return lock
        case "claim":
            return Lock(sent.epoch, sent.run, lease=1)
        case "settle":
            return given_back(lock, sent, rules)


def given_back(lock: Lock, sent: Write, rules: Rules) -> Lock:
    """Free when the run is closed, without a lease while it waits, lapsed when handed over."""
    if sent.leaves == "closed":
        return lock._replace(run=None, lease=None)
    return lock._replace(lease=None if sent.leaves == "parked" else LAPSED, left=rules.marks_who_left)


def renewed(lock: Lock) -> Lock | None:
    """Give the run that is driven another lease; `None` when the condition does not hold."""
    if lock.run is None or lock.left or lock.deleted:
        return None
    return lock._replace(lease=(lock.lease or 0) + 1)


def delete(state: State, book: Book) -> State:
    """Put the tombstone on the lock and the barrier behind the log."""
    log = (*state.log, book.barrier)
    return state._replace(log=log, lock=Lock(state.lock.epoch + 1, left=state.lock.left, deleted=True), buried=log)


def sweep(state: State, book: Book, rules: Rules) -> State:
    """Do the first pass: contents go, and slots that a frozen driver may aim at keep a barrier."""
    log, newest = state.log, 0
    for slot, number in enumerate(state.log):
        if number is None or number == book.barrier:
            continue
        epoch = book.entries[number].epoch
        aimed_at = rules.aimed_at({"SK": f"E#{slot}", "driver_epoch": epoch}, newest)
        log = _put(log, slot, book.barrier if aimed_at else None)
        newest = max(newest, epoch or 0)
    return state._replace(log=log, message="taken" if state.message == "waiting" else state.message)


def _put(log: Log, slot: int, entry: int | None) -> Log:
    return (*log[:slot], entry, *log[slot + 1 :])
