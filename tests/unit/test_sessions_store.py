"""Sessions as rows: created, opened, listed, deleted, expired."""

import pytest
from parley.core import event as e
from parley.core.errors import Malformed, NotFound
from parley.ports import ConditionFailed
from parley.store import Head, HeadPage, Lock, Once, Ref
from parley.store.idempotency import find

from tests.build import REF, Stage, entry, event, head, idle, types

pytestmark = pytest.mark.anyio

DAY = 86_400


def everything(_: Head) -> bool:
    return True


async def listed(
    stage: Stage,
    *,
    page: str | None = None,
    limit: int = 100,
    offset: int = 0,
    newest_first: bool = True,
    **wanted: str,
) -> HeadPage:
    def admits(shown: Head) -> bool:
        return all(getattr(shown, name) == value for name, value in wanted.items())

    return await stage.store.sessions.page(
        "acme", question=f"{wanted}{newest_first}", wanted=admits, limit=limit, newest_first=newest_first,
        page=page, offset=offset,
    )  # fmt: skip


async def walked(stage: Stage, limit: int, **options: object) -> list[str]:
    """Follow the pages to the end."""
    ids: list[str] = []
    page: str | None = None
    for _ in range(60):
        found = await listed(stage, page=page, limit=limit, **options)  # type: ignore[arg-type]
        assert len(found.heads) <= limit
        ids += [shown.id for shown in found.heads]
        page = found.next_page
        if page is None:
            return ids
    raise AssertionError("the pages have no end")


async def several(stage: Stage, count: int) -> list[str]:
    """Make sessions, one each second; return their ids, the newest first."""
    ids: list[str] = []
    for n in range(count):
        stage.clock.advance(1)
        ref = Ref("acme", f"sesn_{n:02d}")
        agent_id = "bank" if n % 2 else "shop"
        now = stage.clock.milliseconds()
        await stage.create(ref, agent_id=agent_id, updated_ms=now, created_ms=now)
        ids.insert(0, ref.id)
    return ids


# Creating and opening.


async def test_a_session_comes_back_as_it_was_made(stage: Stage) -> None:
    made = head(title="Rent", task_id="ticket-7", metadata={"a": "ä"}, source="web")

    await stage.store.sessions.create(REF, made)

    assert await stage.store.sessions.open(REF) == (made, Lock())
    assert await stage.log() == []


async def test_an_id_is_given_once(stage: Stage) -> None:
    await stage.create(title="first")

    with pytest.raises(ConditionFailed):
        await stage.create(title="second")

    assert (await stage.store.sessions.head(REF)).title == "first"


@pytest.mark.parametrize("fault", ["lost", "unconfirmed"])
async def test_a_session_whose_write_was_not_confirmed_is_made_once(stage: Stage, fault: str) -> None:
    once = Once.of("acme", "ann", "POST", "/v1/sessions", "k", b"{}")
    stage.table.fail_next(fault)  # type: ignore[arg-type]

    await stage.store.sessions.create(REF, head(), once)

    assert (await stage.store.sessions.head(REF)).id == REF.id
    assert await find(stage.table, once) is not None


@pytest.mark.parametrize("ref", [Ref("acme", "sesn_2"), Ref("other", "sesn_1"), Ref("acm", "e#sesn_1")])
async def test_an_unknown_and_a_foreign_session_look_the_same(stage: Stage, ref: Ref) -> None:
    await stage.create()

    with pytest.raises(NotFound) as caught:
        await stage.store.sessions.head(ref)
    with pytest.raises(NotFound):
        await stage.store.sessions.open(ref)

    assert caught.value.code == "session_not_found"


async def test_somebody_elses_session_is_not_found(stage: Stage) -> None:
    await stage.create(owner="ann")

    assert await stage.store.sessions.head(REF, "ann")
    for owner in ("bob", "", "an"):
        with pytest.raises(NotFound):
            await stage.store.sessions.head(REF, owner)
        with pytest.raises(NotFound):
            await stage.store.sessions.delete(REF, owner)


# Deleting.


async def test_a_deleted_session_is_gone_at_once(stage: Stage) -> None:
    await stage.create()

    await stage.store.sessions.delete(REF)

    for reading in (stage.store.sessions.head(REF), stage.store.sessions.open(REF), stage.store.sessions.delete(REF)):
        with pytest.raises(NotFound):
            await reading
    assert (await listed(stage)).heads == []
    assert types(await stage.log()) == ["session.deleted"]


async def test_a_deleted_session_is_in_the_index_of_work_to_be_swept(stage: Stage) -> None:
    await stage.create()

    await stage.store.sessions.delete(REF)

    work = await stage.sqlite.query("WORK", index="work")
    assert [(item["PK"], item["SK"]) for item in work.items] == [(REF.pk, "M")]


async def test_deleting_bars_the_driver_and_frees_nothing_for_another(stage: Stage) -> None:
    claim = await stage.begin()

    await stage.store.sessions.delete(REF)

    assert await stage.store.claims.take_over(REF, void_lease=True) is None
    item = await stage.sqlite.get(REF.lock())
    assert item is not None
    assert (item["deleted"], item["epoch"], item.get("run")) == (True, claim.epoch + 1, None)


async def test_an_id_that_was_deleted_is_not_given_again(stage: Stage) -> None:
    await stage.create()
    await stage.store.sessions.delete(REF)

    with pytest.raises(ConditionFailed):
        await stage.create()


async def test_deleting_wins_against_a_driver_that_writes_at_the_same_time(stage: Stage) -> None:
    claim = await stage.begin()
    other = stage.another()

    async def one_more_word() -> None:
        await other.store.drives.append(claim, claim.session, [event(e.ModelRequestStart)])

    stage.table.before_next(one_more_word)
    await stage.store.sessions.delete(REF)

    assert types(await stage.log())[-2:] == ["span.model_request_start", "session.deleted"]


async def test_deleting_wins_against_a_run_that_ends_at_the_same_time(stage: Stage) -> None:
    claim = await stage.begin()
    other = stage.another()

    async def the_end() -> None:
        closing = entry(event(e.RunFinished, run_id=claim.run_id), idle())
        await other.store.drives.settle(claim, claim.session, closing, 0)

    stage.table.before_next(the_end)
    await stage.store.sessions.delete(REF)

    assert types(await stage.log())[-2:] == ["session.status_idle", "session.deleted"]
    with pytest.raises(NotFound):
        await stage.store.sessions.head(REF)


@pytest.mark.parametrize("faults", [["unconfirmed"], ["lost", "unconfirmed"]])
async def test_a_delete_that_was_not_confirmed_is_done_once(stage: Stage, faults: list[str]) -> None:
    await stage.begin()
    stage.table.fail_next(*faults)  # type: ignore[arg-type]

    await stage.store.sessions.delete(REF)

    assert types(await stage.log()).count("session.deleted") == 1


async def test_the_barrier_of_a_delete_stands_right_behind_the_log(stage: Stage) -> None:
    await stage.begin()

    await stage.store.sessions.delete(REF)

    assert [each.seq for each in await stage.log()] == [1, 2, 3, 4, 5]


# Expiring.


async def test_a_session_expires_after_its_days_without_activity(stage: Stage) -> None:
    await stage.create()

    stage.clock.advance(30 * DAY - 1)
    assert await stage.store.sessions.head(REF)
    stage.clock.advance(2)

    for reading in (stage.store.sessions.head(REF), stage.store.sessions.open(REF), stage.store.sessions.delete(REF)):
        with pytest.raises(NotFound):
            await reading
    assert (await listed(stage)).heads == []
    assert await stage.store.sessions.total("acme", everything) == 0


# Listing.


async def test_the_newest_activity_comes_first(stage: Stage) -> None:
    ids = await several(stage, 4)
    stage.clock.advance(1)
    await stage.create(Ref("acme", "sesn_99"), updated_ms=stage.clock.milliseconds())
    stage.clock.advance(1)
    await stage.store.claims.begin(Ref("acme", ids[2]), stage.agent, "Hi")

    order = [ids[2], "sesn_99", ids[0], ids[1], ids[3]]
    assert await walked(stage, 100) == order
    assert await walked(stage, 100, newest_first=False) == order[::-1]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("newest_first", [True, False])
async def test_pages_show_every_session_once(stage: Stage, limit: int, newest_first: bool) -> None:
    ids = await several(stage, 7)

    assert await walked(stage, limit, newest_first=newest_first) == (ids if newest_first else ids[::-1])


async def test_sessions_of_the_same_millisecond_are_all_shown(stage: Stage) -> None:
    for n in range(5):
        await stage.create(Ref("acme", f"sesn_{n}"))

    assert len(set(await walked(stage, 2))) == 5


async def test_another_tenants_sessions_do_not_show(stage: Stage) -> None:
    await stage.create(Ref("acme", "sesn_1"))
    await stage.create(Ref("acme2", "sesn_2"))

    assert await walked(stage, 10) == ["sesn_1"]


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_a_filter_leaves_out_the_others_over_all_pages(stage: Stage, limit: int) -> None:
    ids = await several(stage, 9)

    assert await walked(stage, limit, agent_id="bank") == [id for id in ids if int(id[-2:]) % 2]


async def test_a_filter_that_leaves_out_nearly_all_still_comes_to_an_end(stage: Stage) -> None:
    await several(stage, 40)
    await stage.create(Ref("acme", "sesn_x"), agent_id="rare")
    stage.table.page_limit = 1

    assert await walked(stage, 1, agent_id="rare") == ["sesn_x"]


async def test_expired_rows_that_nobody_has_swept_do_not_keep_a_list_from_its_end(stage: Stage) -> None:
    await several(stage, 45)
    stage.clock.advance(31 * DAY)
    await stage.create(Ref("acme", "sesn_new"), updated_ms=stage.clock.milliseconds())
    stage.table.page_limit = 1

    assert await walked(stage, 1, newest_first=False) == ["sesn_new"]


@pytest.mark.parametrize("offset", [0, 1, 5, 7, 8, 50])
async def test_an_offset_leaves_out_so_many(stage: Stage, offset: int) -> None:
    ids = await several(stage, 7)

    found = await listed(stage, limit=3, offset=offset)

    assert [shown.id for shown in found.heads] == ids[offset : offset + 3]


async def test_an_offset_counts_what_the_filter_admits(stage: Stage) -> None:
    ids = [id for id in await several(stage, 9) if int(id[-2:]) % 2]

    found = await listed(stage, limit=2, offset=1, agent_id="bank")

    assert [shown.id for shown in found.heads] == ids[1:3]


async def test_the_last_page_has_no_successor(stage: Stage) -> None:
    await several(stage, 4)

    first = await listed(stage, limit=2)
    last = await listed(stage, limit=2, page=first.next_page)

    assert first.next_page is not None
    assert last.next_page is None


async def test_a_page_of_another_question_is_refused(stage: Stage) -> None:
    await several(stage, 4)
    first = await listed(stage, limit=2)

    with pytest.raises(Malformed):
        await listed(stage, limit=2, page=first.next_page, agent_id="bank")
    with pytest.raises(Malformed):
        await listed(stage, limit=2, page=first.next_page, newest_first=False)


async def test_a_total_counts_what_the_filter_admits(stage: Stage) -> None:
    await several(stage, 7)

    assert await stage.store.sessions.total("acme", everything) == 7
    assert await stage.store.sessions.total("acme", lambda shown: shown.agent_id == "bank") == 3
    assert await stage.store.sessions.total("nobody", everything) == 0
