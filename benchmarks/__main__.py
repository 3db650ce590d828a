"""`python -m benchmarks`: measure everything, or one thing."""

import argparse
import importlib
import sys
import time
from pathlib import Path

import uvloop

from benchmarks import report, servers
from benchmarks.report import Figure, say

SUITES: dict[str, str] = {
    "startup": "the dev server: time to its first answer, memory (40 s)",
    "turns": "plain, single-delta and three-tool turns against the floor (100 s)",
    "sessions": "create a session; list 20 of 10,000 against 20 of 100 (15 s)",
    "growth": "turn 500 against turn 1; 500 messages to the first delta, warm and restarted (40 s)",
    "long": "turn 1,000 against turn 10, never compacted and compacted: DynamoDB, blobs, CPU, time (6 min)",
    "many": "1,000 sessions streaming at once, each held against its log (25 s)",
    "capacity": "DynamoDB calls and units per turn, counted by an emulator that npm installs (10 s)",
    "images": "bytes that text turns store and read behind messages with images (10 s)",
    "watch": "a watcher at another server: stored events and text, p50 and p95 (20 s)",
    "cold_start": "CPU and memory to import each function as it is built for Lambda, needs make sam (60 s)",
}
"""Each is a module of this package with a coroutine `measure`; loaded when it is needed."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures Parley against a floor (FastAPI + the anthropic SDK, no features) on this machine. "
        "The table goes to stdout as Markdown, progress to stderr.",
        epilog="What each figure means: benchmarks/README.md",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON, too")
    commands = parser.add_subparsers(dest="suite", metavar="SUITE", title="suites (none: all of them)")
    for name, about in SUITES.items():
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument(
            "--json", type=Path, metavar="FILE", default=argparse.SUPPRESS, help="write the figures as JSON, too"
        )
    return parser.parse_args()


def main() -> int:
    """Run what was asked for; return what the shell should know."""
    arguments = _arguments()
    about = report.machine() | {"placement": servers.where()}
    servers.prepare()
    figures: list[Figure] = []
    for name in SUITES:
        if arguments.suite in (None, name):
            began = time.monotonic()
            figures += uvloop.run(_measure(name))
            say(f"{name}: {time.monotonic() - began:.0f} s")
    print(report.markdown(figures, about))
    if arguments.json:
        report.write_json(arguments.json, figures, about)
    return 0


async def _measure(name: str) -> list[Figure]:
    found: list[Figure] = await importlib.import_module(f"benchmarks.{name}").measure()
    return found


if __name__ == "__main__":
    sys.exit(main())
