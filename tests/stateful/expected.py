"""What the API ought to show: sessions as plain lists, and what each word of a message makes of one.

Knows nothing of events, claims or rows. A message begins with its word, and the fake model does what the word says.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

KEPT_SECONDS = 25 * 3600
TTL_SECONDS = 30 * 86_400
LEASE_SECONDS = 32
"""With the margin for clocks."""

PATIENCE_SECONDS = 30
"""The sweeper gives a hint about a message that has waited for longer."""

MAX_QUEUED = 32

Message = tuple[str, Any]
"""Who says it, and what: text, a call by its name, or whether the result is an error."""

SAID: Message = ("assistant", "said")
USE: Message = ("assistant", "pay")
RESULT: Message = ("tool", False)
NO_RESULT: Message = ("tool", True)

ENDS: dict[str, tuple[list[Message], str]] = {
    "say": ([SAID], "completed"),
    "pay": ([USE, RESULT, SAID], "completed"),
    "stumble": ([SAID], "completed"),
    "refuse": ([SAID], "error"),
    "break": ([], "error"),
    "lose": ([USE], "waiting_approval"),
    "doubt": ([USE], "waiting_approval"),
    "hold": ([SAID], "completed"),
    "hold-pay": ([USE, RESULT, SAID], "completed"),
}
"""What a run says, and how it stands then, when nothing holds it up."""

HELD: dict[str, tuple[list[Message], str]] = {"hold": ([], "planning"), "hold-pay": ([USE], "executing")}
"""What a run has said, and how it stands, while the model or the tool keeps its driver."""


@dataclass
class Run:
    """One message, and how far it has come."""

    text: str
    status: str = "planning"
    id: str | None = None
    word: str | None = None
    """A person's, on the attempt that is in question."""

    streams: bool = True
    """Whether its client reads a stream."""

    @property
    def kind(self) -> str:
        """The word that the message begins with."""
        return self.text.split()[0]

    @property
    def asks(self) -> bool:
        """Whether its call may come into question."""
        return self.kind in ("lose", "doubt", "hold-pay")


@dataclass
class Waiting:
    """A message that waits for its turn."""

    id: str
    text: str
    since: float


State = Literal["idle", "held", "dead", "waits"]
"""No run is open; a driver is at work; a run is open without a driver; a run waits for a person."""


@dataclass
class Session:
    """One session."""

    id: str
    touched: float
    state: State = "idle"
    deleted: bool = False
    removed: bool = False
    """Whether the sweeper has left nothing of it."""
    lapses: float = 0.0
    """When a dead driver's lease is over for certain."""
    messages: list[Message] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    queue: list[Waiting] = field(default_factory=list)
    attempt: int = 1
    words: dict[tuple[str, int], tuple[str, list[str]]] = field(default_factory=dict)
    """By call and attempt: what a person said, and the ids of the events that it made."""

    @property
    def run(self) -> Run:
        """The run that is open, or the last one."""
        return self.runs[-1]

    def gone(self, now: float) -> bool:
        """Whether nobody may see it any more."""
        return self.deleted or now - self.touched > TTL_SECONDS

    def status(self) -> tuple[str, str | None]:
        """The session's status, and its run's."""
        if self.queue and self.state != "waits":
            return "running", "executing_queued"
        if self.state in ("held", "dead"):
            return "running", self.run.status
        return "idle", self.run.status if self.runs else None

    def begin(self, text: str, now: float, *, held: bool, streams: bool = True) -> None:
        """A message becomes a run, and goes as far as it can."""
        self.runs.append(Run(text, streams=streams))
        self.messages.append(("user", text))
        self.touched, self.attempt = now, 1
        self._go(*(HELD if held else ENDS)[self.run.kind], "held" if held else None)

    def finish(self) -> None:
        """The driver that was held goes on."""
        whole, status = ENDS[self.run.kind]
        begun, _ = HELD[self.run.kind]
        self._go(whole[len(begun) :], status)

    def die(self, lapses: float) -> None:
        """The driver is no more."""
        self.state, self.lapses = "dead", lapses

    def decide(self, word: str) -> None:
        """A person says what came of the call; nobody goes on yet."""
        self.run.word = word
        said = {"happened": [RESULT], "did_not_happen": [NO_RESULT], "retry": []}[word]
        self._go(said, "executing" if word == "retry" else "planning", "dead")
        self.lapses = 0.0

    def resume(self) -> None:
        """Another driver takes the run over."""
        match self.run:
            case Run(kind="hold"):
                self.finish()
            case Run(word=None):
                self._go([], "waiting_approval")
            case Run(word="happened"):
                self._go([SAID], "completed")
            case Run(word="did_not_happen"):
                self._go([SAID], "completed_with_errors")
            case Run(kind="doubt"):
                self.attempt += 1
                self.run.word = None
                self._go([], "waiting_approval")
            case _:
                self.attempt += 1
                self._go([RESULT, SAID], "completed")

    def _go(self, said: list[Message], status: str, state: State | None = None) -> None:
        self.messages += said
        self.run.status = status
        self.state = state or ("waits" if status == "waiting_approval" else "idle")


@dataclass
class Kept:
    """What the first request with a key has made."""

    body: dict[str, Any]
    expires: float
    session_id: str
    ids: list[str]
    """Of the run, or of the events."""
