"""The person who is asked when an outcome is unknown: reads the ledger, says what is true, and never guesses."""

import asyncio
from dataclasses import dataclass, field
from random import Random
from time import time
from typing import Any

from tests.soak import ledger
from tests.soak.asking import Asking, GaveUp
from tests.soak.book import Book

LATE_SECONDS = 2.0
"""A process that was thawed, or is only slow, has made by then whatever call it had begun."""


@dataclass
class Person:
    """Decides all that waits, until told to stop."""

    asking: Asking
    random: Random
    stopped: asyncio.Event
    seen: dict[tuple[str, int], float] = field(default_factory=dict)
    """When a call, in this attempt, was first known to be unknown."""

    @property
    def book(self) -> Book:
        """Where promises are written down."""
        return self.asking.book

    async def decide(self) -> None:
        """Look again and again for what waits."""
        try:
            while not self.stopped.is_set():
                await self._round()
                await asyncio.sleep(0.5)
        except GaveUp:
            return

    async def _round(self) -> None:
        waiting = await self.asking.insist("GET", "/v1/sessions?run_status=waiting_approval&limit=100")
        for session in waiting.json()["data"]:
            for call_id, attempt in await self._unknown(session["id"]):
                self.seen.setdefault((call_id, attempt), time())
                if self._is_certain(self.seen[call_id, attempt]):
                    await self._say(session["id"], call_id, attempt)

    async def _unknown(self, session_id: str) -> list[tuple[str, int]]:
        """Return the calls of a session whose outcome is unknown, with the attempt in question."""
        types = "types[]=tool.outcome_unknown&types[]=tool.outcome_decided"
        answer = await self.asking.insist("GET", f"/v1/sessions/{session_id}/events?limit=100&{types}")
        events: list[dict[str, Any]] = answer.json()["data"] if answer.status_code == 200 else []
        open_calls: dict[tuple[str, int], bool] = {}
        for event in events:
            open_calls[event["tool_use_id"], event["attempt"]] = event["type"] == "tool.outcome_unknown"
        return [call for call, is_open in open_calls.items() if is_open]

    def _is_certain(self, seen_at: float) -> bool:
        """Say whether nobody who had begun the call can still act on it."""
        now = time()
        faults = [fault for member in self.asking.fleet.members for fault in member.faults if fault.at <= seen_at]
        return now > seen_at + LATE_SECONDS and not any(
            fault.kind == "freeze" and (fault.until is None or fault.until + LATE_SECONDS > now) for fault in faults
        )

    async def _say(self, session_id: str, call_id: str, attempt: int) -> None:
        effects = ledger.read(self.asking.fleet.folder / "ledger.jsonl")
        happened = any(effect.tool_use_id == call_id for effect in effects)
        otherwise = self.random.choice(["did_not_happen", "retry"])
        word = self.book.words.setdefault((call_id, attempt), "happened" if happened else otherwise)
        body: dict[str, Any] = {"outcome": word, "attempt": attempt}
        if word == "happened":
            body["result"] = "The ledger has it."
        path, key = f"/v1/sessions/{session_id}/tool_calls/{call_id}/outcome", f"{call_id}-{attempt}"
        answer = await self.asking.insist("POST", path, key, json=body)
        if answer.status_code != 200 and session_id not in self.book.deleted:
            self.book.complain("word refused", session_id, f"{call_id} attempt {attempt}: {answer.text}")
