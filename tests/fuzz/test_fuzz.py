"""Every operation of the API, in all phases and under all checks; `python -m tests.fuzz` does more of the same."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz.campaign import fuzz
from tests.fuzz.rules import PHASES


@pytest.mark.timeout(240)
def test_the_api_does_what_its_description_says(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    report = fuzz(tmp_path, max_examples=10)

    print(report)
    record_property("proof", str(report).splitlines()[0])
    assert not report.failures
    assert not report.barren
    assert set(report.phases) == set(PHASES)
