"""What must hold whatever happened. Each line says which promise is broken, and how; none is the only good outcome."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from parley.core import control as c
from parley.core import event as e
from parley.core.fold import fold
from parley.core.session import Session
from parley.core.value import Usage, text_of
from parley.store import Ref
from parley.store.head import Lock, milliseconds
from parley.store.keys import LOCK, QUEUED, RUN, SHOWN

from tests.fakes.model import problem_of
from tests.simulation import told
from tests.simulation.client import PAUSE_SECONDS
from tests.simulation.told import Logs
from tests.simulation.world import TENANT, World

GLANCE_SECONDS = 5.0
"""Between two looks at everything that there is."""

HEAL_SECONDS = 180.0
"""Within which, and the time between two sweeps, everything has ended when faults stop: lease 30 and its margin 2, a
hint's patience 30, the pauses before a message of the queue is given out again, and the work that is left itself."""

FORGET_SECONDS = 18 * 60.0
"""Within which, and the time between sweeps, nothing is left of a deleted session: two passes, 16 minutes apart."""

CLOSED = (e.RunFinished, e.RunFailed, c.RunCancelled)

DAY_MS = 86_400_000

PROBE = "Are you there?"

_NEXT = b'{"role":"user","content":[{"type":"text","text":"And now?"}]}'


async def healed(world: World) -> list[str]:
    """Wait until all is quiet (P10)."""
    began = world.nature.seconds
    while True:
        unrest = list(_unrest(world))
        if not unrest:
            return []
        late = world.nature.seconds - max(began, world.nature.quiet_from)
        if late > HEAL_SECONDS + world.setting.sweep_seconds:
            return [f"P10 {what}, {late:g} s after the last fault" for what in unrest]
        await asyncio.sleep(GLANCE_SECONDS)


def _unrest(world: World) -> Iterator[str]:
    items = {(item["PK"], item["SK"]): item for item in world.storage.items()}
    for pk, sk in items:
        lock = Lock.of(items[pk, LOCK]) if (pk, LOCK) in items else Lock(deleted=True)
        waits_for_tomorrow = (lock.lease_until_ms or 0) > milliseconds(world.nature.now()) + DAY_MS / 4
        if sk == LOCK and lock.run and lock.lease_until_ms is not None and not lock.deleted and not waits_for_tomorrow:
            yield f"{pk} is still driven"
        if sk.startswith(QUEUED) and not lock.run and not lock.deleted:
            yield f"a message still waits in {pk}"
    if world.queue.busy:
        yield "a message is in the queue"
    yield from (f"{name} still drives" for name, runner in world.runners.items() if runner.tasks)


async def seen(world: World) -> list[str]:
    """Give watchers time to come to the end of the log, let them go, and look at what they have seen (P4)."""
    ends = world.nature.seconds + HEAL_SECONDS
    for watcher in world.watchers:
        while watcher.after + len(watcher.seen) < len(world.log(watcher.session_id)) and world.nature.seconds < ends:
            await world.nature.sleep(PAUSE_SECONDS)
        if watcher.task:
            watcher.task.cancel()
    return list(told.watchers(world))


async def redelivered(world: World) -> None:
    """Take the messages that died with their workers: the queue gives them out again, much later, when all is quiet."""
    while world.queue.messages:
        world.queue.give_out_again()
        await world.nature.sleep(PAUSE_SECONDS)
        await healed(world)


async def settled(world: World) -> None:
    """Give a person's word on every call that waits for one: by what the ledger says, or approval."""
    for session_id in world.sessions():
        while session_id not in world.record.deleted:
            session = fold(Session(id=session_id), world.log(session_id))
            calls = session.run.calls if session.run and session.run.parked else ()
            unknown = [call for call in calls if call.state == "unknown"]
            waiting = [call for call in calls if call.waits]
            if not unknown and not waiting:
                break
            for call in waiting:
                await world.client.approve(session_id, call.id)
            for call in unknown:
                outcome = "happened" if world.happened(call.id) else "did_not_happen"
                await world.client.decide(session_id, call.id, {"outcome": outcome, "attempt": call.attempt})
            await healed(world)


async def broken(world: World) -> list[str]:
    """Look for every promise that was broken, once all is quiet."""
    found = [*world.witness.broken, *world.record.wrong]
    found += [f"P8 the model was sent what its API refuses: {problem}" for problem in world.provider.refused]
    found += [f"unforeseen: {surprise}" for surprise in world.surprises]
    logs = {session_id: world.log(session_id) for session_id in world.sessions()}
    found += _messages(world, logs)
    found += told.order(world, logs)
    found += told.streams(world, logs)
    found += told.requests(world, logs)
    found += told.budgets(world, logs)
    found += _effects(world)
    for session_id, log in logs.items():
        found += _session(world, session_id, log)
    found += await _usable(world, logs)
    found += await _gone(world)
    return found


def _messages(world: World, logs: Logs) -> Iterator[str]:
    """P1, P2: an accepted message is in the log once and has ended; one that was refused is nowhere."""
    counts: Counter[str] = Counter()
    for log in logs.values():
        counts.update(_text(each) for each in log if isinstance(each, e.UserMessage))
    given_up = [json.loads(letter.body).get("input") for letter in world.queue.dead_letters]
    for text, session_id in world.record.accepted.items():
        lost = counts[text] == 0 and session_id not in world.record.deleted and text not in given_up
        if lost or counts[text] > 1:
            yield f"P1 '{text}' was accepted and is in the log {counts[text]} times"
    for text in world.record.doomed:
        if text not in given_up:
            yield f"P1 '{text}' cannot be done, and is not among the dead letters"
    for text in world.record.refused:
        if counts[text]:
            yield f"P1 '{text}' was refused, and yet is in the log"


def _effects(world: World) -> Iterator[str]:
    """P6: twice only what a person has asked for twice, or what may be."""
    paid = Counter(entry.call_id for entry in world.ledger if entry.effect == "non_idempotent")
    for call_id, times in paid.items():
        if times > 1 + world.record.retries_said.count(call_id):
            yield f"P6 {call_id} was paid {times} times"
    keys: dict[str, set[str]] = {}
    for entry in world.ledger:
        keys.setdefault(entry.call_id, set()).add(entry.key)
    yield from (f"P6 {call_id} had several keys" for call_id, used in keys.items() if len(used) > 1)


def _session(world: World, session_id: str, log: Sequence[e.Event]) -> Iterator[str]:
    """P1, P3, P8: the log is gapless, its context legal, each run ended, and the rows agree with it."""
    items = {item["SK"]: item for item in world.storage.items() if item["PK"] == Ref(TENANT, session_id).pk}
    if session_id in world.record.deleted or SHOWN not in items or items[SHOWN].get("deleted"):
        return
    if [each.seq for each in log] != list(range(1, len(log) + 1)):
        yield f"P3 the log of {session_id} has gaps"
    if len({each.id for each in log}) < len(log):
        yield f"P3 the log of {session_id} has an event twice"
    session = fold(Session(id=session_id), log)
    waiting = session.run.id if session.run and session.run.parked else None
    if session.context and not waiting and (problem := problem_of((*session.context, _NEXT))):
        yield f"P8 the context of {session_id} is not legal: {problem}"
    yield from _runs(log, waiting)
    yield from told.words(log)
    yield from told.approvals(log)
    yield from told.stops(log)
    yield from told.read(world, log)
    used = sum((each.model_usage for each in log if isinstance(each, e.ModelRequestEnd)), Usage())
    if log and not waiting and items[SHOWN]["usage"] != used.model_dump(exclude_defaults=True):
        yield f"P1 the list says that {session_id} used {items[SHOWN]['usage']}, its log says {used}"
    if items[SHOWN]["phase"] != session.phase:
        yield f"P1 the list says that {session_id} is {items[SHOWN]['phase']}, the log says {session.phase}"
    for sk, item in items.items():
        if sk.startswith(RUN) and ("work_pk" in item) != (item["id"] == waiting):
            yield f"P1 the row of {item['id']} says that it is open, or closed, wrongly"


def _runs(log: Sequence[e.Event], waiting: str | None) -> Iterator[str]:
    """P1: each run began once, and has ended once or waits for a person."""
    starts = Counter(each.run_id for each in log if isinstance(each, e.RunStarted))
    ends = Counter(each.run_id for each in log if isinstance(each, CLOSED))
    for run_id in starts:
        if (starts[run_id], ends[run_id] + (run_id == waiting)) != (1, 1):
            yield f"P1 run {run_id} began {starts[run_id]} times and ended {ends[run_id]} times"
    for end, behind in pairwise([*log, None]):
        if isinstance(end, CLOSED) and not isinstance(behind, e.StatusIdle):
            yield f"P1 run {end.run_id} has ended, and nobody is told that it is idle"


async def _usable(world: World, logs: Logs) -> list[str]:
    """P8: every session answers once more; where a day's money is spent, not before the next."""
    found: list[str] = []
    if world.setting.daily_budget:
        return found
    for n, (session_id, log) in enumerate(logs.items()):
        agents = {each.agent_id for each in log if isinstance(each, e.RunStarted)}
        if agents - {"bank"} or await world.client.status(session_id) in ("gone", "waiting_approval"):
            continue
        text = f"{PROBE} {n}"
        told = await world.client.execute(text, session_id)
        status = await world.client.until(session_id, "completed", "error") if told else "refused"
        if status != "completed":
            found.append(f"P8 {session_id} does not answer any more: {status}")
    return found


async def _gone(world: World) -> list[str]:
    """P14: of a deleted session nothing can be read, and in the end nothing is there."""
    found: list[str] = []
    if not world.record.deleted:
        return found
    for session_id in sorted(world.record.deleted):
        for path in ("", "/events", "/messages", "/runs"):
            answer: Any = await world.client.ask("GET", f"/v1/sessions/{session_id}{path}")
            if answer.status != 404:
                found.append(f"P14 {session_id}{path} is deleted and answers {answer.status}")
    listed = await world.client.ask("GET", "/v1/sessions")
    shown = {each["id"] for each in listed.json["data"]} & world.record.deleted
    found += [f"P14 {session_id} is deleted and in the list" for session_id in shown]
    await asyncio.sleep(FORGET_SECONDS + 4 * world.setting.sweep_seconds)
    for session_id in world.record.deleted & set(world.sessions()):
        left = [item["SK"] for item in world.storage.items() if item["PK"] == Ref(TENANT, session_id).pk]
        found.append(f"P14 of {session_id} there is still {left}")
    blobs = [key for key in world.kept.kept if key.split("/")[1] in world.record.deleted]
    return found + [f"P14 there is still the blob {key}" for key in blobs]


def _text(message: e.UserMessage) -> str:
    return text_of(message.content)
