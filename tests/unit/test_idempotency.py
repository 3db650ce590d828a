"""The same request twice: one effect, one answer."""

import pytest
from parley.core.errors import IdempotencyMismatch, SessionBusy
from parley.ports import ConditionFailed
from parley.store import Done, Once, Ref
from parley.store.idempotency import KEPT_SECONDS, find

from tests.build import REF, Stage

pytestmark = pytest.mark.anyio


def once(**changes: object) -> Once:
    fields = {
        "tenant": "acme",
        "principal": "ann",
        "method": "POST",
        "path": "/v1",
        "key": "k",
        "body": b"{}",
    } | changes
    return Once.of(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [{"tenant": "other"}, {"principal": "bob"}, {"method": "PUT"}, {"path": "/v2"}, {"key": "l"}],
    ids=lambda change: next(iter(change)),
)
def test_a_key_counts_for_one_tenant_principal_method_and_path(change: dict[str, object]) -> None:
    assert once(**change).key != once().key


def test_parts_of_the_scope_do_not_run_together() -> None:
    assert once(principal="an", method="nPOST").key != once().key


def test_the_body_is_not_part_of_the_address() -> None:
    assert once(body=b"[]").key == once().key
    assert once(body=b"[]").body_hash != once().body_hash


async def test_a_key_that_was_never_used_finds_nothing(stage: Stage) -> None:
    assert await find(stage.table, once()) is None
    assert await find(stage.table, None) is None


async def test_a_key_finds_what_the_first_request_made(stage: Stage) -> None:
    claim = await stage.begin(once=once())

    assert await find(stage.table, once()) == Done(REF.id, claim.run_id)


async def test_a_key_with_another_body_is_refused(stage: Stage) -> None:
    await stage.begin(once=once())

    with pytest.raises(IdempotencyMismatch):
        await find(stage.table, once(body=b"[]"))


async def test_the_key_is_stored_with_its_effect_or_not_at_all(stage: Stage) -> None:
    await stage.begin(once=once())
    before = stage.rows()

    with pytest.raises(ConditionFailed):
        await stage.begin(ref=Ref("acme", "sesn_2"), once=once())

    assert stage.rows() == before


async def test_a_refused_effect_stores_no_key(stage: Stage) -> None:
    await stage.begin()

    with pytest.raises(SessionBusy):
        await stage.begin(once=once())

    assert await find(stage.table, once()) is None


async def test_a_key_is_kept_for_a_day_and_can_be_used_again_after_its_time(stage: Stage) -> None:
    """An expired row is hidden from reads and may lie there for days; conditions still see it."""
    await stage.begin(once=once())
    stage.clock.advance(24 * 3600)
    assert await find(stage.table, once()) is not None

    stage.clock.advance(KEPT_SECONDS)
    claim = await stage.begin(ref=Ref("acme", "sesn_2"), once=once())

    assert await find(stage.table, once()) == Done("sesn_2", claim.run_id)
