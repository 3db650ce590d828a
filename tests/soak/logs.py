"""What Parley says happened: the logs of all sessions, read over HTTP when all has come to rest."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.soak.asking import Asking

AT_ONCE = 4
CLOSED = ("run.finished", "run.failed")


@dataclass(frozen=True)
class Event:
    """One event of a log."""

    seq: int
    type: str
    at: float
    run_id: str | None
    data: dict[str, Any]


@dataclass(frozen=True)
class Log:
    """A session's log, and the messages that still wait beside it."""

    session_id: str
    events: tuple[Event, ...]
    waiting: tuple[str, ...]

    def of(self, *types: str) -> list[Event]:
        """Return the events of some types."""
        return [event for event in self.events if event.type in types]

    def runs(self) -> dict[str, list[Event]]:
        """Return the events of each run, in order."""
        runs: dict[str, list[Event]] = {}
        for event in self.events:
            if event.run_id:
                runs.setdefault(event.run_id, []).append(event)
        return runs


def text_of(event: dict[str, Any]) -> str:
    """Join what an event's content says."""
    return "".join(block["text"] for block in event["content"])


async def all_sessions(asking: Asking) -> list[str]:
    """List every session that there is."""
    found: list[str] = []
    page = ""
    while True:
        answer = (await asking.insist("GET", f"/v1/sessions?limit=100{page}")).json()
        found += [session["id"] for session in answer["data"]]
        if not answer["has_more"]:
            return found
        page = f"&page={answer['next_page']}"


async def read_all(asking: Asking, sessions: list[str]) -> dict[str, Log]:
    """Read the log of every session that is there."""
    few = asyncio.Semaphore(AT_ONCE)

    async def read(session_id: str) -> Log | None:
        async with few:
            return await _read(asking, session_id)

    logs = await asyncio.gather(*map(read, sessions))
    return {log.session_id: log for log in logs if log}


async def _read(asking: Asking, session_id: str) -> Log | None:
    rows: list[dict[str, Any]] = []
    after = 0
    while True:
        answer = await asking.insist("GET", f"/v1/sessions/{session_id}/events?limit=100&after={after}")
        if answer.status_code == 404:
            return None
        page = answer.json()
        rows += page["data"]
        if not page["has_more"]:
            break
        after = rows[-1]["seq"]
    waiting = tuple(text_of(row) for row in rows if not row.get("seq"))
    return Log(session_id, tuple(_event(row) for row in rows if row.get("seq")), waiting)


def _event(row: dict[str, Any]) -> Event:
    at = datetime.fromisoformat(row["created_at"]).timestamp()
    return Event(row["seq"], row["type"], at, row.get("run_id"), row)
