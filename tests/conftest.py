"""What every suite shares."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.build import Stage, staged


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, once."""
    return "asyncio"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """One process on a real SQLite table, with fakes for all else."""
    async with staged(tmp_path) as opened:
        yield opened
