"""The rules: what clients, people, clocks and faults may do to the API, and what must come of it."""

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from tests.stateful.expected import LEASE_SECONDS, Session
from tests.stateful.sends import Requests
from tests.stateful.shown import SESSIONS, pick

WORDS = st.sampled_from(
    ["say", "say", "pay", "stumble", "refuse", "break", "lose", "lose", "doubt", "hold", "hold", "hold-pay", "hold-pay"]
)
OUTCOMES = st.sampled_from(["happened", "did_not_happen", "retry"])
ANY = st.integers(0, 127)
SOMETIMES = st.sampled_from([False, False, False, True])

HOUR, DAY = 3600, 86_400


class Api(Requests):
    """The whole API against a few plain lists."""

    # Creating and executing.

    @precondition(lambda self: len(self._alive()) < 3)
    @rule(keyed=st.booleans())
    def create(self, keyed: bool) -> None:
        self._create(f"title {next(self.numbers)}", self._key(keyed))

    @precondition(lambda self: len(self._alive()) < 5)
    @rule(word=WORDS, stream=st.booleans(), keyed=st.booleans())
    def execute(self, word: str, stream: bool, keyed: bool) -> None:
        self._execute(None, self._text(word), stream, self._key(keyed))

    @precondition(lambda self: self.expected)
    @rule(nth=ANY, word=WORDS, stream=st.booleans(), keyed=st.booleans(), lost=SOMETIMES)
    def go_on(self, nth: int, word: str, stream: bool, keyed: bool, lost: bool) -> None:
        self._execute(self._any(nth).id, self._text(word), stream, self._key(keyed), lost)

    @precondition(lambda self: self.expected)
    @rule(nth=ANY, words=st.lists(WORDS, min_size=1, max_size=3), keyed=st.booleans(), lost=SOMETIMES)
    def send(self, nth: int, words: list[str], keyed: bool, lost: bool) -> None:
        self._send(self._any(nth).id, list(map(self._text, words)), self._key(keyed), lost)

    @precondition(lambda self: self.any("held", "dead", "waits"))
    @rule(nth=ANY, count=st.sampled_from([20, 33]))
    def send_many(self, nth: int, count: int) -> None:
        busy = pick(self.any("held", "dead", "waits"), nth)
        self._send(busy.id, [self._text("break") for _ in range(count)], None)

    @precondition(lambda self: self.sent)
    @rule(nth=ANY, other=st.booleans())
    def send_again(self, nth: int, other: bool) -> None:
        pick(self.sent, nth)(other)

    # A person's word.

    @precondition(lambda self: self.any("waits"))
    @rule(nth=ANY, word=OUTCOMES, keyed=st.booleans(), lost=SOMETIMES)
    def decide(self, nth: int, word: str, keyed: bool, lost: bool) -> None:
        session = pick(self.any("waits"), nth)
        self._decide(session.id, self._call(session.id), session.attempt, word, self._key(keyed), lost)

    @precondition(lambda self: any(session.words for session in self.expected.values()))
    @rule(nth=ANY, word=OUTCOMES)
    def decide_again(self, nth: int, word: str) -> None:
        said = [(session.id, *place) for session in self.expected.values() for place in session.words]
        session_id, call_id, attempt = pick(said, nth)
        self._decide(session_id, call_id, attempt, word, None)

    @precondition(lambda self: self.expected)
    @rule(nth=ANY, word=OUTCOMES)
    def decide_on_another_attempt(self, nth: int, word: str) -> None:
        session = self._any(nth)
        self._decide(session.id, self._call(session.id), 7, word, None)

    # Drivers.

    @precondition(lambda self: self.any("held"))
    @rule(nth=ANY)
    def release(self, nth: int) -> None:
        self._release(pick(self.any("held"), nth))

    def _release(self, session: Session) -> None:
        run, stream = session.run, session.run.streams
        answer = self.world.release(session.id, run.text)
        session.finish()
        if answer:
            self._told(answer, session.id, run, stream)
        self._note(f"released: {run.kind}")
        session.touched = self.world.now
        self._drain(session)
        self._check(session.id)

    @precondition(lambda self: self.any("held"))
    @rule(nth=ANY)
    def leave(self, nth: int) -> None:
        self.world.leave(pick(self.any("held"), nth).id)
        self._note("a client left")

    @precondition(lambda self: self.any("held"))
    @rule(nth=ANY)
    def kill(self, nth: int) -> None:
        session = pick(self.any("held"), nth)
        self._kill(session)
        self._check(session.id)

    def _kill(self, session: Session) -> None:
        self.world.kill(session.id)
        session.die(self.world.now + LEASE_SECONDS)
        self._note(f"killed: {session.run.kind}")

    @precondition(lambda self: self.any("held"))
    @rule()
    def freeze_and_thaw(self) -> None:
        """Every driver at work stands still until others have taken its run, then goes on where it was."""
        frozen = self.any("held")
        self.world.freeze(LEASE_SECONDS + 1)
        for session in frozen:
            session.die(0.0)
        self.world.sweep()
        self._swept()
        for session in frozen:
            run = next(run for run in session.runs if run.text in self.world.gates.held)
            answer = self.world.release(session.id, run.text)
            if answer:
                self._told(answer, session.id, run, run.streams)
            self._note(f"frozen: {run.kind}")
        for session in frozen:
            self._check(session.id)

    # Time, and the end.

    @rule(seconds=st.sampled_from([40, 40, HOUR, 26 * HOUR]))
    def wait(self, seconds: int) -> None:
        self.world.advance(seconds)

    @rule()
    def sweep(self) -> None:
        self.world.sweep()
        self._swept()

    @precondition(lambda self: len(self._alive()) > 2 and len(self._alive()) == len(self.expected))
    @rule()
    def a_month_passes(self) -> None:
        for session in self.any("held"):
            self._kill(session)
        alive = self._alive()
        self.world.advance(31 * DAY)
        for session in alive:
            self._note(f"expired: {session.state}")
            self._check(session.id)
        self._check_list()

    @precondition(lambda self: len(self._alive()) > 1)
    @rule(nth=ANY)
    def delete(self, nth: int) -> None:
        session = self._any(nth)
        session_id = session.id
        answer = self.world.do(self.world.http.delete(f"{SESSIONS}/{session_id}"))
        if session.gone(self.world.now):
            return self._refused(answer, 404, "session_not_found")
        assert answer.json() == {"id": session_id, "type": "session_deleted"}
        session.deleted = True
        self._note(f"deleted: {session.state}")
        if session.state == "held":
            session.run.status = "error"
            told, stream = self.world.release(session_id, session.run.text), session.run.streams
            if told:
                self._told(told, session_id, session.run, stream)
        return self._check(session_id, listed=True)

    @precondition(lambda self: any(not session.removed for session in self._gone()))
    @rule()
    def long_after(self) -> None:
        """Three rounds of the sweeper (it ends, clears, removes) leave nothing of what has ended."""
        for _ in range(3):
            self.world.sweep()
            self._swept()
            self.world.advance(HOUR)
        for session in self._gone():
            assert self.world.rows(session.id) == []
            session.removed = True
            self._note("nothing is left")
        for session in self._alive():
            self._check(session.id)

    # What anybody may see.

    @precondition(lambda self: self.expected)
    @rule(nth=ANY, who=st.integers(0, 1), path=st.sampled_from(["", "/events", "/messages", "/runs"]))
    def strangers_see_nothing(self, nth: int, who: int, path: str) -> None:
        session_id, stranger = self._any(nth).id, self.world.strangers[who]
        foreign = self.world.get(f"{SESSIONS}/{session_id}{path}", as_=stranger)
        unknown = self.world.get(f"{SESSIONS}/sesn_9999{path}", as_=stranger)
        for refusal in (foreign, unknown):
            self._refused(refusal, 404, "session_not_found")
        assert foreign.json().keys() == unknown.json().keys()
        assert foreign.json()["detail"].replace(session_id, "sesn_9999") == unknown.json()["detail"]
        assert self.world.get(SESSIONS, as_=stranger).json()["data"] == []
        self._note("a stranger asked")

    @precondition(lambda self: self._alive())
    @rule(
        nth=ANY,
        limit=st.integers(1, 7),
        order=st.sampled_from(["asc", "desc"]),
        path=st.sampled_from(["", "/events", "/messages", "/runs"]),
    )
    def turn_pages(self, nth: int, limit: int, order: str, path: str) -> None:
        path = f"{SESSIONS}/{pick(self._alive(), nth).id}{path}" if path else SESSIONS
        whole = [row["id"] for row in self._rows(path, order=order)]
        assert [row["id"] for row in self._rows(path, order=order, limit=limit)] == whole
        self._note("more than a page" if len(whole) > limit else "one page")
