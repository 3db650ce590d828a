"""Sealing: a turn's cost does not grow with its history, and a snapshot is never the truth."""

import random

import pytest
from parley.core import event as e
from parley.core.session import Session
from parley.core.tool import ToolOutcome
from parley.store import snapshot
from parley.store.entry import pack, unpack

from tests.build import REF, Stage, answer, asked, only, picture, said, shown
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
    assert snapshot.name(REF) in stage.blobs.kept


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
    stage.blobs.kept.pop(snapshot.name(REF))
    other = stage.another()

    await talk(other, 1)

    assert len(other.model.messages) == 11


async def test_a_session_has_one_snapshot_however_often_it_is_sealed(stage: Stage) -> None:
    await talk(stage, 5)
    first = await sealed(stage)
    await talk(stage, 5)

    assert await sealed(stage) > first > 0
    assert list(stage.blobs.kept) == [snapshot.name(REF)]


async def test_a_snapshot_that_was_replaced_before_its_seal_was_stored_is_passed_over(stage: Stage) -> None:
    await talk(stage, 5)
    seal = await sealed(stage)
    await talk(stage, 1)
    await snapshot.write(stage.blobs, REF, await stage.session())

    session, _ = await loaded(stage, seal)

    assert session == await stage.session()
    assert await snapshot.read(stage.blobs, REF, seal) is None


async def test_a_snapshot_of_another_version_of_the_fold_is_passed_over(stage: Stage) -> None:
    await talk(stage, 5)
    name = snapshot.name(REF)
    _, head, *_ = unpack(stage.blobs.kept[name]).split(b"\n")
    stage.blobs.kept[name] = pack(b"\n".join([b"0", head, b'{"role":"user","content":[]}']))

    session, _ = await loaded(stage, await sealed(stage))

    assert session == await stage.session()


@pytest.mark.parametrize("damaged", [b"", b"\x01not zlib", b"\x00only one line", b'\x001\n{"id":'])
async def test_a_snapshot_that_is_damaged_is_passed_over(stage: Stage, damaged: bytes) -> None:
    await talk(stage, 5)
    stage.blobs.kept[snapshot.name(REF)] = damaged

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


# Large messages of the context are blobs of their own.

IMAGES = shown(*(picture(200_000, seed) for seed in range(20)), text="These?")
"""4 MB."""


def parts(stage: Stage) -> dict[str, bytes]:
    return {key: data for key, data in stage.blobs.kept.items() if "/message-" in key}


async def test_images_are_written_once_and_not_with_every_seal(stage: Stage) -> None:
    stage.plays(answer(said("Cats.")))
    await stage.drive(await stage.begin(IMAGES))
    stage.blobs.puts.clear()

    await talk(stage, 10)

    [part] = parts(stage).values()
    snapshots = [size for key, size in stage.blobs.puts if key == snapshot.name(REF)]
    assert len(snapshots) > 2
    assert [size for key, size in stage.blobs.puts if key != snapshot.name(REF)] == [len(part)]
    assert max(snapshots) < 400_000 < len(part)


async def test_a_session_with_images_loads_alike_with_and_without_its_snapshot(stage: Stage) -> None:
    stage.plays(answer(said("Cats.")))
    await stage.drive(await stage.begin(IMAGES))
    await talk(stage, 1)

    with_it, less = await loaded(stage, await sealed(stage))
    without, _ = await loaded(stage, 0)

    assert with_it == without
    assert less < 30_000


@pytest.mark.parametrize("damaged", [None, b"", b"\x01not zlib", b"\x00another message"])
async def test_a_snapshot_whose_message_is_missing_or_damaged_is_passed_over(
    stage: Stage, damaged: bytes | None
) -> None:
    stage.plays(answer(said("Cats.")))
    await stage.drive(await stage.begin(IMAGES))
    await talk(stage, 1)
    [part] = parts(stage)
    stage.blobs.kept.pop(part)
    if damaged is not None:
        stage.blobs.kept[part] = damaged

    session, _ = await loaded(stage, await sealed(stage))

    assert session == await stage.session()


async def test_a_message_that_left_the_context_and_came_back_is_written_again() -> None:
    blobs, large = MemoryBlobs(), b'{"role":"user","content":[]}'.ljust(snapshot.PART_BYTES + 1)
    with_it = [Session(id=REF.id, seq=seq, context=(large,)) for seq in (1, 3)]
    await snapshot.write(blobs, REF, with_it[0])
    await snapshot.write(blobs, REF, Session(id=REF.id, seq=2), sealed=1)

    await snapshot.write(blobs, REF, with_it[1], sealed=2)

    assert await snapshot.read(blobs, REF, 2) is None
    assert await snapshot.read(blobs, REF, 3) == with_it[1]


async def test_a_large_message_that_was_sent_twice_is_read_once() -> None:
    blobs, large = MemoryBlobs(), b'{"role":"user","content":[]}'.ljust(snapshot.PART_BYTES + 1)
    session = Session(id=REF.id, seq=2, context=(large, b"{}", large))
    await snapshot.write(blobs, REF, session)

    assert await snapshot.read(blobs, REF, 2) == session
    assert len(blobs.gets) == len(["snapshot", "message"])


@pytest.mark.parametrize("damaged", [None, b"\x01not zlib"])
async def test_what_the_last_snapshot_cannot_tell_is_written_again(damaged: bytes | None) -> None:
    blobs, large = MemoryBlobs(), b"{}".ljust(snapshot.PART_BYTES + 1)
    session = Session(id=REF.id, seq=2, context=(large,))
    if damaged:
        blobs.kept[snapshot.name(REF)] = damaged

    await snapshot.write(blobs, REF, session, sealed=1)

    assert await snapshot.read(blobs, REF, 2) == session
