"""Ids that count: `run_0001`, `run_0002` …; they sort as ULIDs do."""

from collections import Counter


class CountingIds:
    """Counts for each prefix; everything that shares a table shares one of these."""

    def __init__(self) -> None:
        self._given: Counter[str] = Counter()

    def new(self, prefix: str) -> str:
        self._given[prefix] += 1
        return f"{prefix}_{self._given[prefix]:04d}"
