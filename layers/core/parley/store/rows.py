"""Runs as rows: the execution log that people page through. A projection; the events are the truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parley.core.agent import Agent
from parley.core.control import RunCancelled
from parley.core.errors import NotFound
from parley.core.event import Event, RunFailed, RunFinished, UserMessage
from parley.core.session import Session
from parley.core.status import Phase
from parley.core.value import Usage, text_of
from parley.ports import Item, Table, Update
from parley.store.head import milliseconds
from parley.store.keys import AFTER, RUN, Ref, work_keys

MAX_ID_LENGTH = 64

INPUT_CHARACTERS = 500
"""Of the message that began the run; the whole of it is in the log."""

WITHOUT_WORDS = "[image]"
"""Shown as the input of a run whose message has images only."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run of a session; times are epoch milliseconds."""

    id: str
    agent_id: str
    agent_version: int
    input: str
    started_ms: int
    first_seq: int
    task_id: str | None = None
    phase: Phase = "planning"
    ended_ms: int | None = None
    last_seq: int | None = None
    stop_reason: str | None = None
    error_code: str | None = None
    error_message: str | None = None
    usage: Usage = Usage()
    cost: int = 0
    """Micro-dollars."""

    @classmethod
    def begun(cls, session: Session, agent: Agent, opening: Sequence[Event], now_ms: int) -> "RunRow":
        """Describe a run that was just claimed; the first event of its opening is the message."""
        run, message = session.run, opening[0]
        assert run is not None, "a claim has a run"  # noqa: S101 - narrows a type
        assert isinstance(message, UserMessage), "a message begins a run"  # noqa: S101 - narrows a type
        text = text_of(message.content)[:INPUT_CHARACTERS] or WITHOUT_WORDS
        return cls(run.id, agent.id, agent.version, text, now_ms, message.seq, run.task_id)

    def item(self, ref: Ref) -> Item:
        """Write the row of an open run: it is in the index `work`."""
        key = ref.run(self.id)
        return {
            "PK": key.pk,
            "SK": key.sk,
            "id": self.id,
            "agent_id": self.agent_id,
            "agent_version": self.agent_version,
            "input": self.input,
            "started_ms": self.started_ms,
            "first_seq": self.first_seq,
            "task_id": self.task_id,
            "phase": self.phase,
            **work_keys(ref, key.sk),
        }

    @classmethod
    def of(cls, item: Item) -> "RunRow":
        """Read the row."""
        fields: dict[str, Any] = {name: item[name] for name in cls.__slots__ if name in item}
        return cls(**fields | {"usage": Usage.model_validate(item.get("usage") or {})})


def settled(ref: Ref, after: Session, placed: tuple[Event, ...], now_ms: int) -> Update:
    """Make the update that closes or parks the row of the session's run."""
    run = after.run
    assert run is not None, "only a run settles"  # noqa: S101 - narrows a type
    changes: dict[str, Any] = {
        "phase": after.phase,
        "last_seq": placed[-1].seq,
        "usage": run.usage.model_dump(exclude_defaults=True),
        "cost": run.cost,
    }
    for event in placed:
        match event:
            case RunFinished():
                changes["stop_reason"] = event.stop_reason
            case RunFailed():
                changes |= {"error_code": event.code, "error_message": event.message}
            case RunCancelled():
                changes["stop_reason"] = event.reason
            case _:
                pass
    if run.open:
        return Update(ref.run(run.id), set=changes)
    started = milliseconds(run.started_at)
    return Update(ref.run(run.id), set=changes | {"ended_ms": max(now_ms, started)}, remove=("work_pk", "work_sk"))


async def run_row(table: Table, ref: Ref, run_id: str) -> RunRow:
    """Read one row.

    Raises:
        NotFound: the session has no such run.
    """
    item = await table.get(ref.run(run_id)) if len(run_id) <= MAX_ID_LENGTH else None
    if item is None:
        raise NotFound("run", run_id[:64])
    return RunRow.of(item)


async def runs(
    table: Table, ref: Ref, *, limit: int, newest_first: bool, after: str | None
) -> tuple[list[RunRow], bool]:
    """Read rows in the order they began, behind the run `after`; say whether there are more."""
    lower, upper = RUN, RUN + AFTER
    if after and newest_first:
        upper = RUN + after
    elif after:
        lower = RUN + after
    found: list[RunRow] = []
    cursor: Item | None = None
    while len(found) <= limit:
        page = await table.query(
            ref.pk, first=lower, last=upper, limit=limit + 2, newest_first=newest_first, cursor=cursor
        )
        found += [RunRow.of(item) for item in page.items if item["id"] != after]
        cursor = page.cursor
        if cursor is None:
            break
    return found[:limit], len(found) > limit
