"""What was folded before is used again, and never instead of the log."""

import pytest
from parley.core.session import Session
from parley.store import Ref
from parley.store.recent import Recent

from tests.build import REF, Stage, answer, picture, said, shown

pytestmark = pytest.mark.anyio


def session(name: str, size: int) -> Session:
    return Session(id=name, context=(b"x" * size,))


def test_the_session_that_was_used_longest_ago_goes_first() -> None:
    recent = Recent(max_bytes=4 * 1024)
    first, second, third = (Ref("acme", name) for name in ("first", "second", "third"))
    for ref in (first, second):
        recent.put(ref, 0, session(ref.id, 512), 1)
    recent.put(first, 0, session("first", 512), 1)

    recent.put(third, 0, session("third", 512), 1)

    assert [recent.get(ref, 0)[0] is not None for ref in (first, second, third)] == [True, False, True]


def test_a_session_larger_than_all_of_it_is_not_kept() -> None:
    recent = Recent(max_bytes=2048)

    recent.put(REF, 0, session("large", 4096), 1)

    assert recent.get(REF, 0) == (None, 0)
    assert recent.weight == 0


def test_a_session_that_was_sealed_anew_is_read_anew() -> None:
    recent = Recent()
    recent.put(REF, 0, session("s", 1), 70_000)

    assert recent.get(REF, 12) == (None, 0)


async def test_a_session_weighs_what_its_images_weigh(stage: Stage) -> None:
    stage.plays(answer(said("Cats.")))
    await stage.drive(await stage.begin(shown(picture(3_000_000))))

    await stage.store.log.load(REF, 0)

    assert 3_000_000 < stage.store.log.recent.weight < 3_010_000


async def test_what_another_process_appended_is_seen(stage: Stage) -> None:
    stage.plays(answer(said("1")))
    await stage.drive(await stage.begin("One"))
    before, _ = await stage.store.log.load(REF, 0)

    other = stage.another().plays(answer(said("2")))
    await other.drive(await other.begin("Two"))
    after, _ = await stage.store.log.load(REF, 0)

    assert after.seq > before.seq
    assert after == await stage.session()
