"""`make soak` in short: enough kills to see that nothing breaks, and that there was something to break.

How long a recovery took is judged by `make soak`, not here: no test depends on how fast the machine is.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.soak.fleet import Kind
from tests.soak.siege import besiege

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.timeout(150)]

SECONDS = 8


@pytest.mark.parametrize("kind", ["sqlite", "dynamodb"])
async def test_killed_and_frozen_again_and_again_nothing_is_lost_doubled_or_bricked(
    kind: Kind, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    report = await besiege(kind, SECONDS, seed=4, folder=tmp_path / kind, say=print, least=4)

    assert not [violation for violation in report.violations if violation.kind != "recovery too slow"], str(report)
    several = {"accepted jobs", "freezes"} if kind == "dynamodb" else set()
    at_stake = several | {
        "kills",
        "accepted messages",
        "runs taken over",
        "effects not safe to repeat",
        "streams cut",
        "sessions watched whole",
    }
    assert not [name for name in at_stake if not report.figures[name]], str(report)
    told = ", ".join(f"{report.figures[name]} {name}" for name in sorted(at_stake))
    record_property("proof", f"soak in short, {kind}: {told}; nothing lost, doubled or unusable")
