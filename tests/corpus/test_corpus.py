"""What any version stored, every later version reads, folds, serves and goes on with."""

import asyncio
import json
import subprocess
import typing
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from parley.api.app import create_app
from parley.api.routers import ROUTERS
from parley.api.vocabulary import Native, Simple
from parley.core import control as c
from parley.core import event as e
from parley.core.budget import Budget
from parley.core.changes import Changes
from parley.core.errors import SessionArchived
from parley.core.fold import fold
from parley.core.session import Session
from parley.state import Principal, State
from parley.store import snapshot
from parley.store.entry import unpack
from parley.store.keys import ENTRY
from pydantic import BaseModel

from tests.build import Stage, agent, answer, only, said
from tests.corpus.record import play
from tests.corpus.recording import RECORDED, Recording, meaning, recordings
from tests.corpus.shapes import ANN, SHAPES

pytestmark = pytest.mark.anyio

ALL = recordings()
UNION: tuple[type[e.EventBase], ...] = typing.get_args(typing.get_args(e.Event)[0])

HOW = "Add a shape that has it to tests/corpus/shapes.py and run `python -m tests.corpus.record`."


@pytest.fixture(params=ALL)
def recording(request: pytest.FixtureRequest) -> Recording:
    """Each recording in turn."""
    return ALL[request.param]


@pytest.fixture
async def http(recording: Recording, stage: Stage) -> AsyncIterator[httpx.AsyncClient]:
    """The API over the recorded rows."""
    await recording.restore(stage)
    state = State(stage.store, {"bank": stage.agent}, Principal("acme", "ann"), stage.runner)
    transport = httpx.ASGITransport(create_app(state, ROUTERS, keyless=True))
    async with httpx.AsyncClient(transport=transport, base_url="http://parley.test") as client:
        yield client


def folded(recording: Recording) -> Session:
    return fold(Session(id="sesn_1"), recording.log())


def keeps(stored: Any, read: Any) -> bool:
    """Say whether all that was stored is in what was read; there may be more."""
    if isinstance(stored, dict) and isinstance(read, dict):
        return all(name in read and keeps(value, read[name]) for name, value in stored.items())
    if isinstance(stored, list) and isinstance(read, list):
        return len(stored) == len(read) and all(map(keeps, stored, read))
    return bool(stored == read)


# Each recording.


def test_every_stored_event_loads_and_nothing_of_it_is_lost(recording: Recording) -> None:
    for line, event in zip(recording.events, recording.log(), strict=True):
        assert keeps(json.loads(line), json.loads(e.to_json(event)))


def test_a_log_folds_to_what_it_meant(recording: Recording) -> None:
    session = folded(recording)

    assert session.context == recording.context
    assert keeps(recording.meaning, meaning(session))


async def test_the_rows_hold_the_log(recording: Recording, stage: Stage) -> None:
    await recording.restore(stage)

    assert await stage.log() == recording.log()


async def test_a_snapshot_serves_or_is_passed_over(recording: Recording, stage: Stage) -> None:
    await recording.restore(stage)
    seq = len(recording.events)
    version, *_ = unpack(recording.blobs[snapshot.name(stage.ref)]).split(b"\n")

    kept = await snapshot.read(stage.blobs, stage.ref, seq)

    assert kept == (folded(recording) if version == snapshot.FOLD_VERSION else None)


async def test_the_api_shows_it(recording: Recording, http: httpx.AsyncClient) -> None:
    paths = [f"/v1/sessions/sesn_1{path}" for path in ("", "/events", "/messages", "/runs")]
    answers = [await http.get(path, params={"limit": 100}) for path in paths]

    if recording.meaning["phase"] == "deleted":
        assert [found.status_code for found in answers] == [404] * 4
        return
    assert [found.status_code for found in answers] == [200] * 4
    shown, events, messages, runs = [found.json() for found in answers]
    assert shown["usage"]["input_tokens"] == recording.meaning["usage"].get("input_tokens", 0)
    listed = [event for event in events["data"] if "seq" in event]
    assert keeps([json.loads(line) for line in recording.events], listed)
    inherited = {f"{event.id}_{n}" for event in only(c.SessionRestored, recording.log()) for n in range(99)}
    told = [message["id"] for message in messages["data"] if message["role"] == "user"]
    assert [id for id in told if id not in inherited] == [event.id for event in only(e.UserMessage, recording.log())]
    assert [run["id"] for run in runs["data"][:1]] == [run for run in [recording.meaning["run"]] if run]


def test_both_vocabularies_can_say_it(recording: Recording) -> None:
    simple, native = Simple("sesn_1", "run_0001"), Native()

    for event in recording.log():
        assert simple.say(event) is not None
        assert native.say(event).startswith(b"id: %d\nevent: %b\n" % (event.seq, event.type.encode()))


async def test_a_session_goes_on(recording: Recording, stage: Stage) -> None:
    await recording.restore(stage)
    if recording.meaning["phase"] == "deleted":
        assert await stage.store.claims.take_over(stage.ref, void_lease=True) is None
        return
    if recording.meaning.get("shows") == "archived":
        with pytest.raises(SessionArchived):
            await stage.begin("Go on")
        return
    if recording.meaning["parked"]:
        for call_id, state, attempt in recording.meaning["calls"]:
            if state == "unknown":
                await stage.decide(call_id, "did_not_happen", attempt=attempt)
        for call_id, _ in recording.meaning.get("waits", ()):
            await stage.rule(call_id, "deny")
        await stage.store.lives.update(stage.ref, ANN, Changes(budget=Budget()))
    if recording.meaning.get("shows") == "suspended":
        await stage.store.lives.resume(stage.ref, ANN)
    if recording.meaning["open"]:
        stage.plays(answer(said("Done.")))
        await stage.drive(await stage.take_over())
    stage.plays(answer(said("And on.")))
    stage.agent = agent(prompt="Be verbose.")

    await stage.drive(await stage.begin("Go on"))

    assert (await stage.session()).phase == "completed"


# The corpus.


def test_every_event_type_is_recorded() -> None:
    recorded = {type(event) for recording in ALL.values() for event in recording.log()}

    missing = [kind.model_fields["type"].default for kind in UNION if kind not in recorded]
    assert not missing, f"No recording has an event of type {', '.join(missing)}. {HOW}"


def test_every_field_of_every_value_in_an_event_is_recorded() -> None:
    fields = {field for kind in values_in(e.Event) for field in own_fields(kind)}

    missing = fields - {field for recording in ALL.values() for event in recording.log() for field in told(event)}
    assert fields
    assert not missing, f"No recording has a value for {', '.join(sorted(missing))}. {HOW}"


def test_every_shape_is_recorded() -> None:
    missing = SHAPES.keys() - ALL.keys()

    assert not missing, f"Not recorded yet: {', '.join(sorted(missing))}. Run `python -m tests.corpus.record`."


def test_the_present_snapshot_format_is_recorded() -> None:
    versions = {
        unpack(data).split(b"\n")[0]
        for recording in ALL.values()
        for key, data in recording.blobs.items()
        if "snapshot" in key
    }

    assert snapshot.FOLD_VERSION in versions, f"No recording has a snapshot of this FOLD_VERSION. {HOW}"


def test_entries_are_recorded_inline_and_in_a_blob() -> None:
    entries = [row for recording in ALL.values() for row in recording.rows if row["SK"].startswith(ENTRY)]

    assert {row["body"][0] for row in entries if "body" in row} == {1}
    assert any("blob" in row for row in entries)


def test_bytes_that_were_not_worth_compressing_are_read() -> None:
    assert unpack(b"\x00abc") == b"abc"


def test_what_is_recorded_is_not_recorded_again(tmp_path: Any) -> None:
    recording = ALL["plain"]
    recording.write(tmp_path / "plain")

    with pytest.raises(FileExistsError):
        recording.write(tmp_path / "plain")

    assert Recording.read(tmp_path / "plain") == recording


def test_no_recording_was_ever_edited() -> None:
    if subprocess.run(["git", "rev-parse"], cwd=RECORDED, capture_output=True).returncode:
        pytest.skip("not a git checkout")
    history = ["git", "log", "--diff-filter=MD", "--name-only", "--format=", "--", "."]
    pending = ["git", "diff", "HEAD", "--diff-filter=MD", "--name-only", "--relative", "--", "."]

    edited = [
        subprocess.run(asked, cwd=RECORDED, capture_output=True, text=True, check=True).stdout
        for asked in (history, pending)
    ]

    assert edited == ["", ""], "A recording is what a version wrote. Put it back, and add another beside it."


def test_the_shapes_still_play() -> None:
    for name, shape in SHAPES.items():
        played = asyncio.run(play(shape))

        assert played.meaning["phase"] == ALL[name].meaning["phase"], name


# How it is found out.


def values_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Find every class of value that something of this type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from values_in(field.annotation)
    else:
        for part in typing.get_args(annotation):
            yield from values_in(part)


def own_fields(kind: type[BaseModel]) -> set[str]:
    """Name the fields of a value; what every event has is not an event's own."""
    shared = e.EventBase.model_fields if issubclass(kind, e.EventBase) else ()
    return {f"{kind.__name__}.{name}" for name in kind.model_fields if name not in shared}


def told(value: Any) -> Iterator[str]:
    """Name every field that was stored, in a value and in what it holds."""
    if isinstance(value, BaseModel):
        for name in value.model_fields_set:
            yield f"{type(value).__name__}.{name}"
            yield from told(getattr(value, name))
    elif isinstance(value, tuple):
        for each in value:
            yield from told(each)
