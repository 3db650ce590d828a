"""Log lines and metrics: ids and numbers, never what was said.

Sources: "Log-level filtering" (Lambda Developer Guide): JSON lines with `level` and an RFC 3339 `timestamp`; "Embedded
metric format" (CloudWatch User Guide). Read 2026-11-20.
"""

import logging
import traceback
from types import TracebackType
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter
from mangum.types import LambdaContext

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class _Lines(LambdaPowertoolsFormatter):
    """JSON lines; of an exception the types and the places, because a message may quote what somebody said.

    `layers/runtime` writes exceptions alike, in lines of its own: neither layer may need the other.
    """

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - logging's own hook
        """Write an exception and what caused it, the last first; causes may go round in a circle."""
        lines: list[str] = []
        error, seen = ei[1], set[int]()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            lines += [f"{type(error).__qualname__} at\n", *traceback.format_tb(error.__traceback__)]
            error = error.__cause__ or error.__context__
        return "".join(lines)


def logger() -> Logger:
    """Configure the package's logger, and let Mangum's errors leave through it, too."""
    lines = _Lines(utc=True, use_rfc3339=True, serialize_stacktrace=False)
    made = Logger(service="parley", logger_formatter=lines)
    mangum = logging.getLogger("mangum")
    mangum.handlers, mangum.propagate = [made.registered_handler], False
    mangum.setLevel(logging.ERROR)
    return made


def invocation(made: Logger, context: LambdaContext, **keys: Any) -> None:
    """Put on every line of this invocation which one it is."""
    made.clear_state()
    made.append_keys(function_name=context.function_name, function_request_id=context.aws_request_id, **keys)
