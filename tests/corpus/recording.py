"""A recording: the events of one session, what they fold to, and the rows and blobs that held them."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parley.core.event import EVENT, Event, to_json
from parley.core.run import next_step
from parley.core.session import Session
from parley.ports import Absent, Item, Put
from parley.store import snapshot

from tests.build import Stage, agent, numbered

RECORDED = Path(__file__).parent / "recorded"
EVENTS, FOLD, TABLE = "events.jsonl", "fold.jsonl", "table.jsonl"


@dataclass(frozen=True, slots=True)
class Recording:
    """What was written once, as bytes of this day."""

    events: list[bytes]
    """As they are stored: one line each, without a place."""

    meaning: dict[str, Any]
    """What the fold of all of them is about."""

    context: tuple[bytes, ...]
    """What the model would be sent, to the byte."""

    rows: list[Item]
    blobs: dict[str, bytes]

    def log(self) -> list[Event]:
        """Read the events with the version that runs."""
        return numbered(EVENT.validate_json(line) for line in self.events)

    async def restore(self, stage: Stage) -> Stage:
        """Put the rows and blobs where the stage reads them."""
        for row in self.rows:
            await stage.sqlite.write(Put(row, Absent()))
        stage.blobs.kept |= self.blobs
        return stage

    @classmethod
    def read(cls, folder: Path) -> "Recording":
        """Read a folder."""
        told, *context = _lines(folder / FOLD)
        kept = [json.loads(line, object_hook=_bytes) for line in _lines(folder / TABLE)]
        rows = [each["row"] for each in kept if "row" in each]
        blobs = {each["blob"]: each["data"] for each in kept if "blob" in each}
        return cls(_lines(folder / EVENTS), json.loads(told), tuple(context), rows, blobs)

    @classmethod
    async def of(cls, stage: Stage) -> "Recording":
        """Take down what a stage has come to, and its snapshot."""
        session = await stage.session()
        await snapshot.write(stage.blobs, stage.ref, session)
        page = await stage.sqlite.query(stage.ref.pk)
        events = [to_json(event) for event in await stage.log()]
        return cls(events, meaning(session), session.context, page.items, stage.blobs.kept)

    def write(self, folder: Path) -> None:
        """Write a new folder.

        Raises:
            FileExistsError: it is there; what was recorded is never changed.
        """
        folder.mkdir(parents=True)
        kept = [{"row": row} for row in self.rows] + [{"blob": key, "data": data} for key, data in self.blobs.items()]
        files = {EVENTS: self.events, FOLD: [_dump(self.meaning), *self.context], TABLE: [_dump(each) for each in kept]}
        for name, lines in files.items():
            (folder / name).write_bytes(b"".join(line + b"\n" for line in lines))


def meaning(session: Session) -> dict[str, Any]:
    """Tell what a session is at, in words that outlive how it is kept. Add words; an old recording lacks the new."""
    run = session.run
    return {
        "phase": session.phase,
        "seq": session.seq,
        "epoch": session.epoch,
        "usage": session.usage.model_dump(exclude_defaults=True),
        "next": type(next_step(session, agent())).__name__,
        "run": run.id if run else None,
        "open": bool(run and run.open),
        "parked": bool(run and run.parked),
        "steps": run.steps if run else 0,
        "failures": run.failures if run else 0,
        "calls": [[call.id, call.state, call.attempt] for call in run.calls] if run else [],
        "waits": [[call.id, call.approval is not None] for call in run.calls if call.waits] if run else [],
        "cancel": run.cancel if run else None,
        "shows": session.shows,
        "autonomy": session.autonomy,
        "budget": session.budget.model_dump(exclude_none=True) if session.budget else None,
        "spent": session.spent.model_dump(exclude_defaults=True),
        "steered": len(session.steered),
        "checkpoints": [[each.name, each.seq] for each in session.checkpoints],
    }


def recordings() -> dict[str, Recording]:
    """Read every recording, of this version and of all before it."""
    return {folder.name: Recording.read(folder) for folder in sorted(RECORDED.iterdir())}


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().removesuffix(b"\n").split(b"\n")


def _dump(value: object) -> bytes:
    return json.dumps(value, default=lambda data: {"base64": base64.b64encode(data).decode()}).encode()


def _bytes(value: dict[str, Any]) -> Any:
    return base64.b64decode(value["base64"]) if value.keys() == {"base64"} else value
