"""What simulating thousands of worlds asks of Python."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def rare_collections() -> Iterator[None]:
    """Look for garbage less often, and not among what was imported: it takes a tenth of the time otherwise."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()
