"""A cold start's import: CPU time and memory of each built function's handler, beside what any such function imports.

Every figure comes from processes of their own, with the Python that Lambda runs, the built layers on the path, compiled
as they are deployed, and the environment of the template. The floor imports FastAPI, Mangum and boto3, and makes one
client, DynamoDB's. What Lambda adds (fetching the code, starting Python) is in neither.
"""

import os
import statistics
import subprocess
from pathlib import Path

from benchmarks.report import Figure, Target, median_of, say
from tests import template
from tests.e2e.built import artifacts

ROUNDS = 9
GROUP = "cold start"
SMALL = ("list_sessions", "get_session", "delete_session")
SMALL_TARGET = Target(1.4)
FLOOR = 'import fastapi, mangum, boto3; boto3.client("dynamodb")'
MEASURED = """
import time
began = time.process_time()
{imports}
spent = time.process_time() - began
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))  # ru_maxrss counts the parent's
print(spent, peak.split()[1])
"""
SURROUNDINGS = {
    "AWS_REGION": "eu-central-1",
    "AWS_DEFAULT_REGION": "eu-central-1",
    "AWS_ACCESS_KEY_ID": "none",
    "AWS_SECRET_ACCESS_KEY": "none",
    "PYTHONDONTWRITEBYTECODE": "1",
}


async def measure() -> list[Figure]:
    """Import each handler in turn, again and again."""
    if not template.SAM.exists():
        say("skipped: it measures what was built, which needs the SAM command line: make sam")
        return []
    say("cold start")
    functions = template.functions()
    cpu_ms: dict[str, list[float]] = {name: [] for name in ("floor", *functions)}
    peak_mb: dict[str, list[float]] = {name: [] for name in cpu_ms}
    for number in range(ROUNDS + 1):
        for name in cpu_ms:
            seconds, kilobytes = _import(functions.get(name))
            if number:  # the first round reads the files from the disk
                cpu_ms[name].append(seconds * 1000)
                peak_mb[name].append(kilobytes / 1024)
    return _figures(cpu_ms, peak_mb)


def _import(function: template.Function | None) -> tuple[float, float]:
    """Import a handler, or the floor; return seconds of CPU, and kilobytes at the peak."""
    folder = artifacts.built() / function.name if function else artifacts.built()
    places = [*artifacts.layers(), artifacts.wrapper().parent, folder]
    environment = SURROUNDINGS | (function.environment if function else {})
    done = subprocess.run(
        [*artifacts.interpreter(), "-c", MEASURED.format(imports="import app" if function else FLOOR)],
        env=environment | {"PYTHONPATH": os.pathsep.join(map(str, places)), "PATH": os.defpath},
        cwd=Path("/"),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    seconds, kilobytes = map(float, done.stdout.split())
    return seconds, kilobytes


def _figures(cpu_ms: dict[str, list[float]], peak_mb: dict[str, list[float]]) -> list[Figure]:
    figures: list[Figure] = []
    for name, spent in cpu_ms.items():
        peak = f"{statistics.median(peak_mb[name]):.0f} MB at the peak"
        figures.append(median_of(GROUP, f"CPU to import, {name}", spent, "ms", note=peak))
    for name, spent in cpu_ms.items():
        if name != "floor":
            ratios = [mine / other for mine, other in zip(spent, cpu_ms["floor"], strict=True)]
            target = SMALL_TARGET if name in SMALL else None
            figures.append(median_of(GROUP, f"against the floor, {name}", ratios, "×", target))
    return figures
