"""Who did what: kept with what it tells of, found by month, and never with what was said."""

from datetime import timedelta

import pytest
from parley.core.changes import Changes
from parley.store import Ref, audit
from parley.store.audit import KEPT_DAYS, Act, Actor, By
from parley.store.head import milliseconds

from tests.build import REF, Stage, answer, head, said
from tests.fakes.clock import NOON

pytestmark = pytest.mark.anyio

ANN = By(Actor("ann", "admin_key", "req_1"))
DAY = timedelta(days=1)


async def keep(stage: Stage, days: int, id: str = "a", tenant: str = "acme") -> None:
    at_ms = milliseconds(NOON + days * DAY)
    ref = Ref(tenant, "sesn_1")
    await stage.table.write(audit.entry(ANN.actor, "session.updated", ref, "ann", id=f"{id}{days}", at_ms=at_ms))


async def pages(
    stage: Stage, *, limit: int = 2, newest_first: bool = True, days: tuple[int, int] = (-400, 400)
) -> list[list[str]]:
    """Read page after page; return the ids on each."""
    found: list[list[str]] = []
    after: str | None = None
    while True:
        acts, after = await audit.page(
            stage.table, "acme",
            from_ms=milliseconds(NOON + days[0] * DAY), to_ms=milliseconds(NOON + days[1] * DAY),
            wanted=lambda act: not act.id.startswith("x"), limit=limit, newest_first=newest_first, after=after,
        )  # fmt: skip
        found.append([act.id for act in acts])
        if after is None:
            return found


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 3, 10])
async def test_page_after_page_shows_every_act_once_over_months(
    stage: Stage, limit: int, *, newest_first: bool
) -> None:
    days = [-100, -40, -1, 0, 1, 30, 31, 300]
    for day in days:
        await keep(stage, day)
        await keep(stage, day, "x")
    await keep(stage, 0, "b")

    found = [id for page in await pages(stage, limit=limit, newest_first=newest_first) for id in page]

    expected = sorted([*(f"a{day}" for day in days), "b0"], key=lambda id: (int(id[1:]), id))
    assert found == (expected[::-1] if newest_first else expected)


async def test_a_time_is_looked_at_and_no_more(stage: Stage) -> None:
    for day in (-40, -2, 0, 2, 40):
        await keep(stage, day)

    assert await pages(stage, limit=10, days=(-2, 2)) == [["a2", "a0", "a-2"]]


async def test_a_page_that_costs_too_much_ends_and_is_gone_on_from(stage: Stage) -> None:
    for number in range(60):
        await keep(stage, 0, f"x{number:02d}")
    await keep(stage, -1)

    found = await pages(stage, limit=1)

    assert len(found) > 1
    assert [id for page in found for id in page] == ["a-1"]


async def test_nothing_is_read_of_another_tenant(stage: Stage) -> None:
    await keep(stage, 0, tenant="other")

    assert await pages(stage) == [[]]


async def test_an_act_is_kept_with_what_it_tells_of_and_says_nothing_of_what_was_said(stage: Stage) -> None:
    stage.plays(answer(said("My secret answer.")))
    await stage.drive(await stage.begin("My secret question."))
    lives = stage.store.lives
    await lives.update(REF, ANN, Changes("My secret title", {"secret": "value"}, "L1"))
    await lives.checkpoint(REF, ANN, "here")
    await lives.suspend(REF, ANN)
    await lives.resume(REF, ANN)
    await lives.restore(REF, ANN, "here", None)
    await lives.fork(REF, ANN, head(Ref("acme", "sesn_2")), None, 1)
    await lives.archive(REF, ANN)
    await stage.store.sessions.delete(REF, None, ANN.actor)

    page = await stage.table.query("AU#acme#2026-11")
    acts = sorted((Act.of(item) for item in page.items), key=lambda act: [*ORDER].index(act.action))

    assert [(act.action, act.target, dict(act.detail)) for act in acts] == [(name, *ORDER[name]) for name in ORDER]
    assert {(act.actor, act.session_id, act.owner) for act in acts} == {(ANN.actor, "sesn_1", "ann")}
    assert "secret" not in repr(page.items)
    assert {item["ttl"] for item in page.items} == {milliseconds(NOON) // 1000 + KEPT_DAYS * 86_400}


ORDER: dict[str, tuple[str | None, dict[str, str | int]]] = {
    "session.updated": (None, {"changed": "title, metadata, autonomy"}),
    "checkpoint.created": ("here", {}),
    "session.suspended": (None, {}),
    "session.resumed": (None, {}),
    "session.restored": (None, {"to_seq": 11}),
    "session.forked": ("sesn_2", {"to_seq": 1}),
    "session.archived": (None, {}),
    "session.deleted": (None, {}),
}


async def test_a_session_that_lapsed_was_deleted_by_nobody(stage: Stage) -> None:
    await stage.create()
    stage.clock.advance(31 * 86_400)

    assert await stage.store.sweep.expired(REF)

    assert [item for row in stage.rows() for item in [row[0]] if str(item).startswith("AU#")] == []
