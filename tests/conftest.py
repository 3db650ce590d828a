"""What every suite shares."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import proof
from tests.build import Stage, staged

settings.register_profile("gate", derandomize=True, deadline=None, database=None)
settings.register_profile("search", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile("gate")  # the same examples every time; `--hypothesis-profile=search` looks for new ones


@pytest.fixture
def anyio_backend() -> str:
    """Run asynchronous tests on asyncio, once."""
    return "asyncio"


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    """One process on a real SQLite table, with fakes for all else."""
    async with staged(tmp_path) as opened:
        yield opened


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the report of the proof."""
    passed = terminalreporter.getreports("passed")
    told = [said for report in passed for name, said in report.user_properties if name == "proof"]
    if told:
        terminalreporter.section("proof")
        for line in proof.report(told):
            terminalreporter.write_line(line)
