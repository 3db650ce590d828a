"""Holding what the API shows against what is expected."""

import itertools
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import httpx
from hypothesis.stateful import RuleBasedStateMachine

from tests.stateful.expected import Kept, Message, Run, Session
from tests.stateful.world import World

T = TypeVar("T")

SESSIONS, EXECUTE = "/v1/sessions", "/v1/agents/bank/execute"


class Shown(RuleBasedStateMachine):
    """The world, a few plain lists, and how they compare."""

    fired: ClassVar[Counter[str]] = Counter()
    """What has come about, over all examples."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.world = World(Path(self.folder.name))
        self.expected: dict[str, Session] = {}
        self.kept: dict[tuple[str, str], Kept] = {}
        self.sent: list[Callable[[bool], object]] = []
        """Requests with a key, to be sent again: the same, or another one under the same key."""
        self.logs: dict[str, list[str]] = {}
        self.once: set[str] = set()
        """Texts that have held a driver."""
        self.numbers = itertools.count(1)

    def teardown(self) -> None:
        problems = self.world.model.problems
        self.world.close()
        self.folder.cleanup()
        assert problems == []

    def _any(self, nth: int) -> Session:
        """Choose a session, the newest first; now and then one that is gone."""
        among = self._alive()[::-1] if nth % 8 else list(self.expected.values())
        return pick(among or list(self.expected.values()), nth // 8)

    def any(self, *states: str) -> list[Session]:
        """Find the sessions that are in one of these states."""
        return [session for session in self._alive() if session.state in states]

    def _alive(self) -> list[Session]:
        return [session for session in self.expected.values() if not session.gone(self.world.now)]

    def _gone(self) -> list[Session]:
        return [session for session in self.expected.values() if session.gone(self.world.now)]

    # Comparing.

    def _check(self, session_id: str, *, listed: bool = False) -> None:
        """Hold all that is shown of a session against what is expected."""
        session, path = self.expected[session_id], f"{SESSIONS}/{session_id}"
        if session.gone(self.world.now):
            question = ("", "/events", "/messages", "/runs")[next(self.numbers) % 4]
            self._refused(self.world.get(f"{path}{question}"), 404, "session_not_found")
        else:
            shown = self.world.get(path).json()
            assert (shown["status"], shown["run_status"]) == session.status(), (shown, session)
            assert [message_of(row) for row in self._rows(f"{path}/messages")] == session.messages
            runs = [(row["input"], row["status"], row["id"]) for row in self._runs(session_id)[::-1]]
            for run, (_, _, run_id) in zip(session.runs, runs, strict=True):
                run.id = run.id or run_id
            assert [(run_id, text) for text, _, run_id in runs] == [(run.id, run.text) for run in session.runs]
            closed = session.runs[: len(runs) - (session.state in ("held", "dead"))]
            assert [status for _, status, _ in runs][: len(closed)] == [run.status for run in closed]
            self._check_log(session)
        if listed:
            self._check_list()

    def _check_log(self, session: Session) -> None:
        events = self._rows(f"{SESSIONS}/{session.id}/events")
        log = [event for event in events if "seq" in event]
        names = [event["id"] for event in log]
        assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
        assert len(set(names)) == len(names)
        assert names[: len(self.logs.get(session.id, []))] == self.logs.get(session.id, [])
        assert [event["id"] for event in events if "seq" not in event] == [each.id for each in session.queue]
        self.logs[session.id] = names
        for call_id in (event["id"] for event in log if event["type"] == "agent.tool_use"):
            retries = [word for (call, _), (word, _) in session.words.items() if (call, word) == (call_id, "retry")]
            assert self.world.tools.made[call_id] <= 1 + len(retries)

    def _check_list(self) -> None:
        shown = self._rows(SESSIONS)
        places = [(row["updated_at"], row["id"]) for row in shown]
        assert {row["id"] for row in shown} == {session.id for session in self._alive()}
        assert places == sorted(set(places), reverse=True)

    def _told(self, answer: httpx.Response, session_id: str, run: Run, stream: bool) -> None:
        """Hold the answer to `execute` against what came of the run."""
        assert answer.status_code == 200, answer.text
        if stream:
            name, told = last_frame(answer.text)
            assert name == ("error" if run.status == "error" else "complete")
        else:
            told = answer.json()
        assert told.get("status", "error") == run.status
        assert told["session_id"] == session_id
        run.id = run.id or told["run_id"]
        assert told["run_id"] == run.id

    def _refused(self, answer: httpx.Response | None, status: int, code: str) -> None:
        assert answer is not None
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        self._note(f"refused: {code}")

    def _rows(self, path: str, limit: int = 100, **params: Any) -> list[dict[str, Any]]:
        """Read a list, page by page."""
        rows: list[dict[str, Any]] = []
        page: dict[str, Any] = {}
        while True:
            found = self.world.get(path, limit=limit, **params, **page).json()
            rows += found["data"]
            if not found["has_more"]:
                return rows
            page = {"page": found["next_page"]}

    def _runs(self, session_id: str) -> list[dict[str, Any]]:
        return self._rows(f"{SESSIONS}/{session_id}/runs")

    def _note(self, what: str) -> None:
        self.fired[what] += 1


def pick(among: list[T], nth: int) -> T:
    """Choose one."""
    return among[nth % len(among)]


def message_of(row: dict[str, Any]) -> Message:
    """Read a message as it is shown."""
    [block] = row["content"]
    match block["type"]:
        case "tool_use":
            return row["role"], block["name"]
        case "tool_result":
            return row["role"], block["is_error"]
        case _:
            return row["role"], block["text"]


def last_frame(text: str) -> tuple[str, dict[str, Any]]:
    """Read the last frame of a stream."""
    fields = dict(line.split(": ", 1) for line in text.strip().split("\n\n")[-1].split("\n"))
    return fields["event"], json.loads(fields["data"])
