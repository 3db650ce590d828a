"""`python -m tests.fuzz --max-examples 200 --seed 7`: as the test, for longer; exits with 1 when it finds something."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.campaign import fuzz


def main() -> int:
    """Run once, and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "--max-examples", type=int, default=200, help="for each operation, and for the stateful phase (default: 200)"
    )
    parser.add_argument("--seed", type=int, help="for other cases than always (default: none)")
    asked = parser.parse_args()
    if asked.max_examples < 1:
        parser.error("--max-examples: 1 is the least")
    with tempfile.TemporaryDirectory() as folder:
        report = fuzz(Path(folder), asked.max_examples, asked.seed)
    print(report)
    return bool(report.failures or report.barren)


if __name__ == "__main__":
    sys.exit(main())
