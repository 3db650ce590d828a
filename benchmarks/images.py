"""What images cost later: bytes stored and read by text turns behind a message of 20 images, and behind ten messages.

Every turn comes to a store that knows nothing, as separate Lambdas would, and moves 11 KB of prose. Bytes are counted
where they leave for the table and the blobs, so the figures are the same on every machine.
"""

import base64
import random
from collections import Counter
from pathlib import Path

from parley.adapters.files import FileBlobs
from parley.adapters.python_tools import PythonTools
from parley.adapters.sqlite import SqliteTable
from parley.adapters.system import SystemClock, UlidIds
from parley.core.value import Base64Image, Content, ImageBlock, TextBlock
from parley.engine import Engine
from parley.ports import Op, Put
from parley.store import Head, Ref, Store
from parley.store.head import milliseconds

from benchmarks import librarian, servers
from benchmarks.agent import librarian as agent
from benchmarks.capacity import CountedBlobs
from benchmarks.report import Figure, say

IMAGE_BYTES = 150_000
"""Of each image; 20 are 4 MB of base64."""

TEXT_TURNS, EARLY = 30, 10
"""Turns of text behind the images, and how many of them are the first."""


class CountedTable(SqliteTable):
    """A table that adds up the values it is given."""

    def __init__(self, path: Path, clock: SystemClock) -> None:
        super().__init__(path, clock)
        self.written = 0

    async def write(self, *ops: Op) -> None:
        """Write."""
        for op in ops:
            values = op.item.values() if isinstance(op, Put) else ()
            self.written += sum(len(value) for value in values if isinstance(value, str | bytes))
        await super().write(*ops)


async def measure() -> list[Figure]:
    """Hold two conversations, and tell what their turns moved."""
    say("images")
    figures: list[Figure] = []
    many = [_pictures(20), *_texts()]
    often = [_pictures(2) for _ in range(10)] + _texts()
    for name, contents in (("20 images, then text", many), ("ten times 2 images, then text", often)):
        with servers.data_folder() as folder:
            figures += _figures(name, await _talk(folder, contents))
    return figures


def _pictures(count: int) -> Content:
    source = random.Random(count)
    images = [base64.b64encode(b"\xff\xd8\xff" + source.randbytes(IMAGE_BYTES)).decode() for _ in range(count)]
    shown = [ImageBlock(source=Base64Image(media_type="image/jpeg", data=image)) for image in images]
    return (*shown, TextBlock(text="What is this?"))


def _texts() -> list[Content]:
    return [librarian.message(number) for number in range(1, TEXT_TURNS + 1)]


async def _talk(folder: Path, contents: list[Content]) -> list[Counter[str]]:
    """Return what each turn moved."""
    clock, ids, ref, moved = SystemClock(), UlidIds(), Ref("bench", "sesn_images"), []
    now = milliseconds(clock.now())
    new: Head | None = Head(ref.id, agent.id, "bench", now, now)
    async with CountedTable(folder / "table.db", clock) as table:
        for number, content in enumerate(contents, 1):
            blobs, before = CountedBlobs(FileBlobs(folder / "blobs")), table.written
            store = Store.over(table, blobs, clock, ids)
            engine = Engine(store, librarian.Librarian(number), PythonTools(), clock, ids)
            claim = await store.claims.begin(ref, agent, content, new=new)
            async for _ in engine.drive(claim, agent):
                pass
            moved.append(blobs.calls | Counter({"table bytes": table.written - before}))
            new = None
    return moved


def _figures(group: str, turns: list[Counter[str]]) -> list[Figure]:
    first = len(turns) - TEXT_TURNS
    parts = {
        "turns with images": turns[:first],
        "the first ten text turns": turns[first : first + EARLY],
        "the text turns behind them": turns[first + EARLY :],
    }
    kinds = {"put bytes": "put into blobs", "get bytes": "got from blobs", "table bytes": "put into the table"}
    return [
        Figure(group, f"{who}: {what}, mean", sum(turn[kind] for turn in some) / len(some) / 1000, "KB")
        for who, some in parts.items()
        for kind, what in kinds.items()
    ]
