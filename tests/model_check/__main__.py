"""`python -m tests.model_check [--bound gate|large] [--bug NAME]`: search, and print what was seen."""

import argparse
import sys

from tests.model_check.bounds import BOUNDS
from tests.model_check.bugs import BUGS
from tests.model_check.properties import PROPERTIES
from tests.model_check.search import Found, search


def main() -> int:
    """Search; 1 when a promise can be broken."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.model_check", description=__doc__, epilog=f"bugs: {'; '.join(BUGS)}"
    )
    parser.add_argument("--bound", choices=BOUNDS, default="gate", help="how far to search (default: gate)")
    parser.add_argument(
        "--bug", choices=BUGS, metavar="NAME", help="tell how this bug of the mechanism shows, and nothing else"
    )
    asked = parser.parse_args()
    if asked.bug:
        bug = BUGS[asked.bug]
        return _tell(asked.bug, search(bug.faults, bug.rules, bug.book()))
    print("In every state and every order:", *PROPERTIES, sep="\n  ")
    return max(_tell(name, search(faults)) for name, faults in BOUNDS[asked.bound].items())


def _tell(name: str, found: Found) -> int:
    figures = f"{found.states:,} states, {found.transitions:,} transitions, depth {found.depth}, {found.seconds:.1f} s"
    endings = ", ".join(f"{times:,} {ending}" for ending, times in sorted(found.endings.items()))
    print(f"{name}: {figures}; ends: {endings or 'none'}", flush=True)
    if found.problem:
        print(found.told(), flush=True)
    return int(found.problem is not None)


sys.exit(main())
