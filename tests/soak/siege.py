"""The course of one arrangement: customers at work, faults among the processes, rest, and the verdict."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx

from tests.e2e.processes import Process, fake_anthropic, running
from tests.soak import ledger, logs, recovery, verdict
from tests.soak.asking import Asking, GaveUp
from tests.soak.book import Book, Violation
from tests.soak.customers import AGENT, Customer
from tests.soak.faults import Attacker
from tests.soak.fleet import Fleet, Kind, arrangement
from tests.soak.ledger import Effect
from tests.soak.logs import Log
from tests.soak.person import Person
from tests.soak.report import Report

CUSTOMERS = 6
PROGRESS_SECONDS = 10.0
GRACE_SECONDS = 5.0
"""For customers to notice that the time for trying is over."""
BUSY = "run_status=planning&run_status=executing&run_status=waiting_approval"
AT_REST = {None, "completed", "completed_with_errors", "error"}


@dataclass
class Siege:
    """One arrangement under siege."""

    fleet: Fleet
    model: Process
    seed: int
    say: Callable[[str], None]
    book: Book = field(default_factory=Book)
    refusals: dict[int, str] = field(default_factory=dict)
    """What the model refused with 400, by the number of its request."""
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)
        self.asking = Asking(self.fleet, self.book, Random(self.random.random()))
        self.attacker = Attacker(self.fleet, Random(self.random.random()))

    async def last(self, seconds: float, least: int) -> None:
        """Let it go on for so long, and until enough has come of it; then wait until all has come to rest."""
        leaving, decided = asyncio.Event(), asyncio.Event()
        customers = [Customer(f"c{n}", self.asking, Random(self.random.random()), leaving) for n in range(CUSTOMERS)]
        person = Person(self.asking, Random(self.random.random()), decided)
        at_work = [asyncio.create_task(customer.visit()) for customer in customers]
        deciding = asyncio.create_task(person.decide())
        attack = asyncio.create_task(self.attacker.attack())
        end = time.monotonic() + seconds
        while ((left := end - time.monotonic()) > 0 or not self._enough(least)) and not attack.done():
            await asyncio.wait({attack}, timeout=min(PROGRESS_SECONDS, max(1.0, left)))
            await self._look()
        self.attacker.stopped.set()
        leaving.set()
        await attack
        await self._come_to_rest(at_work)
        decided.set()
        await deciding

    def _enough(self, least: int) -> bool:
        """Say whether that many processes were killed, and runs taken over, and with several servers one frozen."""
        kills, freezes = self.faults()
        frozen = freezes > 0 or self.fleet.kind == "sqlite" or least == 0
        return kills >= least and frozen and self.fleet.taken_over() >= least

    async def _come_to_rest(self, at_work: list["asyncio.Task[None]"]) -> None:
        """Wait for the customers, and then for every run and message; not for longer than the bound."""
        bound = self.fleet.drain_seconds
        self.say(f"{self.fleet.kind}: no more faults; at most {bound:.0f} s for what is under way")
        end = time.monotonic() + bound
        await asyncio.wait(at_work, timeout=bound)
        left = set(await logs.all_sessions(self.asking))
        while time.monotonic() < end:
            left = {session_id for session_id in left if not await self._rests(session_id)}
            jobs = self.fleet.jobs.waiting() if self.fleet.jobs else 0
            if not left and not jobs:
                break
            await asyncio.sleep(0.5)
            left |= set(await self._busy()) if jobs else set()
        self.asking.over.set()
        _, late = await asyncio.wait(at_work, timeout=GRACE_SECONDS)
        for task in late:
            self.book.complain("not over", None, "a customer still follows a run")
            task.cancel()
        for outcome in await asyncio.gather(*at_work, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome  # a slip of ours

    async def _rests(self, session_id: str) -> bool:
        answer = await self.asking.insist("GET", f"/v1/sessions/{session_id}")
        return answer.status_code == 404 or answer.json().get("run_status") in AT_REST

    async def _busy(self) -> list[str]:
        answer = await self.asking.insist("GET", f"/v1/sessions?{BUSY}&limit=100")
        return [session["id"] for session in answer.json()["data"]]

    async def _look(self) -> None:
        """Say how it goes, and keep what the model refused before it forgets."""
        async with httpx.AsyncClient(timeout=30) as http:
            entries: list[dict[str, Any]] = (await http.get(f"{self.model.url}/_requests")).json()
        self.refusals |= {entry["number"]: entry["error"] for entry in entries if entry["status"] == 400}
        for member in self.fleet.members:
            if member.died:
                raise RuntimeError(f"{member.life} has ended by itself: see {member.output}")
        kills, freezes = self.faults()
        told = (
            f"{len(self.book.sessions)} sessions, {len(self.book.accepted)} messages, {kills} kills, {freezes} freezes"
        )
        self.say(f"{self.fleet.kind} {time.monotonic() - self.began:4.0f} s: {told}")

    def faults(self) -> tuple[int, int]:
        """Count kills and freezes."""
        faults = [fault for member in self.fleet.members for fault in member.faults]
        freezes = sum(fault.kind == "freeze" for fault in faults)
        return len(faults) - freezes, freezes

    async def judge(self, seconds: float) -> Report:
        """Read every log and hold it against what was promised."""
        await self._look()
        self.asking.over.clear()  # all is up, and reading takes as long as it takes
        found = await logs.read_all(self.asking, await logs.all_sessions(self.asking))
        effects = ledger.read(self.fleet.folder / "ledger.jsonl")
        violations = list(verdict.examine(self.book, found, effects))
        violations += [Violation("refused by the model", "-", told) for told in self.refusals.values()]
        recovered = recovery.measure(self.fleet, self.book, found)
        violations += recovered.violations
        asyncio.get_running_loop().call_later(60 + len(found) / 2, self.asking.over.set)
        for session_id in found:
            violations += await self._unusable(session_id)
        for session_id in self.book.deleted:
            violations += await self._undead(session_id)
        figures = self._figures(found, effects, recovered)
        p50, p100 = recovered.quantile(0.5), recovered.quantile(1)
        times = (p50, p100, self.fleet.recovery_bound)
        return Report(self.fleet.kind, self.seed, seconds, self.fleet.folder, figures, times, violations)

    async def _unusable(self, session_id: str) -> list[Violation]:
        body = {"input": "[[count]]", "session_id": session_id, "stream": False}
        path = f"/v1/agents/{AGENT}/execute"
        try:
            answer = await self.asking.insist("POST", path, f"last-{session_id}", json=body, timeout=30)
        except GaveUp:
            return [Violation("session unusable", session_id, "no answer")]
        usable = answer.status_code == 200 and answer.json()["status"] == "completed"
        return [] if usable else [Violation("session unusable", session_id, answer.text[:200])]

    async def _undead(self, session_id: str) -> list[Violation]:
        asked = [f"/v1/sessions/{session_id}{rest}" for rest in ("", "/events", "/runs", "/events/stream?until=idle")]
        try:
            answers = [await self.asking.insist("GET", path) for path in asked]
        except GaveUp:
            return [Violation("deleted, yet there", session_id, "no answer")]
        alive = [f"{answer.status_code} {path}" for answer, path in zip(answers, asked, strict=True)]
        return [Violation("deleted, yet there", session_id, told) for told in alive if not told.startswith("404")]

    def _figures(
        self, found: Mapping[str, Log], effects: list[Effect], recovered: recovery.Recoveries
    ) -> dict[str, int]:
        kinds = Counter(event.type for log in found.values() for event in log.events)
        tools = Counter(effect.tool for effect in effects)
        rescheduled = Counter(
            event.data["reason"] for log in found.values() for event in log.of("session.status_rescheduled")
        )
        kills, freezes = self.faults()
        return {
            "kills": kills,
            "freezes": freezes,
            "accepted messages": len(self.book.accepted),
            "accepted jobs": sum(accepted.door == "job" for accepted in self.book.accepted.values()),
            "sessions": len(found),
            "sessions deleted": len(self.book.deleted),
            "runs": kinds["run.started"],
            "runs failed": kinds["run.failed"],
            "runs taken over": recovered.taken_over,
            "runs handed over": rescheduled["handed_over"],
            "drivers hit, measured": len(recovered.seconds),
            "freezes survived by drivers": recovered.went_on,
            "model calls tried again": rescheduled["model_retry"],
            "effects not safe to repeat": tools["charge"],
            "effects idempotent": tools["book"],
            "reads": tools["look"],
            "outcomes unknown": kinds["tool.outcome_unknown"],
            "a person's words": len(self.book.words),
            "streams followed": len(self.book.streams),
            "streams cut": sum(stream.cuts for stream in self.book.streams),
            "sessions watched whole": sum(stream.whole for stream in self.book.streams),
            "requests sent again": self.book.retries,
            "dead letters": self.fleet.jobs.dead() if self.fleet.jobs else 0,
        }


async def besiege(
    kind: Kind, seconds: float, seed: int, folder: Path, say: Callable[[str], None], least: int = 0
) -> Report:
    """Besiege an arrangement for so long, and until at least so many kills and take-overs were seen; then report."""
    with running(fake_anthropic) as model:
        async with arrangement(kind, folder, model) as fleet:
            siege = Siege(fleet, model, seed, say)
            async with siege.asking.http:
                await siege.last(seconds, least)
                return await siege.judge(seconds)
