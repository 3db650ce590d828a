"""One life of a process: forked from one that has imported everything, so that it begins in a moment and many fit in.

What it runs is what `python -m parley.dev` runs, or the worker; its environment and its output are its own.
"""

import multiprocessing
import os
import sys
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal

Role = Literal["server", "worker"]

OURS = ("PARLEY_", "ANTHROPIC_", "AWS_", "SOAK_")

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["anthropic", "boto3", "parley.dev", "parley.adapters.claude.api", "tests.soak.siege", "tests.soak.worker"]
)


def begin(role: Role, environment: Mapping[str, str], output: Path) -> BaseProcess:
    """Begin a life; it ends when it is killed."""
    process = _FORKS.Process(target=_live, args=(role, dict(environment), str(output)), daemon=True)
    process.start()
    return process


def _live(role: Role, environment: Mapping[str, str], output: str) -> None:
    os.setsid()  # Ctrl-C is for whoever besieges, who ends this
    written = os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(written, 1)
    os.dup2(written, 2)
    for name in [name for name in os.environ if name.startswith(OURS)]:
        del os.environ[name]
    os.environ.update(environment)
    if role == "server":
        from parley import dev

        sys.exit(dev.main())
    from tests.soak import worker

    worker.main()
