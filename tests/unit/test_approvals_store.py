"""Approvals from the table: each decision reaches its own call, the rows follow the log, and waiting costs nothing."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import pytest
from parley.core import control as c
from parley.core import event as e
from parley.core.approval import DENIED_BECAUSE, EXPIRED, expire
from parley.core.control import DecisionWord
from parley.core.decisions import PlanDecision, decide_plan
from parley.core.errors import Gone, Malformed, NotFound
from parley.core.limits import MAX_BLOCKS_PER_ANSWER
from parley.core.run import Fail
from parley.core.tool import ToolContext, ToolOutcome
from parley.ports import Delete, Put
from parley.store import Ref
from parley.store.keys import approval_keys
from parley.store.work import work
from parley.sweeper import Swept

from tests.build import REF, Stage, answer, asked, careful, only, said, staged, types

pytestmark = pytest.mark.anyio

DAY = 86_400
Way = Literal["approve", "deny", "edit", "answer", "expire"]


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as opened:
        yield opened.deploy(careful())


async def pays(arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
    return ToolOutcome("ok", f"paid {arguments['amount']}")


async def statuses(stage: Stage) -> dict[str, str]:
    """Read the status of every row as it lies, by call."""
    page = await stage.sqlite.query(REF.pk, first="A#", last="A#\U0010ffff")
    return {item["SK"].removeprefix("A#"): item["status"] for item in page.items}


async def waits_in_work(stage: Stage) -> list[str]:
    return [sk async for _, sk in work(stage.table) if sk.startswith("A#")]


# Three calls at once, every way and every order.

WAYS: dict[Way, dict[str, Any]] = {"approve": {}, "deny": {"message": "No."}, "edit": {"input": {"amount": 70}}}


def orders() -> list[tuple[tuple[Way, ...], tuple[int, ...]]]:
    """Give each call a way, and put those that a person decides into every order; what expires comes last."""
    ways: list[Way] = ["approve", "deny", "edit", "expire"]
    return [
        (chosen, order)
        for chosen in itertools.permutations(ways, 3)
        for order in itertools.permutations([n for n, way in enumerate(chosen) if way != "expire"])
    ]


def read_of(way: Way, n: int) -> tuple[str, bool]:
    """What the model reads of call `n`."""
    changed = 'A person changed the arguments, and the call was made with these: {"amount": 70}'
    told: dict[Way, tuple[str, bool]] = {
        "approve": (f"paid {n}", False),
        "deny": (DENIED_BECAUSE + "No.", True),
        "edit": (changed + "\npaid 70", False),
        "expire": (EXPIRED, True),
    }
    return told[way]


@pytest.mark.parametrize(("ways", "order"), orders(), ids=repr)
async def test_each_decision_reaches_its_own_call(stage: Stage, ways: tuple[Way, ...], order: tuple[int, ...]) -> None:
    calls = await stage.plays(a=pays, b=pays, c=pays).ask("a", "b", "c")

    for n in order:
        word: DecisionWord = ways[n]  # type: ignore[assignment]
        await stage.rule(calls[n], word, **WAYS[ways[n]])
        if n != order[-1] or "expire" in ways:
            await stage.go_on()
    if "expire" in ways:
        stage.clock.advance(15 * DAY)
        await stage.store.words.say(REF, expire)
    stage.plays(answer(said("Done.")))
    await stage.go_on()

    results = stage.model.messages[-1]["content"]
    assert [("\n".join(part["text"] for part in result["content"]), result["is_error"]) for result in results] == [
        read_of(way, n) for n, way in enumerate(ways, 1)
    ]
    expected = {"approve": "approved", "deny": "denied", "edit": "edited", "expire": "expired"}
    assert await statuses(stage) == {call: expected[way] for call, way in zip(calls, ways, strict=True)}
    assert await waits_in_work(stage) == []


async def test_an_answer_in_a_calls_place_is_what_the_model_reads(stage: Stage) -> None:
    [call] = await stage.ask("pay")

    await stage.rule(call, "answer", message="Paid in cash.")
    stage.plays(answer(said()))
    await stage.go_on()

    assert stage.tools.called == []
    assert stage.model.messages[-1]["content"][0]["content"] == [{"type": "text", "text": "Paid in cash."}]


# Partial decisions.


async def test_fewer_decisions_than_asked_make_the_session_idle_again_with_the_rest(stage: Stage) -> None:
    calls = await stage.ask("a", "b", "c")

    await stage.rule(calls[1], "approve")
    outputs = await stage.go_on()

    assert stage.tools.names == ["b"]
    [waits] = only(e.StatusIdle, outputs)
    assert waits.stop_reason.event_ids == (calls[0], calls[2])
    assert len(only(c.ApprovalRequested, await stage.log())) == 3


async def test_of_two_decisions_at_once_the_first_that_is_stored_counts(stage: Stage) -> None:
    [call] = await stage.ask("pay")

    both = await asyncio.gather(
        stage.rule(call, "approve", "ann"), stage.rule(call, "deny", "bob"), return_exceptions=True
    )

    assert len([each for each in both if each is None]) == 1
    [decided] = only(c.ApprovalDecided, await stage.log())
    [row] = await stage.approvals("approved" if decided.decision == "approve" else "denied")
    assert row.decided_by == decided.decided_by


# Rows.


async def test_a_row_is_pending_from_the_question_to_the_decision(stage: Stage) -> None:
    asked_at = stage.clock.now()
    [call] = await stage.ask("pay")

    [pending] = await stage.approvals()
    stage.clock.advance(60)
    await stage.rule(call, "deny", message="No.")
    [denied] = await stage.approvals("denied")

    assert (pending.asked.tool_use_id, pending.asked.input, pending.decided) == (call, {"amount": 1}, None)
    assert pending.asked.created_at == asked_at
    assert await stage.approvals() == []
    assert isinstance(denied.decided, c.ApprovalDecided)
    assert (denied.decided.message, denied.decided_by) == ("No.", "ann")
    assert types(denied.stored) == ["approval.decided", "agent.tool_result"]
    assert denied == await stage.store.approvals.one(REF, call)


async def test_the_largest_plan_is_asked_and_decided_in_one_transaction_each(stage: Stage) -> None:
    stage.model.plays.append(answer(*(asked("pay") for _ in range(MAX_BLOCKS_PER_ANSWER))))
    await stage.drive()
    waiting = await stage.approvals()

    plan_id = waiting[0].asked.plan_id or ""
    denial = PlanDecision("deny")
    await stage.store.words.say(REF, lambda scribe, session: decide_plan(scribe, session, plan_id, denial, "ann"))

    assert len(waiting) == MAX_BLOCKS_PER_ANSWER
    assert len({each.asked.plan_id for each in waiting}) == 1
    assert set((await statuses(stage)).values()) == {"denied"}


@pytest.mark.parametrize("cut", ["interrupt", "expiry"])
async def test_when_the_run_is_stopped_what_waits_leaves_the_inbox_at_once(stage: Stage, cut: str) -> None:
    stage.deploy(careful(on_expire="cancel"))
    first, second = await stage.ask("a", "b")
    await stage.rule(first, "approve")
    if cut == "interrupt":
        await stage.store.words.say(REF, lambda scribe, _: [scribe.write(c.UserInterrupt, requested_by="bob")])
    else:
        stage.clock.advance(15 * DAY)
        await stage.store.words.say(REF, expire)

    left = await statuses(stage)
    [gone] = await stage.approvals("cancelled" if cut == "interrupt" else "expired")
    await stage.go_on()

    assert left == {first: "approved", second: gone.status}
    assert gone.decided_by == ("bob" if cut == "interrupt" else "")
    assert await statuses(stage) == left
    assert await waits_in_work(stage) == []
    assert only(c.RunCancelled, await stage.log())
    with pytest.raises(NotFound):
        await stage.rule(second, "approve")


async def test_a_run_that_fails_while_it_waits_cancels_what_it_asked(stage: Stage) -> None:
    first, second = await stage.ask("a", "b")
    await stage.rule(first, "deny")
    claim = await stage.take_over()
    async for _ in stage.engine.give_up(claim, stage.agent, Fail("poisoned", "Enough.")):
        pass

    assert await statuses(stage) == {first: "denied", second: "cancelled"}


# The inbox.


async def inbox(stage: Stage, count: int) -> list[str]:
    """Let so many sessions ask for one call each, a second apart; return the calls, oldest first."""
    calls = []
    for n in range(count):
        stage.ref = Ref("acme", f"sesn_{n}")
        calls += await stage.ask("pay")
        stage.clock.advance(1)
    return calls


async def paged(stage: Stage, **options: Any) -> list[str]:
    """Walk through all pages."""
    calls, page = list[str](), None
    given: dict[str, Any] = {"limit": 2, "newest_first": False} | options
    while True:
        found = await stage.store.approvals.page("acme", "pending", page=page, **given)
        calls += [each.asked.tool_use_id for each in found.approvals]
        page = found.next_page
        if page is None:
            return calls


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 5, 100])
async def test_the_inbox_pages_through_all_sessions_in_order(stage: Stage, limit: int, *, newest_first: bool) -> None:
    calls = await inbox(stage, 5)

    found = await paged(stage, limit=limit, newest_first=newest_first)

    assert found == (calls[::-1] if newest_first else calls)


@pytest.mark.parametrize("newest_first", [False, True])
async def test_one_sessions_approvals_are_paged_from_its_own_partition(stage: Stage, *, newest_first: bool) -> None:
    calls = await stage.ask("a", "b", "c", "pay")
    await stage.rule(calls[1], "deny")

    found = await paged(stage, session=REF, newest_first=newest_first)

    left = [calls[0], *calls[2:]]
    assert sorted(found) == sorted(left)
    assert found == sorted(left, reverse=newest_first)


async def test_only_ones_own_are_shown_and_those_of_another_tenant_never(stage: Stage) -> None:
    [call] = await stage.ask("pay")

    assert await paged(stage, owner="ann") == [call]
    assert await paged(stage, owner="bob") == []
    assert (await stage.store.approvals.page("other", "pending", limit=5, newest_first=True, page=None)).approvals == []
    with pytest.raises(NotFound):
        await stage.store.approvals.one(REF, call, "bob")


async def test_a_cursor_fits_no_other_question(stage: Stage) -> None:
    await inbox(stage, 3)
    page = await stage.store.approvals.page("acme", "pending", limit=1, newest_first=True, page=None)

    for options in ({"newest_first": False}, {"newest_first": True, "owner": "ann"}):
        with pytest.raises(Malformed):
            await stage.store.approvals.page("acme", "pending", limit=1, page=page.next_page, **options)


async def test_a_page_with_nothing_to_see_has_a_successor_while_there_is_more(stage: Stage) -> None:
    for n in range(50):  # of sessions that have gone
        key = Ref("acme", f"sesn_gone{n}").approval("sevt_1")
        row = {"PK": key.pk, "SK": key.sk, "id": f"appr_{n}", "status": "pending", "asked_seq": 1}
        await stage.sqlite.write(Put(row | approval_keys("acme", "pending", n, f"appr_{n}")))
    calls = await inbox(stage, 2)

    first = await stage.store.approvals.page("acme", "pending", limit=1, newest_first=False, page=None)

    assert (first.approvals, first.next_page is None) == ([], False)
    assert await paged(stage, limit=1) == calls


# Sessions that are gone.


async def test_approvals_of_a_deleted_session_are_not_shown_and_go_with_its_sweep(stage: Stage) -> None:
    [call] = await stage.ask("pay")
    writes = len(stage.table.writes)

    await stage.store.sessions.delete(REF)
    ops = stage.table.writes[writes:]
    shown = await stage.approvals()
    with pytest.raises(NotFound):
        await stage.store.approvals.one(REF, call)
    await stage.sweeper.sweep()

    assert not [op for write in ops for op in write if not isinstance(op, Delete) and op.key.sk.startswith("A#")]
    assert shown == []
    assert await statuses(stage) == {}
    assert await waits_in_work(stage) == []


async def test_an_approval_of_a_session_that_has_lapsed_ends_the_session(stage: Stage) -> None:
    await stage.ask("pay")
    stage.clock.advance(31 * DAY)

    shown = await stage.approvals()
    for _ in range(2):
        await stage.sweeper.sweep()

    assert shown == []
    assert await statuses(stage) == {}
    assert not only(c.ApprovalExpired, await stage.log())


# Waiting, and the end of it.


async def test_ten_days_and_a_restart_later_an_answer_lets_the_run_go_on_and_nothing_ran_meanwhile(
    stage: Stage,
) -> None:
    [call] = await stage.ask("pay")
    before, requests = stage.rows(), len(stage.model.requests)
    for _ in range(10):
        stage.clock.advance(DAY)
        swept = await stage.sweeper.sweep()
        assert swept == Swept()
    waited = stage.rows()
    other = stage.another()
    other.plays(answer(said("Paid.")), pay=pays)

    await other.rule(call, "approve")
    swept = await other.sweeper.sweep()
    log = await other.ended()

    assert waited == before
    assert len(stage.model.requests) == requests
    assert swept == Swept(hints=1)
    assert (stage.tools.names, other.tools.names) == ([], ["pay"])
    assert only(e.RunFinished, log)


async def test_what_nobody_decides_expires_by_the_sweeper_and_the_run_goes_on(stage: Stage) -> None:
    [call] = await stage.ask("pay")
    stage.clock.advance(14 * DAY - 1)
    early = await stage.sweeper.sweep()
    stage.clock.advance(1)
    stage.plays(answer(said("Nobody decided.")))

    swept = await stage.sweeper.sweep()
    log = await stage.ended()
    late = await stage.sweeper.sweep()

    assert (early, swept, late) == (Swept(), Swept(hints=1), Swept())
    assert only(e.RunFinished, log)
    assert stage.model.messages[-1]["content"][0]["content"][0]["text"] == EXPIRED
    assert await statuses(stage) == {call: "expired"}


async def test_an_approval_that_is_kept_waits_for_ever(stage: Stage) -> None:
    stage.deploy(careful(on_expire="keep", approval_seconds=60))
    [call] = await stage.ask("pay")
    stage.clock.advance(DAY)

    assert await waits_in_work(stage) == []
    assert await stage.sweeper.sweep() == Swept()
    assert await statuses(stage) == {call: "pending"}


async def test_several_that_expire_together_are_one_hint(stage: Stage) -> None:
    await stage.ask("a", "b", "c")
    stage.clock.advance(14 * DAY)
    stage.plays(answer(said()))

    assert await stage.sweeper.sweep() == Swept(hints=1)
    assert len(only(c.ApprovalExpired, await stage.ended())) == 3


async def test_an_index_that_lags_behind_expires_nothing_twice(stage: Stage) -> None:
    [call] = await stage.ask("pay")
    row = await stage.sqlite.get(REF.approval(call))
    stage.plays(answer(said()))
    await stage.rule(call, "deny")
    await stage.go_on()
    assert row
    await stage.sqlite.write(Put(row))
    stage.clock.advance(15 * DAY)

    assert await stage.sweeper.sweep() == Swept()
    assert not only(c.ApprovalExpired, await stage.log())


async def test_when_the_time_is_over_a_decision_is_too_late_before_any_sweeper_has_looked(
    stage: Stage,
) -> None:
    [call] = await stage.ask("pay")
    stage.clock.advance(14 * DAY)

    with pytest.raises(Gone):
        await stage.rule(call, "approve")

    assert not only(c.ApprovalDecided, await stage.log())
