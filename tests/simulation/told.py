"""What watchers, clients and the model were told, held against the log."""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from parley.core import control as c
from parley.core import event as e
from parley.core.compaction import asks_for_summary
from parley.core.fold import fold
from parley.core.session import Session
from parley.core.value import TextBlock, text_of

from tests.simulation.world import World

Logs = Mapping[str, Sequence[e.Event]]
"""By session id."""


def watchers(world: World) -> Iterator[str]:
    """P4: over all its connections a watcher has every event once, in order, as it is in the log."""
    for watcher in world.watchers:
        yield from watcher.wrong
        log = world.log(watcher.session_id)[watcher.after :]
        if watcher.seen != list(log):
            saw = [each.seq for each in watcher.seen]
            yield f"P4 a watcher of {watcher.session_id} saw {saw}, and {len(log)} events are there"


def streams(world: World, logs: Logs) -> Iterator[str]:
    """P4: the answer to a message has the events of its run from the first on, as they are in the log."""
    living = [log for session_id, log in logs.items() if session_id not in world.record.deleted]
    for run_id, stream in world.record.streams:
        yield from stream.wrong
        events = [each for each in stream.events if each.run_id == run_id]
        log = [each for log in living for each in log if each.run_id == run_id]
        if log and events != log[: len(events)]:
            yield f"P4 the stream of {run_id} has {[each.seq for each in events]}, the log {[each.seq for each in log]}"
        if events and isinstance(events[-1], e.StatusIdle) and stream.drafts:
            yield f"P4 the stream of {run_id} ends with open drafts: {stream.drafts}"


def order(world: World, logs: Logs) -> Iterator[str]:
    """P1: what one client has sent to a session begins in the order in which it was accepted."""
    for log in logs.values():
        begun = [text_of(each.content) for each in log if isinstance(each, e.UserMessage)]
        for sent in world.record.in_order:
            places = [begun.index(text) for text in sent if text in begun]
            if places != sorted(places):
                yield f"P1 {sent} were sent, and begun in the order {begun}"


def requests(world: World, logs: Logs) -> Iterator[str]:
    """P8: what the model was sent is the fold of a log, as far as it went."""
    contexts = set()
    for session_id, log in logs.items():
        session = Session(id=session_id)
        for each in log:
            session = fold(session, [each])
            contexts.add(session.context)
    sent = [messages for messages in world.provider.sent if not asks_for_summary(messages[-1])]
    if not world.record.deleted and not contexts.issuperset(sent):
        yield "P8 the model was sent what is not the fold of a log"


def read(world: World, log: Sequence[e.Event]) -> Iterator[str]:
    """P8: the model has read every message and every result of a run that has finished, word for word."""
    everything = b"".join(message for messages in world.provider.sent for message in messages)
    finished = {each.run_id for each in log if isinstance(each, e.RunFinished)}
    for each in log:
        if isinstance(each, e.UserMessage | e.AgentToolResult) and each.run_id in finished:
            for block in each.content:
                said = block.text if isinstance(block, TextBlock) else getattr(block.source, "data", "")
                if json.dumps(said, ensure_ascii=False)[1:-1].encode() not in everything:
                    yield f"P8 the model has finished, and has never read '{said[:40]}'"


def approvals(log: Sequence[e.Event]) -> Iterator[str]:
    """P7: on each call at most one decision counts, and the model is told which it was."""
    decided: dict[str, e.Event] = {}
    for word, told in pairwise([*log, None]):
        if not isinstance(word, c.ApprovalDecided | c.ApprovalExpired):
            continue
        if word.tool_use_id in decided:
            yield f"P7 two decisions on {word.tool_use_id} count: {decided[word.tool_use_id]} and {word}"
        decided[word.tool_use_id] = word
        runs = isinstance(word, c.ApprovalDecided) and word.decision in ("approve", "edit")
        ends = isinstance(word, c.ApprovalExpired) and word.on_expire == "cancel"
        answered = isinstance(told, e.AgentToolResult) and told.tool_use_id == word.tool_use_id
        if not runs and not ends and not answered:
            yield f"P7 the model is not told what came of {word.tool_use_id}"
    for result in [each for each in log if isinstance(each, e.AgentToolResult) and not each.is_error]:
        word = decided.get(result.tool_use_id)
        edited = isinstance(word, c.ApprovalDecided) and word.decision == "edit"
        if edited and json.dumps(getattr(word, "input", None)) not in text_of(result.content):
            yield f"P7 the model is not told that {result.tool_use_id} was edited"


def stops(log: Sequence[e.Event]) -> Iterator[str]:
    """P11: behind an interrupt nothing of its run is intended, no answer begins, and it ends as it was told to."""
    stopped: dict[str | None, int] = {}
    closed: set[str | None] = set()
    for each in log:
        if isinstance(each, c.UserInterrupt) and each.run_id not in closed:
            stopped.setdefault(each.run_id, 0)
        if isinstance(each, e.RunFinished | e.RunFailed | c.RunCancelled):
            if each.run_id in stopped and not isinstance(each, c.RunCancelled):
                yield f"P11 {each.run_id} was interrupted, and ended as {each.type}"
            closed.add(each.run_id)
        if each.run_id not in stopped:
            continue
        if isinstance(each, e.ToolIntended):
            yield f"P11 {each.tool_use_id} was intended behind an interrupt"
        if isinstance(each, e.ModelRequestStart):
            stopped[each.run_id] += 1  # the one that was under way may still be told of
            if stopped[each.run_id] > 1:
                yield f"P11 the model was asked again behind an interrupt of {each.run_id}"


def budgets(world: World, logs: Logs) -> Iterator[str]:
    """P13: no answer begins above a session's cap, nor above the cap of the agent's day."""
    for log in logs.values():
        session = Session(id="")
        for each in log if any(isinstance(each, c.SessionUpdated) for each in log) else ():
            cap = session.budget.max_steps if session.budget else None
            if isinstance(each, e.ModelRequestStart) and cap is not None and session.spent.steps >= cap:
                yield f"P13 an answer began with {session.spent.steps} of {cap} steps spent"
            session = fold(session, [each])
    if cap := world.setting.daily_budget:
        days: dict[str, list[int]] = {}
        for each in (each for log in logs.values() for each in log if isinstance(each, e.ModelRequestEnd)):
            days.setdefault(f"{each.created_at:%Y-%m-%d}", []).append(each.cost or 0)
        for day, costs in days.items():
            if sum(costs) - max(costs) >= cap:
                yield f"P13 on {day} answers began when {sum(costs) - max(costs)} of {cap} were spent"


def words(log: Sequence[e.Event]) -> Iterator[str]:
    """P6: behind a person's word stands what the model is told of it."""
    for word, told in pairwise([*log, None]):
        if isinstance(word, e.ToolOutcomeDecided) and word.outcome != "retry":
            is_error = told.is_error if isinstance(told, e.AgentToolResult) else None
            if is_error != (word.outcome == "did_not_happen"):
                yield f"P6 a person said '{word.outcome}' of {word.tool_use_id}, and the model was told otherwise"
