"""The logs, held against what customers were promised and against the ledger."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from tests.soak.book import Accepted, Book, Stream, Violation
from tests.soak.ledger import Effect
from tests.soak.logs import CLOSED, Event, Log, text_of

TOKEN = re.compile(r"<([\w-]+)>")


def examine(book: Book, logs: Mapping[str, Log], effects: Sequence[Effect]) -> Iterator[Violation]:
    """Find every broken promise."""
    yield from book.violations
    yield from _messages(book, logs)
    for log in logs.values():
        yield from _log(log)
        yield from _runs(log)
    yield from _effects(book, logs, effects)
    for stream in book.streams:
        if stream.session_id in logs:
            yield from _stream(stream, logs[stream.session_id])
        elif stream.session_id not in book.deleted:
            yield Violation("session lost", stream.session_id, "it is in no list and was not deleted")


def _messages(book: Book, logs: Mapping[str, Log]) -> Iterator[Violation]:
    """Check that every accepted message is in the log once, in its session, and no longer waits."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for log in logs.values():
        for event in log.of("user.message"):
            if match := TOKEN.match(text_of(event.data)):
                found[match[1]].append(log.session_id)
        for text in log.waiting:
            yield Violation("message still waits", log.session_id, text[:60])
    for accepted in book.accepted.values():
        if accepted.session_id not in book.deleted:
            yield from _message(accepted, found[accepted.token])


def _message(accepted: Accepted, found: Sequence[str]) -> Iterator[Violation]:
    told = f"{accepted.token}, accepted by {accepted.door}"
    if not found:
        yield Violation("message lost", accepted.session_id or "-", told)
    elif len(found) > 1:
        yield Violation("message doubled", found[0], f"{told}, is in {', '.join(found)}")
    elif accepted.session_id not in (None, found[0]):
        yield Violation("message elsewhere", found[0], f"{told}, belongs to {accepted.session_id}")


def _log(log: Log) -> Iterator[Violation]:
    seqs = [event.seq for event in log.events]
    if seqs != list(range(1, len(seqs) + 1)):
        yield Violation("log has gaps", log.session_id, f"{seqs}")
    ids = Counter(event.data["id"] for event in log.events)
    if doubled := [id for id, times in ids.items() if times > 1]:
        yield Violation("event doubled", log.session_id, ", ".join(doubled))
    results = Counter(event.data["tool_use_id"] for event in log.of("agent.tool_result"))
    if doubled := [id for id, times in results.items() if times > 1]:
        yield Violation("result doubled", log.session_id, ", ".join(doubled))
    for event in log.of("session.error"):
        if event.data["error"].get("code") == "model_refused_request":
            yield Violation("refused by the model", log.session_id, event.data["error"]["message"])


def _runs(log: Log) -> Iterator[Violation]:
    """Check that every run has one message, one beginning and one visible end, and that none overlap."""
    open_run: str | None = None
    for run_id, events in log.runs().items():
        kinds = Counter(event.type for event in events)
        if (kinds["user.message"], kinds["run.started"]) != (1, 1):
            yield Violation("run without its message", log.session_id, f"{run_id}: {dict(kinds)}")
        ends = sum(kinds[kind] for kind in CLOSED)
        if ends > 1:
            yield Violation("run ended twice", log.session_id, run_id)
        if ends == 0 and not _waits_for_person(events):
            yield Violation("run not ended", log.session_id, f"{run_id}, last {events[-1].type}")
    for event in log.events:
        if open_run and event.run_id not in (None, open_run):
            yield Violation("runs overlap", log.session_id, f"{event.run_id} within {open_run} at {event.seq}")
        if event.type == "run.started":
            open_run = event.run_id
        elif event.type in CLOSED:
            open_run = None


def _waits_for_person(events: Sequence[Event]) -> bool:
    last = events[-1]
    return last.type == "session.status_idle" and last.data["stop_reason"]["type"] == "requires_action"


def _effects(book: Book, logs: Mapping[str, Log], effects: Sequence[Effect]) -> Iterator[Violation]:
    made: defaultdict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        made[effect.tool_use_id].append(effect)
    for each in made.values():
        yield from _repetitions(each)
    for log in logs.values():
        claims = {run_id: sum(e.type == "run.claimed" for e in events) for run_id, events in log.runs().items()}
        results = {event.data["tool_use_id"]: event for event in log.of("agent.tool_result")}
        asked = {event.data["id"]: event for event in log.of("agent.tool_use")}
        for call_id, event in asked.items():
            mine = made[call_id]
            yield from _told(log, event, results.get(call_id), mine)
            if len(mine) > claims[event.run_id or ""]:
                told = f"{event.data['name']} {call_id}: {len(mine)} effects of {claims[event.run_id or '']} drivers"
                yield Violation("called too often", log.session_id, told)
        for effect in (each for each in effects if each.session_id == log.session_id):
            if effect.tool_use_id not in asked:
                yield Violation("effect nobody asked for", log.session_id, f"{effect}")
    for effect in effects:
        if effect.session_id not in logs and effect.session_id not in book.deleted:
            yield Violation("effect of no session", effect.session_id, f"{effect}")


def _repetitions(made: Sequence[Effect]) -> Iterator[Violation]:
    """Check what must hold of one call's effects even when its session is gone.

    A person says `retry` only when the ledger has nothing, so one call has one effect, whatever the attempts.
    """
    first = made[0]
    if first.tool == "charge" and len(made) > 1:
        told = f"charge {first.tool_use_id} by processes {', '.join(str(each.pid) for each in made)}"
        yield Violation("effect doubled", first.session_id, told)
    if {each.idempotency_key for each in made} != {f"{first.session_id}.{first.tool_use_id}"}:
        yield Violation("key changed", first.session_id, f"{first.tool} {first.tool_use_id}")


def _told(log: Log, asked: Event, result: Event | None, made: Sequence[Effect]) -> Iterator[Violation]:
    """Check that the model was told what the ledger says."""
    if result is None:
        return  # the run failed before; it says so itself
    name, told_ok = asked.data["name"], not result.data.get("is_error")
    told = f"{name} {asked.data['id']}: the model read '{text_of(result.data)[:60]}', the ledger has {len(made)}"
    if told_ok and not made:
        yield Violation("told otherwise", log.session_id, told)
    if name == "charge" and not told_ok and made:
        yield Violation("told otherwise", log.session_id, told)


def _stream(stream: Stream, log: Log) -> Iterator[Violation]:
    """Check that a customer saw the log behind its cursor: each event once, in order, none left out."""
    seqs = [seq for seq, _, _ in stream.frames]
    stored = {event.seq: (event.data["id"], event.type) for event in log.events}
    if seqs and seqs != list(range(seqs[0], seqs[-1] + 1)):
        yield Violation("stream differs", log.session_id, f"seqs {seqs} after {stream.cuts} cuts")
    if strange := [seq for seq, id, kind in stream.frames if stored.get(seq) != (id, kind)]:
        yield Violation("stream differs", log.session_id, f"not as stored: {strange}")
    if not stream.whole:
        return
    if (seqs and seqs[0] != 1) or (stream.last or 0) < stream.floor:
        yield Violation("stream differs", log.session_id, f"{seqs[:1]} to {stream.last}, there were {stream.floor}")
    if stream.frames and stream.frames[-1][2] != "session.status_idle":
        yield Violation("stream differs", log.session_id, f"until=idle ended after {stream.frames[-1][2]}")
