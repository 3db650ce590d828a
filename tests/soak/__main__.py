"""`python -m tests.soak`, which `make soak` calls."""

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.soak.fleet import Kind
from tests.soak.siege import besiege

ARRANGEMENTS: tuple[Kind, ...] = ("sqlite", "dynamodb")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make soak ARGS='…'",
        description="Kills and freezes Parley's processes at random while customers use it, and checks that nothing "
        "was lost, doubled or bricked. Exit code 1: something was, and what it left is kept.",
    )
    parser.add_argument("--minutes", type=float, default=10, help="of faults, shared by the arrangements (default: 10)")
    parser.add_argument("--seed", type=int, help="draws the faults and what customers do (default: from the clock)")
    parser.add_argument("--only", choices=ARRANGEMENTS, help="one arrangement")
    parser.add_argument("--keep", action="store_true", help="keep data and output even if all is well")
    return parser.parse_args()


def main() -> int:
    """Run what was asked for; return what the shell should know."""
    arguments = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM):  # even if a shell let it begin with them ignored
        signal.signal(number, signal.default_int_handler)
    kinds = (arguments.only,) if arguments.only else ARRANGEMENTS
    seed = arguments.seed if arguments.seed is not None else int(time.time()) % 1_000_000
    folder = Path(tempfile.mkdtemp(prefix="parley-soak-"))
    print(f"seed {seed}, output in {folder}", file=sys.stderr)
    sound = False
    try:
        seconds = arguments.minutes * 60 / len(kinds)
        reports = []
        for kind in kinds:
            reports.append(asyncio.run(besiege(kind, seconds, seed, folder / kind, _say)))
            print(f"\n{reports[-1]}", flush=True)
        sound = not any(report.violations for report in reports)
    except KeyboardInterrupt:
        print("soak: stopped before its end; every process is ended.", file=sys.stderr)
        return 130
    finally:
        if sound and not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if sound else 1


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
