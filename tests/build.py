"""Builders: the smallest valid value of everything, and a stage that whole runs are played on."""

import asyncio
import base64
import itertools
import json
import random
import sqlite3
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from parley.adapters.inline import InlineQueue
from parley.adapters.sqlite import SqliteTable
from parley.core import approval
from parley.core import control as c
from parley.core import event as e
from parley.core.agent import Agent
from parley.core.approval import Decision
from parley.core.compose import user_message
from parley.core.control import DecisionWord
from parley.core.delta import DraftDiscarded, DraftGrew, DraftStarted, Output, Rotated
from parley.core.errors import ModelError, ModelFailure
from parley.core.fold import fold
from parley.core.limits import Limits
from parley.core.outcome import Word, decide
from parley.core.policy import Policy
from parley.core.scribe import Scribe
from parley.core.session import Call, Session
from parley.core.tool import Effect, Permission, Tool, ToolOutcome, tool
from parley.core.value import (
    Base64Image,
    Content,
    ErrorDetail,
    ImageBlock,
    RetryStatus,
    StopReason,
    TextBlock,
    UrlImage,
    Usage,
)
from parley.engine import Engine
from parley.ports import Table
from parley.runner import Runner
from parley.store import Claim, Head, Once, Ref, Store
from parley.store.approvals import Approval, Status
from parley.store.head import milliseconds
from parley.store.keys import SHOWN
from parley.store.work import work
from parley.sweeper import Sweeper

from tests.fakes.anthropic_rules import sign
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.clock import NOON, VirtualClock
from tests.fakes.flaky_table import FlakyTable
from tests.fakes.hints import KeptHints
from tests.fakes.ids import CountingIds
from tests.fakes.model import Answers, Play, Raw
from tests.fakes.toolbox import Play as ToolPlay
from tests.fakes.toolbox import PlayedTools

E = TypeVar("E", bound=e.EventBase)

SMALLEST: dict[type[e.EventBase], dict[str, Any]] = {
    e.UserMessage: {"content": (TextBlock(text="Hi"),)},
    c.UserInterrupt: {},
    c.UserToolConfirmation: {"tool_use_id": "call", "result": "allow"},
    e.AgentMessage: {"content": (TextBlock(text="Hello"),)},
    e.AgentThinking: {},
    e.AgentToolUse: {"name": "pay", "input": {}, "provider_id": "toolu_1"},
    e.AgentToolResult: {"tool_use_id": "call"},
    e.ToolIntended: {"tool_use_id": "call", "effect": "non_idempotent", "idempotency_key": "key"},
    e.ToolOutcomeUnknown: {"tool_use_id": "call"},
    e.ToolOutcomeDecided: {"tool_use_id": "call", "outcome": "happened", "decided_by": "ann"},
    c.ApprovalRequested: {"approval_id": "appr_1", "tool_use_id": "call", "name": "pay", "input": {}, "binding": "b"},
    c.ApprovalDecided: {"approval_id": "appr_1", "tool_use_id": "call", "decision": "approve"},
    c.ApprovalExpired: {"approval_id": "appr_1", "tool_use_id": "call"},
    c.PlanProposed: {"plan_id": "plan_1", "calls": (), "verdict": "run"},
    c.PlanApproved: {"plan_id": "plan_1", "tool_use_ids": ()},
    c.PlanRejected: {"plan_id": "plan_1"},
    c.BudgetReserved: {"amount": 70, "day": "2026-11-20", "cap": 1000},
    c.BudgetWarning: {"which": "max_steps", "cap": 5, "spent": 4},
    c.BudgetReached: {"which": "max_steps", "cap": 5, "spent": 5},
    e.ModelRequestStart: {},
    e.ModelRequestEnd: {"model_request_start_id": "start", "model_usage": Usage(), "stop_reason": "end_turn"},
    e.ContextCompacted: {"summary": "Earlier.", "replaced": 1},
    e.RunStarted: {"agent_id": "bank", "agent_version": 1, "run_id": "run"},
    e.RunClaimed: {"epoch": 1},
    e.RunFinished: {"status": "completed", "stop_reason": "end_turn"},
    e.RunFailed: {"code": "step_limit", "message": "Enough."},
    c.RunCancelled: {"reason": "interrupted"},
    e.StatusIdle: {"stop_reason": StopReason(type="end_turn")},
    e.StatusRunning: {},
    e.StatusRescheduled: {},
    e.SessionError: {
        "error": ErrorDetail(type="model_overloaded_error", message="Busy", retry_status=RetryStatus(type="retrying"))
    },
    c.SessionUpdated: {},
    c.SessionSuspended: {},
    c.SessionResumed: {},
    c.SessionTerminated: {},
    c.CheckpointCreated: {"name": "before"},
    c.SessionRestored: {"to_seq": 1},
    e.SessionDeleted: {},
}
"""What each event needs besides its id and its time; a test holds it against the union."""

_numbers = itertools.count(1)


def event(kind: type[E], **fields: Any) -> E:
    """Make an event."""
    given: dict[str, Any] = {"id": f"sevt_{next(_numbers)}", "created_at": NOON} | SMALLEST[kind] | fields
    return kind(**given)


def entry(*events: e.Event) -> list[e.Event]:
    """Put events together that are appended together."""
    return list(events)


def message(text: str = "Hi", **fields: Any) -> e.UserMessage:
    """Make a person's message."""
    return event(e.UserMessage, content=(TextBlock(text=text),), **fields)


def picture(size: int = 90, seed: int = 7) -> ImageBlock:
    """Make an image that begins as a PNG does and compresses as badly as one; `size` is its length in base64."""
    noise = b"\x89PNG\r\n\x1a\n" + random.Random(seed).randbytes(size)
    return ImageBlock(
        source=Base64Image(media_type="image/png", data=base64.b64encode(noise)[: size // 4 * 4].decode())
    )


def linked(url: str = "https://example.com/cat.png") -> ImageBlock:
    """Make an image that is elsewhere."""
    return ImageBlock(source=UrlImage(url=url))


def shown(*blocks: ImageBlock, text: str = "") -> tuple[ImageBlock | TextBlock, ...]:
    """Make the content of a message with images, and words behind them if any are given."""
    return (*blocks, *((TextBlock(text=text),) if text else ()))


def tool_use(id: str = "call", name: str = "pay", **fields: Any) -> e.AgentToolUse:
    """Make the model's wish for a call; the provider's id follows from ours."""
    return event(e.AgentToolUse, **{"id": id, "name": name, "provider_id": f"toolu_{id}"} | fields)


def result(call_id: str = "call", text: str = "done", **fields: Any) -> e.AgentToolResult:
    """Make a call's result."""
    return event(e.AgentToolResult, tool_use_id=call_id, content=(TextBlock(text=text),), **fields)


def opened(run_id: str = "run", **started: Any) -> list[e.Event]:
    """Make what begins a run."""
    return [message(), event(e.RunStarted, **{"run_id": run_id} | started), event(e.RunClaimed)]


def answered(*blocks: e.Event, stop_reason: str | None = None, **end: Any) -> list[e.Event]:
    """Make a whole answer of the model."""
    calls = any(isinstance(block, e.AgentToolUse) for block in blocks)
    reason = stop_reason or ("tool_use" if calls else "end_turn")
    start = event(e.ModelRequestStart)
    return [start, *blocks, event(e.ModelRequestEnd, model_request_start_id=start.id, stop_reason=reason, **end)]


def compaction(replaced: int = 1, summary: str = "Earlier.", **end: Any) -> list[e.Event]:
    """Make a model call that gave a summary."""
    return answered(event(e.ContextCompacted, replaced=replaced, summary=summary), **end)


def idle(reason: str = "end_turn", *event_ids: str) -> e.StatusIdle:
    """Make the event that a listener ends with."""
    return event(e.StatusIdle, stop_reason=StopReason.model_validate({"type": reason, "event_ids": event_ids or None}))


def failed_call(retry_status: str = "retrying", code: str = "model_overloaded") -> list[e.Event]:
    """Make a model call that gave no answer."""
    status = RetryStatus.model_validate({"type": retry_status})
    error = ErrorDetail(type="model_overloaded_error", message="Busy", retry_status=status, code=code)
    start = event(e.ModelRequestStart)
    end = event(e.ModelRequestEnd, model_request_start_id=start.id, is_error=True, stop_reason=None)
    return [start, end, event(e.SessionError, error=error)]


def call(id: str = "call", **fields: Any) -> Call:
    """Make a call."""
    return Call(**{"id": id, "provider_id": f"toolu_{id}", "name": "pay", "input": {}} | fields)


def scribe(run_id: str | None = "run", task_id: str | None = None) -> Scribe:
    """Make a scribe with ids that count, at noon."""
    return Scribe(CountingIds().new, lambda: NOON, run_id, task_id)


def numbered(events: Iterable[e.Event]) -> list[e.Event]:
    """Give events their places in a log of their own."""
    return [each.model_copy(update={"seq": seq}) for seq, each in enumerate(events, 1)]


# Agents and tools.


def a_tool(
    name: str = "pay",
    effect: Effect = "non_idempotent",
    timeout_seconds: float | None = None,
    permission: Permission = "auto",
) -> Tool:
    """Make a tool that takes an optional amount."""

    @tool(effect=effect, name=name, timeout_seconds=timeout_seconds, permission=permission)
    def act(amount: int = 0) -> str:
        """Act."""
        return f"{name} {amount}"

    return act


PAY = a_tool("pay")
FILE = a_tool("file", "idempotent")
LOOK = a_tool("look", "read")


def agent(
    *tools: Tool, id: str = "bank", prompt: str = "Be brief.", policy: Policy | None = None, **limits: Any
) -> Agent:
    """Make an agent that has a tool of each effect, unless others are given."""
    tools = tools or (PAY, FILE, LOOK)
    return Agent(id=id, prompt=prompt, tools=tools, limits=Limits(**limits), policy=policy or Policy())


def careful(**policy: Any) -> Agent:
    """Make an agent that asks before each of its calls `a`, `b`, `c` and `pay`."""
    tools = [a_tool(name, permission="always_ask") for name in ("a", "b", "c", "pay")]
    return agent(*tools, policy=Policy(**policy))


# Raw streams of a model, as the Messages API sends them.

Block = list[Raw]
"""The start of a block, its deltas; no index yet."""


def said(*pieces: str) -> Block:
    """Text, in these pieces."""
    deltas = [{"type": "text_delta", "text": piece} for piece in pieces or ("Hel", "lo")]
    return [{"type": "text", "text": ""}, *deltas]


def thought(*pieces: str, signature: str | None = None) -> Block:
    """Thinking with a signature."""
    pieces = pieces or ("Hm",)
    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces]
    signed = sign("".join(pieces), b"") if signature is None else signature
    start = {"type": "thinking", "thinking": "", "signature": ""}
    return [start, *deltas, {"type": "signature_delta", "signature": signed}]


def redacted(data: str = "opaque") -> Block:
    """Thinking that nobody may read."""
    return [{"type": "redacted_thinking", "data": data}]


def asked(name: str = "pay", arguments: Any = None, *, id: str | None = None, json_text: str | None = None) -> Block:
    """Ask for a call; `json_text` is sent as it is."""
    text = json.dumps(arguments or {}) if json_text is None else json_text
    half = len(text) // 2
    start = {"type": "tool_use", "id": id or f"toolu_{next(_numbers)}", "name": name, "input": {}}
    pieces = ("", text[:half], text[half:])
    return [start, *({"type": "input_json_delta", "partial_json": piece} for piece in pieces)]


def answer(*blocks: Block, stop_reason: str | None = None, tokens: tuple[int, int] = (10, 5)) -> list[Raw]:
    """Make the whole stream of an answer."""
    blocks = blocks or (said(),)
    calls = any(block[0]["type"] == "tool_use" for block in blocks)
    reason = stop_reason or ("tool_use" if calls else "end_turn")
    taken, given = tokens
    stream: list[Raw] = [{"type": "message_start", "message": {"usage": {"input_tokens": taken, "output_tokens": 1}}}]
    for index, (start, *deltas) in enumerate(blocks):
        stream.append({"type": "content_block_start", "index": index, "content_block": start})
        stream += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        stream.append({"type": "content_block_stop", "index": index})
    ended = {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": given}}
    return [*stream, ended, {"type": "message_stop"}]


def cut(stream: Sequence[Raw], keep: int = -1) -> list[Raw]:
    """Break a stream off; by default only its last event is missing."""
    return list(stream[:keep])


def error_event(kind: str = "overloaded_error", text: str = "Overloaded") -> Raw:
    """Make the event that ends a stream which had begun well."""
    return {"type": "error", "error": {"type": kind, "message": text}}


def fails(failure: ModelFailure = "overloaded", retry_after_seconds: int | None = None) -> ModelError:
    """Make a model call that fails at once."""
    return ModelError(failure, "The model is busy.", retry_after_seconds=retry_after_seconds)


# Sessions and whole runs.

REF = Ref("acme", "sesn_1")


def head(ref: Ref = REF, **fields: Any) -> Head:
    """Describe a session that began at noon."""
    noon = milliseconds(NOON)
    given: dict[str, Any] = {"agent_id": "bank", "owner": "ann", "created_ms": noon, "updated_ms": noon} | fields
    return Head(id=ref.id, **given)


@dataclass
class Stage:
    """One process: the production store, engine and runner on a real SQLite table, with fakes for all else.

    `another()` is a second process on the same table.
    """

    path: Path
    sqlite: SqliteTable
    clock: VirtualClock = field(default_factory=VirtualClock)
    ids: CountingIds = field(default_factory=CountingIds)
    blobs: MemoryBlobs = field(default_factory=MemoryBlobs)
    agent: Agent = field(default_factory=agent)
    model: Answers = field(default_factory=Answers)
    tools: PlayedTools = field(default_factory=PlayedTools)
    others: "list[Stage]" = field(default_factory=list)
    ref: Ref = REF

    def __post_init__(self) -> None:
        self.table = FlakyTable(self.sqlite)
        self.store = Store.over(self.table, self.blobs, self.clock, self.ids)
        self.engine = Engine(self.store, self.model, self.tools, self.clock, self.ids)
        self.queue = KeptHints()
        self.runner = Runner(self.engine, {self.agent.id: self.agent}, self.queue)

    @property
    def inline(self) -> InlineQueue:
        """A queue whose hints are followed here, as on a laptop."""
        return InlineQueue(lambda tenant, session_id: self.runner.nudge(Ref(tenant, session_id)))

    @property
    def sweeper(self) -> Sweeper:
        """A sweeper whose hints are followed here."""
        return Sweeper(self.store, self.inline)

    def deploy(self, agent: Agent) -> "Stage":
        """Let another agent be at work here."""
        self.agent = agent
        self.runner.agents = {agent.id: agent}
        return self

    def another(self) -> "Stage":
        """Start a second process."""
        other = Stage(self.path, self.sqlite, self.clock, self.ids, self.blobs, self.agent)
        self.others.append(other)
        return other

    def plays(self, *plays: Play, **tools: ToolPlay) -> "Stage":
        """Say what the model answers and what the tools do."""
        self.model.plays += plays
        self.tools.plays |= tools
        return self

    async def create(self, ref: Ref | None = None, **fields: Any) -> Ref:
        """Make a session that says nothing yet."""
        ref = ref or self.ref
        await self.store.sessions.create(ref, head(ref, **fields))
        return ref

    async def begin(self, said: Content = "Hi", ref: Ref | None = None, **options: Any) -> Claim:
        """Store a message and claim its run, in a new session if there is none."""
        ref = ref or self.ref
        known = await self.sqlite.get(ref.shown())
        if not known:
            options = {"new": head(ref)} | options
        return await self.store.claims.begin(ref, self.agent, said, **options)

    async def drive(self, claim: Claim | None = None) -> list[Output]:
        """Drive a run to its end and return all that was said."""
        claim = claim or await self.begin()
        return [output async for output in self.engine.drive(claim, self.agent)]

    async def take_over(self, ref: Ref | None = None) -> Claim:
        """Claim the open run as a driver does that believes the last one dead."""
        claim = await self.store.claims.take_over(ref or self.ref, void_lease=True)
        assert claim is not None
        return claim

    async def decide(
        self, call_id: str, outcome: e.OutcomeWord, result: str | None = None, *, attempt: int = 1
    ) -> None:
        """Add a person's word."""
        word = Word(outcome, attempt, result)
        await self.store.words.say(self.ref, lambda scribe, session: decide(scribe, session, call_id, word, "ann"))

    async def rule(self, call_id: str, word: DecisionWord, by: str = "ann", **said: Any) -> None:
        """Add a person's decision on a call that waits for one."""
        decision = Decision(word, **said)
        await self.store.words.say(
            self.ref, lambda scribe, session: approval.decide(scribe, session, call_id, decision, by, self.agent)
        )

    async def ask(self, *names: str) -> list[str]:
        """Leave a run whose agent, a careful one, waits for decisions on these calls; return their ids."""
        self.plays(answer(*(asked(name, {"amount": n}) for n, name in enumerate(names, 1))))
        await self.drive()
        return [use.id for use in only(e.AgentToolUse, await self.log())]

    async def go_on(self) -> list[Output]:
        """Drive the run on that a decision has woken."""
        claim = await self.store.claims.take_over(self.ref)
        assert claim is not None
        return await self.drive(claim)

    async def approvals(self, status: Status = "pending", **options: Any) -> list[Approval]:
        """List all approvals of a status, oldest first."""
        given: dict[str, Any] = {"limit": 100, "newest_first": False, "page": None} | options
        return (await self.store.approvals.page(self.ref.tenant, status, **given)).approvals

    async def park(self) -> str:
        """Leave a run that waits for a person's word on this call."""
        self.plays(answer(asked("pay")), pay=ToolOutcome("unknown", "?"))
        await self.drive()
        [use] = only(e.AgentToolUse, await self.log())
        return use.id

    async def finish(self, claim: Claim | None = None) -> None:
        """Write the end of a run that nobody has driven."""
        claim = claim or await self.begin()
        closing: list[e.Event] = [event(e.RunFinished, run_id=claim.run_id), idle()]
        await self.store.drives.settle(claim, claim.session, closing, claim.unsealed_bytes)

    async def send(
        self, *said: Content, ref: Ref | None = None, once: Once | None = None, task_id: str | None = None
    ) -> list[e.UserMessage]:
        """Let messages wait."""
        writes = Scribe(self.ids.new, self.clock.now, None, task_id)
        messages = [user_message(writes, each) for each in said]
        await self.store.inputs.put(ref or self.ref, messages, once=once)
        return messages

    async def follow_hints(self) -> None:
        """Follow hints here until all is quiet."""
        while self.runner.tasks or self.queue.hints:
            await asyncio.gather(*self.runner.tasks)
            while self.queue.hints:
                await self.runner.nudge(self.queue.hints.pop(0))

    async def ended(self, ref: Ref | None = None, runs: int = 1) -> list[e.Event]:
        """Wait until so many runs have ended and the session is idle; return its log."""
        async with asyncio.timeout(2):
            while True:
                log = await self.log(ref)
                if log and isinstance(log[-1], e.StatusIdle) and len(only(e.RunStarted, log)) >= runs:
                    return log
                await asyncio.sleep(0.005)

    async def log(self, ref: Ref | None = None) -> list[e.Event]:
        """Read the whole log."""
        return list(await self.store.log.tail(ref or self.ref, 0))

    async def session(self, ref: Ref | None = None) -> Session:
        """Fold the session from its first event."""
        return fold(Session(id=(ref or self.ref).id), await self.log(ref))

    def rows(self) -> list[tuple[Any, ...]]:
        """Read every row of the table as it lies, but for the secrets that a deployment makes for itself."""
        connection = sqlite3.connect(self.path)
        try:
            return connection.execute("SELECT * FROM items WHERE pk != 'SECRET' ORDER BY pk, sk").fetchall()
        finally:
            connection.close()


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """Open a stage; at its end no model may have been asked what the API would refuse."""
    path = folder / "stage.db"
    clock = VirtualClock()
    async with SqliteTable(path, clock) as sqlite:
        stage = Stage(path, sqlite, clock)
        yield stage
        for each in (stage, *stage.others):
            await each.runner.close(grace_seconds=0)
            assert each.model.problems == []


async def settled() -> None:
    """Let everything that can happen, happen."""
    for _ in range(20):
        await asyncio.sleep(0.001)


def types(outputs: Iterable[Output]) -> list[str]:
    """Name outputs; pieces of one draft count once."""
    names: list[str] = []
    for output in outputs:
        match output:
            case DraftStarted():
                names.append("draft started")
            case DraftGrew():
                if names[-1:] != ["draft grew"]:
                    names.append("draft grew")
            case DraftDiscarded():
                names.append("draft discarded")
            case Rotated():
                names.append("rotated")
            case _:
                names.append(output.type)
    return names


def only(kind: type[E], outputs: Iterable[Output]) -> list[E]:
    """Pick the events of one type."""
    return [output for output in outputs if isinstance(output, kind)]


async def tombstones(table: Table) -> list[Ref]:
    """Name the sessions that wait for the sweep."""
    return [ref async for ref, sk in work(table) if sk == SHOWN]
