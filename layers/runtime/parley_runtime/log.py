"""Log lines of the loop, and of whoever logs without a handler of their own.

Source: "Log-level filtering" (Lambda Developer Guide, read 2026-11-20): AWS_LAMBDA_LOG_FORMAT=JSON asks for JSON lines
with `level` and an RFC 3339 `timestamp`, AWS_LAMBDA_LOG_LEVEL for a level. An exception is written as its types and
places, because its message may quote what somebody said.
"""

import json
import logging
import os
import traceback
from datetime import UTC, datetime
from types import TracebackType

# Not "parley_runtime": Powertools' Logger mutes the root handler for every name that contains its service, "parley".
log = logging.getLogger("lambda_runtime")

_NOT_SAID = vars(logging.makeLogRecord({})).keys() | {"message", "taskName"}

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


def configure() -> None:
    """Write to standard error, in the format and from the level that the function asks for."""
    handler = logging.StreamHandler()
    asked = os.environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON"  # "json" says the RIE
    handler.setFormatter(_JsonLines() if asked else _Lines("%(levelname)s %(name)s %(message)s"))
    logging.getLogger().addHandler(handler)
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "WARNING")
    logging.getLogger().setLevel(logging.DEBUG if level == "TRACE" else level)  # the only one Python does not know


class _Lines(logging.Formatter):
    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - logging's own hook
        """Write an exception and what caused it, the last first; causes may go round in a circle."""
        lines: list[str] = []
        error, seen = ei[1], set[int]()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            lines += [f"{type(error).__qualname__} at\n", *traceback.format_tb(error.__traceback__)]
            error = error.__cause__ or error.__context__
        return "".join(lines)


class _JsonLines(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        """Write a record as one line of JSON."""
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _NOT_SAID},
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)
