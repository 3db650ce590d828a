"""Figures, and how they are told: the machine on top, one table below, the same as JSON for programs."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Bound = Literal["<=", ">="]


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure should reach."""

    value: float
    bound: Bound = "<="

    def met_by(self, value: float) -> bool:
        """Say whether a figure reaches it."""
        return value <= self.value if self.bound == "<=" else value >= self.value


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number; `spread` is the lowest and the highest of the blocks it is the median of."""

    group: str
    name: str
    value: float
    unit: str
    target: Target | None = None
    spread: tuple[float, float] | None = None
    note: str = ""


def median_of(
    group: str, name: str, values: Sequence[float], unit: str, target: Target | None = None, note: str = ""
) -> Figure:
    """Make a figure of several blocks' values."""
    return Figure(group, name, statistics.median(values), unit, target, (min(values), max(values)), note)


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the value that so many percent are not above (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(percent / 100 * len(ordered) + 0.5) - 1))]


def say(text: str) -> None:
    """Tell progress, apart from the results."""
    print(text, file=sys.stderr, flush=True)


def machine() -> dict[str, str]:
    """Describe what the figures were measured on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        model = next((value.strip() for name, _, value in lines if name.strip() == "model name"), model)
    load = f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "load_average_before": load,
    }


def markdown(figures: Sequence[Figure], about: dict[str, str]) -> str:
    """Write the table."""
    head = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items())
    lines = [head, "", "| what | figure | blocks | target | note |", "|---|---:|---:|---:|---|"]
    group = ""
    for figure in figures:
        if figure.group != group:
            group = figure.group
            lines.append(f"| **{group}** | | | | |")
        lines.append(_row(figure))
    return "\n".join(lines)


def _row(figure: Figure) -> str:
    spread = " – ".join(map(_number, figure.spread)) if figure.spread else ""
    target = ""
    if figure.target:
        verdict = "met" if figure.target.met_by(figure.value) else "**missed**"
        target = f"{figure.target.bound} {_number(figure.target.value)}, {verdict}"
    value = f"{_number(figure.value)} {figure.unit}".strip()
    return f"| {figure.name} | {value} | {spread} | {target} | {figure.note} |"


def _number(value: float) -> str:
    """Write three digits that count, and never an exponent."""
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def write_json(path: Path, figures: Sequence[Figure], about: dict[str, str]) -> None:
    """Write the same for programs."""
    path.write_text(json.dumps({"machine": about, "figures": [asdict(figure) for figure in figures]}, indent=2) + "\n")
