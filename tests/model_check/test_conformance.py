"""The model does not drift: its walks, replayed on the production store and engine, give the same log and lock."""

import asyncio
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.build import staged, types
from tests.model_check.decisions import Book, tool_of
from tests.model_check.moves import Moves
from tests.model_check.production import Production, Seen
from tests.model_check.table import Rules
from tests.model_check.world import LAPSED, Driver, Faults, Move, State

pytestmark = pytest.mark.anyio

EVERYTHING = Faults(*[1] * len(Faults._fields))._replace(crashes=2, lapses=2, words=2, timeouts=2)
WALKS = 60
MAX_MOVES = 60
PATIENCE = 2000
"""Looks, each some milliseconds after the other."""

KINDS = {
    *("look", "plan", "read", "take", "crash", "land", "renew", "send", "sweep", "delete"),
    *("write answered", "write applied", "write not applied", "write late", "ask answers", "ask busy"),
    *("call pay ok", "call pay unknown", "call file ok", "call look ok"),
    *("say happened", "say did not happen", "say retry", "hand over"),
}


def walk(moves: Moves, seed: int) -> Iterator[tuple[State, Move]]:
    """Go one way through the model, in which who has read something goes on at once."""
    chance = random.Random(seed)
    state = moves.start(EVERYTHING)
    for n in itertools.count():
        ways = list(moves.after(state))
        at_once = [move for move in ways if reads(state, move)]
        if at_once:
            ways = at_once
        elif n > MAX_MOVES or not ways:
            return
        elif chance.random() < 0.6:
            ways = [move for move in ways if not move.fault] or ways
        move = chance.choice(ways)
        yield state, move
        state = move.state


def reads(state: State, move: Move) -> bool:
    if move.act[0] not in ("plan", "read", "take"):
        return False
    driver = state.drivers[int(move.act[1])]
    return driver.at in ("looking", "reading") or bool(driver.made)


def stands(driver: Driver) -> list[str]:
    """Before what the process of this driver has to stand."""
    before = {"writing": ["write"], "asking": ["ask"], "idle": ["idle"]}.get(driver.at, [])
    return sorted([*before, *(f"call {tool_of(call)}" for call in driver.calls)])


def seen(book: Book, state: State) -> Seen:
    """What production has to look like, too."""
    entries = [book.entries[number] for number in state.log if number is not None]
    log = [(entry.epoch, sorted(types(book.events[n] for n in entry.events))) for entry in entries]
    lock = state.lock
    lease = {None: "none", LAPSED: "lapsed"}.get(lock.lease, "given")
    return Seen(log, (lock.epoch, lock.run is not None, lease, lock.deleted), [stands(each) for each in state.drivers])


async def looks_like(production: Production, expected: Seen) -> None:
    """Give production a moment to come to a stand; then it must be the same."""
    for _ in range(PATIENCE):
        if await production.seen() == expected:
            return
        await asyncio.sleep(0.002)
    assert await production.seen() == expected


async def replay(way: list[tuple[State, Move]], book: Book, folder: Path) -> None:
    async with staged(folder) as stage:
        production = await Production.begun(stage)
        for n, (before, move) in enumerate(way):
            at_once = [each for _, each in itertools.takewhile(lambda step: reads(*step), way[n + 1 :])]
            then = [move, *at_once][-1].state
            await production.do(move.act, short=then.faults.handovers < before.faults.handovers)
            for process, was, now in zip(production.processes, before.drivers, move.state.drivers, strict=True):
                if was.write and was.write.kind == "claim" and now.at == "idle":
                    await process.stand()  # it looks again by itself; in the model that is another move
                    await process.end()
            if not at_once:
                await looks_like(production, seen(book, move.state))
        for process in production.processes:
            await process.end()


@pytest.mark.parametrize("seed", range(WALKS))
async def test_a_walk_of_the_model_is_a_walk_of_production(seed: int, tmp_path: Path) -> None:
    book = Book()
    way = list(walk(Moves(book, Rules()), seed))

    await replay(way, book, tmp_path)


def test_the_walks_meet_every_kind_of_move(record_property: Callable[[str, object], None]) -> None:
    """A fault that is never replayed would not be compared."""
    moves = Moves(Book(), Rules())

    met = {kind for seed in range(WALKS) for before, move in walk(moves, seed) for kind in kinds(before, move)}

    assert met >= KINDS
    record_property("proof", {"layer": "model check", "walks replayed on production": WALKS})


def kinds(before: State, move: Move) -> list[str]:
    """Name what a move is, without who makes it."""
    verb, *more = move.act
    said = [str(each).replace("_", " ") for each in more if not str(each)[-1].isdigit()]
    handed = ["hand over"] if move.state.faults.handovers < before.faults.handovers else []
    return [" ".join([str(verb), *said]), *handed]
