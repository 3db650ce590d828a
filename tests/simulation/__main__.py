"""`python -m tests.simulation`: replay one run, or look for failing ones for as long as you like."""

import argparse
import multiprocessing
import re
import sys

from tests.simulation.explore import Plan, Ran, run
from tests.simulation.faults import KINDS
from tests.simulation.prove import prove as prove_for
from tests.simulation.scenarios import SCENARIOS


def main() -> int:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    commands = parser.add_subparsers(required=True)
    names = ", ".join(SCENARIOS)
    replay = commands.add_parser(
        "replay", help="run one scenario again, as a failure says", epilog=f"scenarios: {names}"
    )
    replay.add_argument("scenario", choices=SCENARIOS, metavar="scenario")
    replay.add_argument("--seed", type=int, default=0, help="of the schedule; 0 has no chance in it")
    replay.add_argument(
        "--faults",
        type=plan,
        default="",
        metavar="N:KIND,…",
        help="what goes wrong at which point; a replay without lists the points: '4:lost,9:crash after'",
    )
    replay.set_defaults(do=_replay)
    prove = commands.add_parser("prove", help="all singles, then pairs, then schedules by chance, until the time is up")
    prove.add_argument("--minutes", type=float, default=30.0, help="(default: 30)")
    prove.add_argument("--jobs", type=int, default=multiprocessing.cpu_count(), help="processes (default: one a core)")
    prove.add_argument("--seed", type=int, default=1, help="of the first schedule by chance (default: 1)")
    prove.set_defaults(do=_prove)
    options = parser.parse_args()
    return int(options.do(options))


def plan(faults: str) -> Plan:
    """Read `4:lost,9:crash after`.

    Raises:
        argparse.ArgumentTypeError: it is not like this.
    """
    read: dict[int, str | int] = {}
    for fault in filter(None, re.split(r",(?=\d)", faults)):  # a kind may have a comma in it
        n, _, kind = fault.partition(":")
        if not n.isdecimal() or not kind:
            raise argparse.ArgumentTypeError(f"'{fault}' is no fault; write it like 4:lost,9:crash after")
        if int(n) in read:
            raise argparse.ArgumentTypeError(f"point {n} has two faults; one point, one fault")
        read[int(n)] = kind
    return read


def idle(ran: Ran, faults: Plan) -> list[str]:
    """Say which faults of a plan did not strike, and why."""
    ports = {point.n: point.port for point in ran.points}
    said = []
    for n in sorted(faults.keys() - ran.fired.keys()):
        if n in ports:
            possible = " | ".join(KINDS[ports[n]])
            said.append(f"'{faults[n]}' cannot be at point {n}, which is: {ports[n]}. What can: {possible}")
        else:
            said.append(f"there is no point {n}: this run has {len(ran.points)}")
    return said


def _replay(options: argparse.Namespace) -> int:
    ran = run(SCENARIOS[options.scenario], options.faults, options.seed)
    for point in ran.points:
        print(f"{point}   {ran.fired.get(point.n, '')}".rstrip())
    print(f"{ran.finished} runs finished, {ran.failed} failed, {ran.deaths} processes died, {ran.effects} effects")
    print("\n".join(ran.broken) or "no promise is broken")
    unused = idle(ran, options.faults)
    print("".join(f"not struck: {each}\n" for each in unused), end="", file=sys.stderr)
    return 2 if unused and not ran.broken else bool(ran.broken)


def _prove(options: argparse.Namespace) -> int:
    return not prove_for(options.minutes, options.jobs, options.seed)


if __name__ == "__main__":
    sys.exit(main())
