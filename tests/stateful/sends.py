"""Requests that change something, and what must come of each."""

from collections.abc import Callable
from typing import Any

import httpx

from tests.stateful.expected import HELD, KEPT_SECONDS, MAX_QUEUED, PATIENCE_SECONDS, Kept, Run, Session, Waiting
from tests.stateful.shown import EXECUTE, SESSIONS, Shown


class Requests(Shown):
    """Sends, predicts, compares."""

    def _create(self, title: str, key: str | None) -> str:
        body = {"agent": "bank", "title": title}
        kept = self._kept(SESSIONS, key)
        answer = self._post(SESSIONS, body, key)
        if kept and not self._replays(kept, body, answer):
            return kept.session_id
        told = answer.json()
        if not kept:
            self.expected[told["id"]] = Session(told["id"], self.world.now)
            self._keep(SESSIONS, key, body, told["id"], [])
            self._may_repeat(key, lambda other: self._create(title + "!" * other, key))
            self._note("created")
        assert not kept or told["id"] == kept.session_id
        self._check(told["id"], listed=True)
        return str(told["id"])

    def _execute(
        self, session_id: str | None, text: str, stream: bool, key: str | None, lost: bool = False
    ) -> str | None:
        body = {"input": text, "stream": stream} | ({"session_id": session_id} if session_id else {})
        kept, session = self._kept(EXECUTE, key), self.expected.get(session_id or "")
        if kept and kept.body == body and self._at_work(kept):
            return None  # a repeated request would wait for a driver that is held
        answer = self.world.post(EXECUTE, body, key, lost=lost)
        if kept:
            assert answer is not None
            if self._replays(kept, body, answer):
                self._told(answer, kept.session_id, self._run(kept), stream)
        elif session and session.gone(self.world.now):
            self._refused(answer, 404, "session_not_found")
        elif session and session.state != "idle":
            self._refused(answer, 409, "session_busy")
            self._hinted(session, lost)
        else:
            return self._begun(session, body, key, answer, lost)
        return None

    def _begun(
        self, session: Session | None, body: dict[str, Any], key: str | None, answer: httpx.Response | None, lost: bool
    ) -> str:
        text, stream = body["input"], body["stream"]
        held = self._holds(text)
        assert held == (answer is None)
        if session is None:
            [new] = (
                [answer.headers["location"].rsplit("/", 1)[1]] if answer else self.world.clients.keys() - self.expected
            )
            session = self.expected[new] = Session(new, self.world.now)
            self._note("executed in a new session")
        session.begin(text, self.world.now, held=held, streams=stream)
        if answer:
            self._told(answer, session.id, session.run, stream)
        else:
            session.run.id = self._runs(session.id)[0]["id"]
        assert session.run.id is not None
        self._keep(EXECUTE, key, body, session.id, [session.run.id])
        session_id = body.get("session_id")
        self._may_repeat(key, lambda other: self._execute(session_id, text + " !" * other, stream, key))
        self._note(f"ran: {session.run.kind}")
        self._drain(session, lost)
        self._check(session.id, listed=True)
        return session.id

    def _send(self, session_id: str, texts: list[str], key: str | None, lost: bool = False) -> None:
        path, session = f"{SESSIONS}/{session_id}/events", self.expected[session_id]
        events = [{"type": "user.message", "content": [{"type": "text", "text": text}]} for text in texts]
        body: dict[str, Any] = {"events": events}
        kept = self._kept(path, key)
        answer = self._post(path, body, key, lost=lost)
        if len(texts) > MAX_QUEUED:
            return self._refused(answer, 422, "invalid_input")
        if session.gone(self.world.now):
            return self._refused(answer, 404, "session_not_found")
        if kept:
            if self._replays(kept, body, answer):
                assert ids(answer) == kept.ids
                self._hinted(session, lost)
            return self._check(session_id)
        if len(session.queue) + len(texts) > MAX_QUEUED:
            return self._refused(answer, 409, "queue_full")
        assert answer.status_code == 200, answer.text
        session.touched = self.world.now
        session.queue += [Waiting(id, text, self.world.now) for id, text in zip(ids(answer), texts, strict=True)]
        self._keep(path, key, body, session_id, ids(answer))
        self._may_repeat(key, lambda other: self._send(session_id, [text + " !" * other for text in texts], key))
        self._note("sent, and waits" if session.state != "idle" else "sent")
        self._hinted(session, lost)
        return self._check(session_id, listed=True)

    def _decide(
        self, session_id: str, call_id: str, attempt: int, word: str, key: str | None, lost: bool = False
    ) -> None:
        path, session = f"{SESSIONS}/{session_id}/tool_calls/{call_id}/outcome", self.expected[session_id]
        body = {"outcome": word, "attempt": attempt}
        kept, before = self._kept(path, key), session.words.get((call_id, attempt))
        answer = self._post(path, body, key, lost=lost)
        if session.gone(self.world.now):
            return self._refused(answer, 404, "session_not_found")
        if kept:
            if self._replays(kept, body, answer):
                assert ids(answer) == kept.ids
                self._hinted(session, lost)
        elif before and before[0] != word:
            self._refused(answer, 409, "outcome_decided")
        elif before:
            assert (answer.status_code, ids(answer)) == (200, before[1]), answer.text
            self._note("the same word again")
            self._hinted(session, lost)
        elif session.state == "idle" or not session.run.asks or session.run.word in ("happened", "did_not_happen"):
            self._refused(answer, 404, "tool_call_not_found")
        elif session.state != "waits":
            self._refused(answer, 409, "outcome_not_unknown")
        elif attempt != session.attempt:
            self._refused(answer, 409, "other_attempt")
        else:
            assert answer.status_code == 200, answer.text
            session.words[call_id, attempt] = (word, ids(answer))
            session.decide(word)
            self._keep(path, key, body, session_id, ids(answer))
            others = {"happened": "retry", "retry": "did_not_happen", "did_not_happen": "happened"}
            self._may_repeat(
                key, lambda other: self._decide(session_id, call_id, attempt, others[word] if other else word, key)
            )
            self._note(f"decided: {word}")
            self._hinted(session, lost)
        return self._check(session_id)

    # What comes of it.

    def _holds(self, text: str) -> bool:
        """Say whether a driver is held with this text, once."""
        held = text.split()[0] in HELD and text not in self.once
        self.once |= {text} if held else set()
        return held

    def _drain(self, session: Session, lost: bool = False) -> None:
        """Each message that waits has its turn, until a run stays open."""
        while session.queue and session.state == "idle" and not lost:
            text = session.queue.pop(0).text
            session.begin(text, self.world.now, held=self._holds(text))
            self._note(f"drained: {session.run.kind}")

    def _hinted(self, session: Session, lost: bool = False) -> None:
        """Somebody looks after the session."""
        if session.state == "dead" and session.lapses < self.world.now and not lost:
            self._note(f"taken over: {session.run.kind}")
            session.resume()
            session.touched = self.world.now
        self._drain(session, lost)

    def _swept(self) -> None:
        for session in self._alive():
            waits = any(each.since < self.world.now - PATIENCE_SECONDS for each in session.queue)
            if session.state == "dead" or waits:
                self._hinted(session)

    # Keys.

    def _text(self, word: str) -> str:
        return f"{word} {next(self.numbers)}"

    def _key(self, keyed: bool) -> str | None:
        return f"key-{next(self.numbers)}" if keyed else None

    def _kept(self, path: str, key: str | None) -> Kept | None:
        kept = self.kept.get((path, key or ""))
        return kept if kept and kept.expires > self.world.now else None

    def _keep(self, path: str, key: str | None, body: dict[str, Any], session_id: str, made: list[str]) -> None:
        if key:
            self.kept[path, key] = Kept(body, int(self.world.now) + KEPT_SECONDS, session_id, made)

    def _may_repeat(self, key: str | None, again: Callable[[bool], object]) -> None:
        if key:
            self.sent.append(again)

    def _replays(self, kept: Kept, body: dict[str, Any], answer: httpx.Response) -> bool:
        """Hold the answer to a key that was used before; say whether it is the first one's again."""
        if kept.body != body:
            self._refused(answer, 422, "idempotency_mismatch")
        elif self.expected[kept.session_id].gone(self.world.now):
            self._refused(answer, 404, "session_not_found")
        else:
            assert answer.status_code == 200, answer.text
            assert answer.headers["idempotent-replayed"] == "true"
            self._note("replayed")
            return True
        return False

    def _run(self, kept: Kept) -> Run:
        return next(run for run in self.expected[kept.session_id].runs if run.id == kept.ids[0])

    def _at_work(self, kept: Kept) -> bool:
        session = self.expected[kept.session_id]
        return session.run.id == kept.ids[0] and session.state in ("held", "dead")

    def _post(self, path: str, body: dict[str, Any], key: str | None, *, lost: bool = False) -> httpx.Response:
        answer = self.world.post(path, body, key, lost=lost)
        assert answer is not None
        return answer

    def _call(self, session_id: str) -> str:
        if self.expected[session_id].gone(self.world.now):
            return "sevt_9999"
        asked: dict[str, Any] = {"types[]": "agent.tool_use"}
        uses = self._rows(f"{SESSIONS}/{session_id}/events", **asked)
        return str(uses[-1]["id"]) if uses else "sevt_9999"


def ids(answer: httpx.Response) -> list[str]:
    """Name what an answer has as `data`."""
    return [row["id"] for row in answer.json().get("data", [])]
