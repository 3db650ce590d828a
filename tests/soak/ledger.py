"""The truth about effects, independent of Parley: a file that only grows, one line an effect, synced."""

import json
import os
from pathlib import Path
from typing import NamedTuple

from parley import ToolContext

VARIABLE = "SOAK_LEDGER"
"""Names the file, for the processes that run tools."""


class Effect(NamedTuple):
    """Something that a tool did."""

    tool: str
    session_id: str
    tool_use_id: str
    idempotency_key: str
    pid: int


def write(tool: str, context: ToolContext) -> None:
    """Add a line: one write at the end of the file, then to the disk."""
    effect = Effect(tool, context.session_id, context.tool_use_id, context.idempotency_key, os.getpid())
    line = json.dumps(effect._asdict()) + "\n"
    file = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line.encode())
        os.fsync(file)
    finally:
        os.close(file)


def read(path: Path) -> list[Effect]:
    """Return every effect, the oldest first."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Effect(**json.loads(line)) for line in lines]
