"""What a Lambda function logs of an exception: where it came from, and nothing that anybody said."""

import logging

import pytest
from parley.lambda_app import logs
from parley_runtime import log as runtime

FORMATTERS = [logs._Lines(), runtime._Lines(), runtime._JsonLines()]


def circle() -> Exception:
    """Raise two errors, each the reason of the other."""
    first, second = ValueError("what somebody said"), KeyError("what somebody said")
    first.__cause__, second.__cause__ = second, first
    return first


@pytest.mark.parametrize("formatter", FORMATTERS, ids=lambda each: type(each).__module__ + type(each).__qualname__)
def test_errors_that_are_each_others_reason_are_written_once(formatter: logging.Formatter) -> None:
    error = circle()

    written = formatter.formatException((type(error), error, None))

    assert written == "ValueError at\nKeyError at\n"
