"""Sealing: a turn's cost does not grow with its history, and a snapshot is never the truth."""

import random

import pytest
from parley.core import event as e
from parley.core.session import Session
from parley.core.tool import ToolOutcome
from parley.store import snapshot
from parley.store.entry import pack, unpack

from tests.build import REF, Stage, answer, asked, only, said
from tests.fakes.blobs import MemoryBlobs

pytestmark = pytest.mark.anyio

LONG = random.Random(7).randbytes(25_000).hex()
"""About 25 KB when compressed."""


async def talk(stage: Stage, turns: int) -> None:
    """Have a conversation with long answers."""
    for turn in range(turns):
        stage.plays(answer(said(f"{turn} {LONG}")))
        await stage.drive(await stage.begin(f"Turn {turn}"))


async def loaded(stage: Stage, seal: int) -> tuple[Session, int]:
    """Load the session in a process that has not seen it yet."""
    return await stage.another().store.log.load(REF, seal)


async def sealed(stage: Stage) -> int:
    return (await stage.store.sessions.open(REF))[1].sealed


async def test_a_short_conversation_is_not_sealed(stage: Stage) -> None:
    await talk(stage, 2)

    assert await sealed(stage) == 0
    assert stage.blobs.kept == {}


async def test_a_long_conversation_is_sealed_at_the_end_of_a_run(stage: Stage) -> None:
    await talk(stage, 5)

    assert await sealed(stage) > 0
    assert snapshot.name(REF, await sealed(stage)) in stage.blobs.kept


async def test_after_sealing_a_turn_reads_only_what_is_behind_the_seal(stage: Stage) -> None:
    sizes = []
    for _ in range(12):
        await talk(stage, 1)
        _, size = await loaded(stage, await sealed(stage))
        sizes.append(size)

    assert max(sizes) < snapshot.SEAL_BYTES + 3 * 30_000


async def test_a_session_loads_alike_with_and_without_its_snapshot(stage: Stage) -> None:
    await talk(stage, 5)
    seal = await sealed(stage)

    with_it, less = await loaded(stage, seal)
    without, more = await loaded(stage, 0)

    assert with_it == without
    assert less < more


async def test_the_next_run_goes_on_from_the_seal_as_if_there_were_none(stage: Stage) -> None:
    await talk(stage, 5)
    other = stage.another()

    await talk(other, 1)

    said_by_people = [message["content"][0]["text"] for message in other.model.messages if message["role"] == "user"]
    assert said_by_people == [f"Turn {n}" for n in [*range(5), 0]]
    assert [event.seq for event in await stage.log()] == list(range(1, 6 * 9 + 1))


async def test_a_snapshot_that_is_missing_is_passed_over(stage: Stage) -> None:
    await talk(stage, 5)
    stage.blobs.kept.pop(snapshot.name(REF, await sealed(stage)))
    other = stage.another()

    await talk(other, 1)

    assert len(other.model.messages) == 11


async def test_a_snapshot_of_another_version_of_the_fold_is_passed_over(stage: Stage) -> None:
    await talk(stage, 5)
    name = snapshot.name(REF, await sealed(stage))
    _, head, *_ = unpack(stage.blobs.kept[name]).split(b"\n")
    stage.blobs.kept[name] = pack(b"\n".join([b"0", head, b'{"role":"user","content":[]}']))

    session, _ = await loaded(stage, await sealed(stage))

    assert session == await stage.session()


@pytest.mark.parametrize("damaged", [b"", b"\x01not zlib", b"\x00only one line", b'\x001\n{"id":'])
async def test_a_snapshot_that_is_damaged_is_passed_over(stage: Stage, damaged: bytes) -> None:
    await talk(stage, 5)
    stage.blobs.kept[snapshot.name(REF, await sealed(stage))] = damaged

    session, _ = await loaded(stage, await sealed(stage))

    assert session == await stage.session()


async def test_an_empty_session_survives_its_snapshot() -> None:
    blobs = MemoryBlobs()

    assert await snapshot.write(blobs, REF, Session(id=REF.id)) == 0
    assert await snapshot.read(blobs, REF, 0) == Session(id=REF.id)


async def test_a_run_that_waits_for_a_person_survives_sealing(stage: Stage) -> None:
    await talk(stage, 5)
    stage.plays(answer(said(LONG), asked("pay", {"a": 1})), pay=ToolOutcome("unknown", "?"))
    await stage.drive(await stage.begin("Pay"))
    [use] = only(e.AgentToolUse, await stage.log())
    stage.plays(answer(said("Done.")))

    await stage.decide(use.id, "happened", "Receipt 7")
    outputs = await stage.drive(await stage.take_over())

    assert only(e.RunFinished, outputs)
    assert stage.model.messages[-1]["content"][0]["content"][0]["text"] == "Receipt 7"


async def test_a_run_ends_even_when_its_snapshot_cannot_be_kept(stage: Stage) -> None:
    stage.blobs.broken = True

    await talk(stage, 5)

    assert await sealed(stage) == 0
