"""What came of one arrangement, as a table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.soak.book import Violation

ALWAYS_TOLD = (
    "message lost",
    "message doubled",
    "run not ended",
    "effect doubled",
    "told otherwise",
    "log has gaps",
    "stream differs",
    "session unusable",
    "deleted, yet there",
    "refused by the model",
    "recovery too slow",
)
"""Kinds of violations whose count is told even if it is none."""

SHOWN = 40
"""Violations that are told one by one."""


@dataclass(frozen=True)
class Report:
    """The figures of one arrangement."""

    kind: str
    seed: int
    seconds: float
    folder: Path
    figures: dict[str, int]
    recovery: tuple[float, float, float]
    """p50, p100 and the bound, in seconds."""
    violations: Sequence[Violation]

    def __str__(self) -> str:
        """Write the table."""
        p50, p100, bound = self.recovery
        rows = {name: f"{value:,}" for name, value in self.figures.items()}
        rows |= {"recovery p50 / p100 / bound": f"{p50:.1f} / {p100:.1f} / {bound:.1f} s"}
        rows |= {"siege": f"{self.seconds:.0f} s", "seed": str(self.seed), "violations": str(len(self.violations))}
        width = max(map(len, rows))
        lines = [f"{self.kind}", *(f"  {name:<{width}}  {value:>12}" for name, value in rows.items())]
        found = dict.fromkeys(ALWAYS_TOLD, 0) | Counter(violation.kind for violation in self.violations)
        lines += [f"    {kind:<{width - 2}}  {count:>12}" for kind, count in found.items()]
        lines += [f"  ! {kind}, {session_id}: {told}" for kind, session_id, told in self.violations[:SHOWN]]
        if self.violations:
            lines.append(f"  what was kept: {self.folder}")
        return "\n".join(lines)
