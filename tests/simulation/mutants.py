"""Deliberate bugs: each takes one mechanism out, and a run must break a promise because of it.

A mutant that survives means that nothing proves its mechanism. Add one with every mechanism that a promise rests on.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from parley import engine, watch
from parley.api import approvals, execute, outcomes, starting, stream
from parley.core import answer, approval, compaction, compose, control, event, fold, message, run, session
from parley.core.errors import Unreadable
from parley.core.session import Session
from parley.store import allowance, claims, drives, entry, inputs, log, sessions, snapshot, sweep, words
from parley.store.entry import decode
from parley.store.keys import ENTRY
from parley.sweeper import Sweeper
from parley.worker import Worker

from tests.corpus.recording import RECORDED, Recording
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.clock import NOON
from tests.simulation import bugs
from tests.simulation.explore import Ran, singles
from tests.simulation.scenarios import SCENARIOS
from tests.simulation.world import at_once


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug: which promise rests on what it takes out, and in which scenario and by which ports' faults it is found."""

    name: str
    promise: str
    mechanism: str
    scenario: str
    ports: tuple[str, ...]
    swaps: tuple[tuple[Any, str, Any], ...]

    @contextmanager
    def at_large(self) -> Iterator[None]:
        """Put the bug in, for as long as the block lasts."""
        with ExitStack() as stack:
            for owner, name, bug in self.swaps:
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, bug)
            yield

    def caught(self) -> Ran | None:
        """Look for the first run that breaks a promise."""
        with self.at_large():
            runs = _read() if self.scenario == CORPUS else singles(SCENARIOS[self.scenario], self.ports)
            return next((ran for ran in runs if ran.broken), None)


def _read() -> Iterator[Ran]:
    """Read the corpus, as `tests/corpus` does (P15)."""
    for folder in sorted(RECORDED.iterdir()):
        recording = Recording.read(folder)
        rows = [row for row in recording.rows if "body" in row and row["SK"].startswith(ENTRY)]
        try:
            read = [at_once(decode(row, MemoryBlobs())) for row in rows]
            told = bool(read) and fold.fold(Session(id="sesn_1"), recording.log()).context == recording.context
        except (Unreadable, ValueError):
            told = False
        broken = [] if told else [f"P15 the recorded session '{folder.name}' does not read as it was"]
        yield Ran(CORPUS, 0, {}, broken)


CORPUS = "the corpus"
"""In the place of a scenario: sessions as this version and earlier ones have stored them."""

MUTANTS = [
    Mutant(
        "a write without an answer counts as done",
        "P1",
        "acknowledged only after the write is known",
        "plain",
        ("write",),
        ((log.Log, "write", bugs.believes),),
    ),
    Mutant(
        "no sweeper",
        "P1",
        "a lost hint is found",
        "three messages at once",
        ("hint",),
        ((Sweeper, "_needs_driver", bugs.never),),
    ),
    Mutant(
        "a message is taken and stays in the queue",
        "P1",
        "taken out in the transaction that puts it into the log",
        "three messages at once",
        (),
        ((inputs.Queued, "taken", bugs.leaves_it),),
    ),
    Mutant(
        "messages are taken the newest first",
        "P1",
        "what has waited longest is next",
        "three messages at once",
        (),
        ((inputs.Inputs, "first", bugs.takes_the_newest),),
    ),
    Mutant(
        "a job for a busy session is dropped",
        "P1",
        "it waits for its turn",
        "a job for a session that is busy",
        (),
        ((Worker, "_queue", bugs.never),),
    ),
    Mutant(
        "a run ends and nobody is told",
        "P1",
        "status.idle is stored with the end of a run",
        "plain",
        (),
        ((compose, "closing_events", bugs.never_idle),),
    ),
    Mutant(
        "a session ends by its first day",
        "P1",
        "each use puts the expiry off",
        "expired",
        (),
        ((sessions.Sessions, "ttl", lambda self: int(NOON.timestamp()) + self.ttl_seconds),),
    ),
    Mutant(
        "the idempotency row is not written",
        "P2",
        "written in the transaction of its effect",
        "plain",
        ("http",),
        ((claims.Claims, "begin", bugs.begins_without_key),),
    ),
    Mutant(
        "each delivery of a job is another job",
        "P2",
        "a message's id is its key",
        "a job",
        ("delivery",),
        ((Worker, "take", bugs.takes_each_delivery),),
    ),
    Mutant(
        "a repeated request does not say that it is one",
        "P2",
        "Idempotent-Replayed",
        "plain",
        ("http",),
        ((execute, "REPLAYED", {}),),
    ),
    Mutant(
        "an entry is put without a condition",
        "P3",
        "the sort key is the lock",
        "a tool that is not idempotent",
        ("write", "model", "tool"),
        ((log.Log, "entry", bugs.overwrites),),
    ),
    Mutant(
        "a write without an answer is decided anew",
        "P3",
        "the same bytes at the same key until it is known",
        "a tool that is not idempotent",
        ("write",),
        ((log.Log, "write", bugs.asks_anew),),
    ),
    Mutant(
        "an entry of one's own counts as another's",
        "P3",
        "an append id tells one's own entry",
        "a tool that is not idempotent",
        ("write",),
        ((log, "_is_ours", lambda ops, error: False),),
    ),
    Mutant(
        "Last-Event-ID is not read",
        "P4",
        "the cursor is the seq",
        "watched",
        ("http",),
        ((stream, "_cursor", lambda text: None),),
    ),
    Mutant(
        "a cursor inside an entry is taken for its end",
        "P4",
        "the first look reads from any seq",
        "watched",
        (),
        ((stream, "Watch", partial(watch.Watch, caught_up=True)),),
    ),
    Mutant(
        "a draft ends where its rows end",
        "P4",
        "what was never a row comes before the event",
        "watched",
        (),
        ((watch, "_rest", lambda event, told: []),),
    ),
    Mutant(
        "no fence",
        "P5",
        "a newer claim in the tail ends the driver",
        "a tool that is not idempotent",
        ("model", "tool", "write"),
        ((engine.Engine, "_catch_up", bugs.is_never_fenced),),
    ),
    Mutant(
        "no intent",
        "P5",
        "the intent is stored before the call",
        "a tool that is not idempotent",
        (),
        ((engine, "announcement", bugs.no_intent),),
    ),
    Mutant(
        "an interrupted call is made again, whatever it is",
        "P6",
        "only reads and idempotent calls are",
        "a tool that is not idempotent",
        ("tool",),
        ((run, "_may_repeat", lambda call: call.state == "intended"),),
    ),
    Mutant(
        "an idempotent call gets a key for each attempt",
        "P6",
        "one key for all attempts",
        "an idempotent tool",
        ("tool",),
        ((engine, "idempotency_key", bugs.another_key),),
    ),
    Mutant(
        "a result is dropped when a person's word came first",
        "P6",
        "facts stay when a slot is taken",
        "a word while another call is at work",
        (),
        ((engine.Engine, "_store", bugs.drops_facts),),
    ),
    Mutant(
        "a late word counts for the next attempt",
        "P6",
        "a word is about one attempt",
        "an outcome that nobody knows: try again",
        (),
        ((outcomes, "decide", bugs.for_any_attempt),),
    ),
    Mutant(
        "whatever a person says, it happened",
        "P6",
        "the model reads what the person said",
        "an outcome that nobody knows: it did not happen",
        (),
        ((outcomes, "decide", bugs.it_happened),),
    ),
    Mutant(
        "no call waits",
        "P7",
        "what a person must approve stays requested until then",
        "two approvals, one edited and one denied",
        (),
        ((session.Call, "may_run", property(lambda self: self.verdict != "deny")),),
    ),
    Mutant(
        "an edited call is made as the model asked for it",
        "P7",
        "an approval is bound to the hash of tool and arguments",
        "two approvals, one edited and one denied",
        (),
        ((fold, "CHANGES", {**fold.CHANGES, control.ApprovalDecided: bugs.edits_nothing}),),
    ),
    Mutant(
        "the model does not learn of an edit",
        "P7",
        "a result says with which arguments the call was made",
        "two approvals, one edited and one denied",
        (),
        ((compose, "told", bugs.tells_no_edit),),
    ),
    Mutant(
        "a later decision counts, too",
        "P7",
        "a decision is about a call that waits",
        "two people decide at once",
        (),
        ((approvals, "decide", bugs.decides_again),),
    ),
    Mutant(
        "a decision that comes too late counts",
        "P7",
        "what has expired was decided",
        "an approval that nobody gives",
        (),
        ((approval, "expire", lambda scribe, session: []),),
    ),
    Mutant(
        "a denial tells the model nothing",
        "P7",
        "a call that is not made has a result",
        "two approvals, one edited and one denied",
        (),
        ((approval, "_result", lambda scribe, call, decision: []),),
    ),
    Mutant(
        "open calls stay open when a run ends",
        "P8",
        "the fold gives every call a result",
        "a run that kills every driver",
        (),
        ((fold.runs, "close_calls", lambda session: session),),
    ),
    Mutant(
        "a summary may part a call and its result",
        "P8",
        "a boundary is before a message that holds no results",
        "a context that becomes too long",
        (),
        ((compaction, "_is_boundary", lambda context, index: True),),
    ),
    Mutant(
        "images are not shown to the model",
        "P8",
        "what was accepted is what the model reads",
        "images",
        (),
        ((message, "user_message", bugs.only_text),),
    ),
    Mutant(
        "the model is not told what came of a call",
        "P8",
        "what is stored is what the model reads",
        "a read",
        (),
        ((message, "result_block", lambda provider_id, result: message.missing_result_block(provider_id)),),
    ),
    Mutant(
        "a snapshot leaves out the newest message",
        "P8",
        "a snapshot is the fold of the log",
        "a log that is sealed",
        (),
        ((snapshot, "write", bugs.seals_too_little),),
    ),
    Mutant(
        "a stream that was cut counts as whole",
        "P9",
        "no message_stop, no action",
        "a tool that is not idempotent",
        ("model",),
        ((answer.Accumulator, "answer", bugs.half_is_enough),),
    ),
    Mutant(
        "input that is not JSON counts as none",
        "P9",
        "input must be complete JSON",
        "a tool that is not idempotent",
        ("model",),
        ((answer.Draft, "input", property(bugs.any_input)),),
    ),
    Mutant(
        "a lease never lapses",
        "P10",
        "leases lapse",
        "plain",
        ("model",),
        ((claims.Claims, "lapsed", lambda self, lock: False),),
    ),
    Mutant(
        "a person's word wakes nobody",
        "P10",
        "a word makes the lease lapse",
        "an outcome that nobody knows: it did not happen",
        (),
        ((words.Word, "wakes", False),),
    ),
    Mutant(
        "no limit of drivers",
        "P10",
        "a run that kills its drivers is given up",
        "a run that kills every driver",
        (),
        ((run, "_gives_up", lambda run, limits: None),),
    ),
    Mutant(
        "a renewal revives the lease of a run that waits",
        "P10",
        "who waits or was handed over has `left`",
        "an outcome that nobody knows: it did not happen",
        ("write",),
        ((drives, "_driven", drives._held),),
    ),
    Mutant(
        "a lease is not renewed",
        "P10",
        "a driver that is well keeps its run",
        "an answer that takes minutes",
        (),
        ((drives.Drives, "renew", bugs.never),),
    ),
    Mutant(
        "a hand-over leaves no lease",
        "P10",
        "the lease of a run that was handed over has lapsed",
        "handed over",
        (),
        ((drives, "LAPSED", None),),
    ),
    Mutant(
        "an interrupt changes nothing",
        "P11",
        "an interrupt cancels the run in the fold",
        "stopped while a tool is at work",
        (),
        ((fold, "CHANGES", {**fold.CHANGES, control.UserInterrupt: lambda session, _: session}),),
    ),
    Mutant(
        "a run that is to stop makes its calls first",
        "P11",
        "a run that is to stop is closed before anything else",
        "an approval, and an interrupt at once behind it",
        ("hint",),
        ((run, "_needed", bugs.stops_later),),
    ),
    Mutant(
        "a message in the middle is read at once",
        "P8",
        "a message in the middle waits for the next request",
        "a message that steers",
        (),
        ((fold, "CHANGES", {**fold.CHANGES, event.UserMessage: bugs.steers_at_once}),),
    ),
    Mutant(
        "a suspended run goes on",
        "P11",
        "nothing begins while a session is suspended",
        "suspended while a person is asked, and resumed",
        (),
        ((session.Session, "suspended", False),),
    ),
    Mutant(
        "no cap is looked at",
        "P13",
        "a session's caps are looked at before each model call",
        "a budget that is reached and raised",
        (),
        ((run, "_within", lambda step, *_: step),),
    ),
    Mutant(
        "a larger budget wakes nobody",
        "P10",
        "a run that waits at a cap goes on when it is raised",
        "a budget that is reached and raised",
        (),
        ((fold.lives, "budgeted", lambda session, budget: session.but(budget=budget)),),
    ),
    Mutant(
        "each session may spend the rest of the day",
        "P13",
        "a reservation is refused when the day's counter stands at the cap",
        "a day's budget that two sessions share",
        (),
        ((allowance, "AtMost", lambda name, _: None),),
    ),
    Mutant(
        "deleted without a barrier",
        "P14",
        "session.deleted takes the driver's next slot",
        "deleted while it runs",
        (),
        ((sessions.Sessions, "bury", bugs.buries_without_barrier),),
    ),
    Mutant(
        "the first sweep frees slots",
        "P14",
        "slots that a driver may aim at hold a barrier",
        "deleted while it runs",
        ("model",),
        ((sweep.Sweep, "_clear", bugs.frees_slots),),
    ),
    Mutant(
        "what has lapsed is not swept",
        "P14",
        "an expired session is buried",
        "expired",
        (),
        ((sweep.Sweep, "expired", bugs.never),),
    ),
    Mutant(
        "a deleted session stays in the list",
        "P14",
        "the row's tombstone has no place in the list",
        "deleted while it runs",
        (),
        ((sessions.Sessions, "bury", bugs.shows_it_still),),
    ),
    Mutant(
        "a repeated request opens a deleted session",
        "P14",
        "a replay looks at the row first",
        "deleted while a message waits",
        (),
        ((starting.Asked, "_again", bugs.replays_what_is_deleted),),
    ),
    Mutant(
        "entries are compressed against another primer",
        "P15",
        "the primer never changes",
        CORPUS,
        (),
        ((entry, "PRIMER", b"another"),),
    ),
    Mutant(
        "a result of a tool is not read any more",
        "P15",
        "what an event changes stays as it was",
        CORPUS,
        (),
        ((fold, "CHANGES", {**fold.CHANGES, event.AgentToolResult: lambda session, _: session}),),
    ),
]
