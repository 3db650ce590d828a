"""Deltas for other processes: written while somebody watches, not at all while nobody does, and never in the way."""

import asyncio

import pytest
from parley.broadcast import Broadcast
from parley.core import event as e
from parley.core.delta import DraftDiscarded, DraftGrew, DraftStarted, Rotated
from parley.ports import Delete, Put
from parley.store.drafts import Draft, Drafts
from parley.store.keys import DRAFT

from tests.build import REF, Stage, answer, asked, event, said
from tests.fakes.gate import Gate
from tests.fakes.watched_table import WatchedTable

pytestmark = pytest.mark.anyio

BEGUN = DraftStarted("m", "agent.message")
ENDED = event(e.AgentMessage, id="m", seq=6)


def grew(text: str) -> DraftGrew:
    return DraftGrew("m", "agent.message", text)


class Desk:
    """A broadcast of a claimed run, over a table whose reads are seen."""

    def __init__(self, stage: Stage, broadcast: Broadcast, table: WatchedTable) -> None:
        self.stage, self.broadcast, self.table = stage, broadcast, table
        self.drafts = broadcast.drafts

    async def say(self, *outputs: DraftStarted | DraftGrew | DraftDiscarded | e.Event) -> None:
        """Take what is said, and let it be written."""
        for output in outputs:
            self.broadcast.take(output)
        while self.broadcast.task and not self.broadcast.task.done():
            await self.broadcast.task

    async def seen(self) -> list[Draft]:
        """Read as a watcher does."""
        return (await self.stage.store.log.watch(REF, 4))[1]

    @property
    def looks(self) -> int:
        """How often somebody looked for the mark."""
        return sum(read.first == "LW" for read in self.table.reads)


async def desk(stage: Stage, *, watched: bool = True) -> Desk:
    """Claim a run, and mark its session if somebody watches."""
    table = WatchedTable(stage.sqlite)
    drafts = Drafts(table, stage.clock)
    claim = await stage.begin()
    if watched:
        await stage.store.drafts.mark(REF)
    made = Broadcast(claim, drafts, stage.clock, watched)
    for each in claim.events:
        made.take(each)
    return Desk(stage, made, table)


# While somebody watches.


async def test_what_is_said_can_be_read_in_another_process(stage: Stage) -> None:
    at = await desk(stage)

    await at.say(BEGUN)
    begun = await at.seen()
    await at.say(grew("Hel"))
    await at.say(grew("lo"))

    assert begun == [Draft("m", "agent.message", "", 4)]
    assert await at.seen() == [Draft("m", "agent.message", "Hello", 4)]


async def test_what_comes_within_a_fifth_of_a_second_is_one_write(stage: Stage) -> None:
    at = await desk(stage)

    await at.say(BEGUN, *(grew(f"{n} ") for n in range(100)))

    assert stage.clock.slept == [0.2]
    [[put]] = at.table.writes
    assert isinstance(put, Put)
    assert put.item["pieces"] == [["m", "agent.message", "".join(f"{n} " for n in range(100))]]


async def test_what_comes_during_a_write_is_written_without_waiting_for_more(stage: Stage) -> None:
    at = await desk(stage)

    async def more() -> None:
        at.broadcast.take(grew("lo"))

    at.table.before_next(more)
    await at.say(BEGUN, grew("Hel"))

    assert [draft.text for draft in await at.seen()] == ["Hello"]


async def test_two_drafts_are_kept_apart(stage: Stage) -> None:
    at = await desk(stage)
    thinking = DraftGrew("t", "agent.thinking", "Hm")

    await at.say(DraftStarted("t", "agent.thinking"), thinking, BEGUN, grew("Hel"), thinking, grew("lo"))

    assert [(draft.event_id, draft.text) for draft in await at.seen()] == [("t", "HmHm"), ("m", "Hello")]


async def test_rows_are_removed_when_their_events_are_in_the_log(stage: Stage) -> None:
    at = await desk(stage)
    await at.say(BEGUN, grew("Hel"))
    await at.say(grew("lo"))

    await at.say(ENDED)

    assert await at.seen() == []


async def test_rows_are_removed_when_the_event_came_during_the_write(stage: Stage) -> None:
    at = await desk(stage)

    async def ended() -> None:
        at.broadcast.take(ENDED)

    at.table.before_next(ended)
    await at.say(BEGUN, grew("Hel"))

    assert await at.seen() == []


async def test_a_draft_that_was_discarded_is_not_written_any_more(stage: Stage) -> None:
    at = await desk(stage)

    await at.say(BEGUN, grew("Hel"), DraftDiscarded("m"))

    assert at.table.writes == []


async def test_a_row_says_behind_which_event_it_belongs(stage: Stage) -> None:
    at = await desk(stage)
    await at.say(BEGUN, grew("Hel"))
    await at.say(ENDED)

    await at.say(DraftStarted("n", "agent.message"))

    assert await at.seen() == [Draft("n", "agent.message", "", 6)]


async def test_the_end_of_a_stream_by_plan_is_no_draft(stage: Stage) -> None:
    at = await desk(stage)

    at.broadcast.take(Rotated(4, "idle"))

    assert at.broadcast.task is None


# While nobody does.


async def test_nothing_is_written_while_nobody_watches(stage: Stage) -> None:
    at = await desk(stage, watched=False)

    for n in range(20):
        await at.say(BEGUN if n == 0 else grew(f"{n} "))
    await at.say(ENDED)
    await at.broadcast.close()

    assert at.table.writes == []
    assert at.looks > 0


@pytest.mark.parametrize("watched", [False, True])
async def test_a_driver_looks_for_a_watcher_at_most_once_a_second(stage: Stage, watched: bool) -> None:
    stage.clock.skips_seconds = 0
    at = await desk(stage, watched=watched)
    at.broadcast.take(BEGUN)

    for n in range(100):
        at.broadcast.take(grew(f"{n} "))
        stage.clock.advance(0.1)
        await asyncio.sleep(0.002)

    assert 0 < at.looks <= 10
    await at.broadcast.close()


async def test_while_no_model_answers_nobody_is_looked_for(stage: Stage) -> None:
    at = await desk(stage, watched=False)

    await at.say(event(e.AgentToolResult, seq=5, tool_use_id="call"), event(e.ModelRequestStart, seq=6))

    assert at.table.reads == []
    assert at.broadcast.task is None


async def test_who_comes_in_the_middle_of_a_message_gets_its_beginning_and_then_the_rest(stage: Stage) -> None:
    at = await desk(stage, watched=False)
    await at.say(BEGUN, grew("Hel"))

    await at.drafts.mark(REF)
    await at.say(grew("lo"))
    middle = [draft.text for draft in await at.seen()]
    await at.say(grew(" you"))

    assert middle == ["Hello"]
    assert [draft.text for draft in await at.seen()] == ["Hello you"]


async def test_writing_ends_when_the_watcher_has_gone_and_begins_anew_for_the_next_one(stage: Stage) -> None:
    at = await desk(stage)
    await at.say(BEGUN, grew("Hel"))

    stage.clock.advance(100)
    await at.say(grew("lo"))
    written = len(at.table.writes)
    await at.say(grew(" you"))
    assert len(at.table.writes) == written, "nobody watches"
    await at.drafts.mark(REF)
    await at.say(grew(" two"))

    assert [draft.text for draft in await at.seen()] == ["Hello you two"]


# The end of a run.


async def test_nothing_is_left_of_a_driver_that_stops_in_the_middle(stage: Stage) -> None:
    at = await desk(stage)
    await at.say(BEGUN, grew("Hel"))
    at.broadcast.take(grew("lo"))

    await at.broadcast.close()

    assert await at.seen() == []
    assert at.broadcast.task
    assert at.broadcast.task.done()


async def test_a_run_that_is_watched_leaves_no_row(stage: Stage) -> None:
    gate = Gate()
    stage.plays([*answer(said("Hel", "lo"), asked("pay"))[:4], gate, *answer(said("Hel", "lo"), asked("pay"))[4:]])
    stage.plays(answer(said("Paid.")))
    await stage.create()
    await stage.store.drafts.mark(REF)
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    task = stage.runner.live[claim.run_id].task
    assert task is not None
    seen = await drafts_seen(stage)

    gate.opened.set()
    await task

    assert claim.watched
    assert [draft.text for draft in seen] in (["Hel"], ["Hello"], [""])
    assert drafts_of(stage) == []


async def test_a_run_that_nobody_watches_writes_no_draft(stage: Stage) -> None:
    stage.plays(answer(said("Hel", "lo"), asked("pay")), answer(said("Paid.")))
    claim = await stage.begin()
    stage.runner.start(claim, stage.agent)
    task = stage.runner.live[claim.run_id].task
    assert task is not None
    await task

    written = [op.key.sk for ops in stage.table.writes for op in ops]
    assert not any(sk.startswith(DRAFT) for sk in written)


def drafts_of(stage: Stage) -> list[str]:
    return [row[1] for row in stage.rows() if row[1].startswith(DRAFT)]


async def drafts_seen(stage: Stage) -> list[Draft]:
    """Wait until a watcher could read something."""
    async with asyncio.timeout(5):
        while True:
            _, drafts = await stage.store.log.watch(REF, 4)
            if drafts:
                return drafts
            await asyncio.sleep(0.001)


# A store in trouble.


async def test_a_piece_that_could_not_be_written_is_not_missing_in_the_middle(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    at = await desk(stage)
    await at.say(BEGUN, grew("Hel"))
    at.table.fail_next("lost")

    await at.say(grew("lo"))
    await at.say(grew(" you"))
    await at.say(grew(" two"))

    assert [draft.text for draft in await at.seen()] == ["Hello you two"]
    assert "drafts_not_written" in caplog.messages


async def test_a_write_that_was_not_confirmed_is_not_told_twice(stage: Stage) -> None:
    at = await desk(stage)
    await at.say(BEGUN, grew("Hel"))
    at.table.fail_next("unconfirmed")

    await at.say(grew("lo"))
    await at.say(grew(" you"))

    assert [draft.text for draft in await at.seen()] == ["Hello you"]


async def test_after_a_piece_was_lost_nothing_is_written_before_all_of_it_is(stage: Stage) -> None:
    at = await desk(stage)
    await at.say(BEGUN, grew("Hel"))
    at.table.fail_next("lost")
    await at.say(grew("lo"))
    at.table.down = True

    await at.say(grew(" you"))
    meanwhile = [draft.text for draft in await at.seen()]
    at.table.down = False
    await at.say(grew(" two"))

    assert meanwhile == ["Hel"]
    assert [draft.text for draft in await at.seen()] == ["Hello you two"]


async def test_a_look_that_fails_is_tried_again_and_no_sooner_than_in_a_second(stage: Stage) -> None:
    at = await desk(stage)
    await at.say(BEGUN, grew("Hel"))
    at.table.down = True
    stage.clock.advance(1)
    await at.say(grew("lo"))
    before = stage.clock.now()

    at.table.down = False
    await at.say(grew(" you"))

    assert (stage.clock.now() - before).total_seconds() >= 1
    assert [draft.text for draft in await at.seen()] == ["Hello you"]


async def test_rows_that_cannot_be_removed_do_not_end_the_driver(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    at = await desk(stage)
    await at.say(BEGUN, grew("Hel"))
    at.table.fail_next("lost")

    await at.broadcast.close()

    assert isinstance(at.table.writes[-1][0], Delete)
    assert "drafts_not_written" in caplog.messages


async def test_a_run_goes_on_while_its_drafts_cannot_be_written(stage: Stage) -> None:
    gate, trying = Gate(), asyncio.Event()

    async def tried() -> None:
        trying.set()

    stage.plays([*answer(said("Hel", "lo"))[:4], gate, *answer(said("Hel", "lo"))[4:]])
    await stage.create()
    await stage.store.drafts.mark(REF)
    claim = await stage.begin()
    before = len(stage.table.writes)
    stage.table.fail_next("lost")
    stage.table.before_next(tried)
    stage.runner.start(claim, stage.agent)
    task = stage.runner.live[claim.run_id].task
    assert task is not None
    await asyncio.wait_for(trying.wait(), 5)
    gate.opened.set()
    await task

    [failed] = stage.table.writes[before]
    assert failed.key.sk.startswith(DRAFT)
    assert isinstance((await stage.log())[-1], e.StatusIdle)
    assert drafts_of(stage) == []
