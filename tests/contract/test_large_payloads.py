"""What is larger than an item or a transaction, on every table: it goes through blobs, whole or not at all."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from parley.core import event as e
from parley.core.compose import user_message
from parley.core.delta import Output
from parley.core.errors import Unavailable
from parley.core.limits import MAX_BLOCKS_PER_ANSWER, MAX_INPUT_BYTES, MAX_TOOL_OUTPUT_BYTES
from parley.core.scribe import Scribe
from parley.core.tool import ToolContext, ToolOutcome
from parley.core.value import Content, text_of
from parley.engine import Engine
from parley.ports import Item, Put, Table
from parley.store import Claim, Store
from parley.store.inputs import MAX_QUEUED

from tests.build import REF, agent, answer, asked, head, only, picture, said, shown
from tests.contract.backends import ManualClock
from tests.fakes.blobs import MemoryBlobs
from tests.fakes.flaky_table import FlakyTable
from tests.fakes.ids import CountingIds
from tests.fakes.model import Answers, Play
from tests.fakes.toolbox import PlayedTools

pytestmark = pytest.mark.anyio

ITEM_BYTES, TRANSACTION_BYTES = 400 * 1024, 4 * 1024 * 1024


def noise(size: int, seed: int = 1) -> str:
    """Make text that hardly becomes smaller."""
    return random.Random(seed).randbytes(size // 2).hex()


@dataclass
class Process:
    """The production store and engine, over a table that notes what is written."""

    table: FlakyTable
    blobs: MemoryBlobs
    store: Store
    engine: Engine
    model: Answers
    tools: PlayedTools

    def plays(self, *plays: Play) -> None:
        self.model.plays += plays

    async def begin(self, content: Content = "Hi") -> Claim:
        known = await self.table.get(REF.shown())
        return await self.store.claims.begin(REF, agent(), content, new=None if known else head())

    async def run(self, content: Content = "Hi") -> list[Output]:
        return await self.drive(await self.begin(content))

    async def drive(self, claim: Claim) -> list[Output]:
        return [output async for output in self.engine.drive(claim, agent())]

    async def log(self) -> Sequence[e.Event]:
        return await self.store.log.tail(REF, 0)

    async def items(self) -> list[Item]:
        """Read all that the table has of the session."""
        found: list[Item] = []
        cursor: Item | None = None
        while True:
            page = await self.table.query(REF.pk, cursor=cursor)
            found += page.items
            cursor = page.cursor
            if cursor is None:
                return found


def process(table: Table, blobs: MemoryBlobs, clock: ManualClock, ids: CountingIds) -> Process:
    flaky, model, tools = FlakyTable(table), Answers(), PlayedTools()
    store = Store.over(flaky, blobs, clock, ids)
    return Process(flaky, blobs, store, Engine(store, model, tools, clock, ids), model, tools)


@pytest.fixture
def ids() -> CountingIds:
    return CountingIds()


@pytest.fixture
def one(table: Table, clock: ManualClock, ids: CountingIds) -> Process:
    return process(table, MemoryBlobs(), clock, ids)


@pytest.fixture
def other(one: Process, clock: ManualClock, ids: CountingIds) -> Process:
    """Another process on the same table and blobs."""
    return process(one.table.table, one.blobs, clock, ids)


def largest(writes: Sequence[Sequence[object]]) -> int:
    """Measure the largest transaction by its bytes and texts."""
    puts = [[op.item for op in ops if isinstance(op, Put)] for ops in writes]
    return max(sum(_size(item) for item in items) for items in puts)


def _size(item: Item) -> int:
    return sum(len(value) for value in item.values() if isinstance(value, str | bytes))


async def test_a_megabyte_of_emoji_is_one_message(one: Process, other: Process) -> None:
    emoji = "".join(map(chr, random.Random(1).choices(range(0x1F300, 0x1F9FF), k=MAX_INPUT_BYTES // 4)))
    one.plays(answer(said("Nice.")))
    other.plays(answer(said("Again?")))

    await one.run(emoji)
    await other.run("And now?")

    log = await other.log()
    assert [text_of(each.content) for each in only(e.UserMessage, log)] == [emoji, "And now?"]
    assert other.model.messages[0]["content"][0]["text"] == emoji
    assert max(map(_size, await other.items())) < 40_000


async def test_an_answer_of_megabytes_is_one_event(one: Process, other: Process) -> None:
    pieces = [noise(100_000, seed) for seed in range(50)]
    one.plays(answer(said(*pieces)))
    other.plays(answer(said("Again?")))

    await one.run("Tell me everything")
    await other.run("And now?")

    log = await other.log()
    assert text_of(only(e.AgentMessage, log)[0].content) == "".join(pieces)
    assert other.model.messages[1]["content"][0]["text"] == "".join(pieces)
    assert max(map(_size, await other.items())) < 40_000


async def test_results_that_come_together_may_be_more_than_an_item_and_a_transaction(
    one: Process, other: Process
) -> None:
    outputs = {n: noise(MAX_TOOL_OUTPUT_BYTES, n) for n in range(MAX_BLOCKS_PER_ANSWER)}

    async def look(arguments: dict[str, int], _: ToolContext) -> ToolOutcome:
        return ToolOutcome("ok", outputs[arguments["amount"]])

    one.plays(answer(*(asked("look", {"amount": n}) for n in outputs)), answer(said("Seen.")))
    one.tools.plays["look"] = look
    other.plays(answer(said("Again?")))

    await one.run("Look everywhere")
    await other.run("And now?")

    log = await other.log()
    results = only(e.AgentToolResult, log)
    assert sum(len(text_of(each.content)) for each in results) > 1.7 * TRANSACTION_BYTES
    assert sorted(text_of(each.content) for each in results) == sorted(outputs.values())
    assert largest(one.table.writes) < 40_000
    assert only(e.RunFinished, log)[0].status == "completed"
    assert len(other.model.messages[2]["content"]) == len(outputs)


async def test_as_many_messages_as_may_wait_are_one_transaction_however_large_they_are(one: Process) -> None:
    await one.store.sessions.create(REF, head())
    writes = Scribe(one.store.log.ids.new, one.store.log.clock.now, None)
    inline = [user_message(writes, noise(50_000, seed)) for seed in range(MAX_QUEUED // 2)]
    large = [user_message(writes, shown(picture(300_000, seed))) for seed in range(MAX_QUEUED // 2)]

    await one.store.inputs.put(REF, [*inline, *large])

    waiting = await one.store.inputs.all(REF)
    assert [queued.message.content for queued in waiting] == [message.content for message in [*inline, *large]]
    assert 400_000 < largest(one.table.writes) < TRANSACTION_BYTES


async def test_twenty_images_that_waited_are_seen_and_leave_nothing_in_the_table(one: Process, other: Process) -> None:
    await one.store.sessions.create(REF, head())
    content = shown(*(picture(200_000, seed) for seed in range(20)), text="These?")
    writes = Scribe(one.store.log.ids.new, one.store.log.clock.now, None)
    await one.store.inputs.put(REF, [user_message(writes, content)])
    other.plays(answer(said("Cats.")), answer(said("Still cats.")))

    claim = await other.store.claims.begin_queued(REF, lambda _: agent())
    assert claim is not None
    await other.drive(claim)
    await other.run("And now?")

    assert [block.model_dump() for block in content] == other.model.messages[0]["content"]
    assert max(map(_size, await other.items())) < 10_000


# A blob that cannot be written.


async def test_a_message_whose_blob_cannot_be_written_begins_nothing(one: Process) -> None:
    one.blobs.broken = True

    with pytest.raises(Unavailable):
        await one.begin(noise(MAX_INPUT_BYTES))

    assert await one.items() == []
    one.blobs.broken = False
    one.plays(answer(said("Now.")))
    assert only(e.RunFinished, await one.run(noise(MAX_INPUT_BYTES)))


async def test_of_messages_whose_last_blob_cannot_be_written_none_waits(one: Process) -> None:
    await one.store.sessions.create(REF, head())
    writes = Scribe(one.store.log.ids.new, one.store.log.clock.now, None)
    before = await one.items()
    one.blobs.room = 1

    with pytest.raises(Unavailable):
        await one.store.inputs.put(REF, [user_message(writes, noise(200_000, seed)) for seed in range(3)])

    assert await one.items() == before
    assert await one.store.inputs.all(REF) == []


async def test_an_answer_whose_blob_cannot_be_written_is_asked_for_again_by_the_next_driver(
    one: Process, other: Process
) -> None:
    one.plays(answer(said(noise(300_000)), asked("pay")))
    other.plays(answer(said("I go on.")))
    claim = await one.begin()
    one.blobs.broken = True

    with pytest.raises(Unavailable):
        await one.drive(claim)
    one.blobs.broken = False
    taken = await other.store.claims.take_over(REF, void_lease=True)
    assert taken is not None
    await other.drive(taken)

    log = await other.log()
    assert one.tools.called == other.tools.called == []
    assert [text_of(each.content) for each in only(e.AgentMessage, log)] == ["I go on."]
    assert isinstance(log[-1], e.StatusIdle)


@pytest.mark.parametrize(("tool", "calls", "asks"), [("look", 2, False), ("pay", 1, True)])
async def test_a_result_whose_blob_cannot_be_written_is_made_again_only_where_that_is_safe(
    one: Process, other: Process, tool: str, calls: int, asks: bool
) -> None:
    one.plays(answer(asked(tool)))
    other.plays(answer(said("Done.")))
    large = ToolOutcome("ok", noise(MAX_TOOL_OUTPUT_BYTES))

    async def full(_: dict[str, int], __: ToolContext) -> ToolOutcome:
        one.blobs.broken = True
        return large

    one.tools.plays[tool], other.tools.plays[tool] = full, large
    with pytest.raises(Unavailable):
        await one.run()
    one.blobs.broken = False
    taken = await other.store.claims.take_over(REF, void_lease=True)
    assert taken is not None
    await other.drive(taken)

    log = await other.log()
    assert len(one.tools.called) + len(other.tools.called) == calls
    assert bool(only(e.ToolOutcomeUnknown, log)) is asks
    assert len(only(e.AgentToolResult, log)) == calls - 1
    assert isinstance(log[-1], e.StatusIdle)
