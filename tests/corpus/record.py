"""`python -m tests.corpus.record`: record the shapes that are not recorded yet. What is there stays as it is."""

import asyncio
import tempfile
from pathlib import Path

from tests.build import staged
from tests.corpus.recording import RECORDED, Recording
from tests.corpus.shapes import SHAPES, Shape


async def play(shape: Shape) -> Recording:
    """Play a shape on a stage of its own."""
    with tempfile.TemporaryDirectory() as folder:
        async with staged(Path(folder)) as stage:
            await shape(stage)
            return await Recording.of(stage)


def main() -> None:
    """Record what is new."""
    for name, shape in SHAPES.items():
        if (RECORDED / name).exists():
            print(f"  kept      {name}")
        else:
            asyncio.run(play(shape)).write(RECORDED / name)
            print(f"  recorded  {name}")


if __name__ == "__main__":
    main()
