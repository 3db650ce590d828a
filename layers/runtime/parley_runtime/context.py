"""What Lambda tells a handler about an invocation.

Source: "Using the Lambda context object to retrieve Python function information" and "Defined runtime environment
variables" (Lambda Developer Guide, read 2026-11-20). Client context and Cognito identity are left out: only mobile SDKs
send them.
"""

import os
import time
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import Self

_2001_MS = 10**12


@dataclass(frozen=True, slots=True)
class Context:
    """The context object, with the names that AWS gave its parts."""

    aws_request_id: str
    invoked_function_arn: str
    function_name: str
    function_version: str
    memory_limit_in_mb: int
    log_group_name: str
    log_stream_name: str
    deadline_ms: int
    """When Lambda ends the function, in milliseconds since 1970."""

    @classmethod
    def of(cls, headers: HTTPMessage) -> Self:
        """Read the headers of an invocation, and the environment of the process."""
        deadline = int(headers.get("Lambda-Runtime-Deadline-Ms", "0"))
        if deadline < _2001_MS:  # cargo-lambda 1.9 tells how long it waits, not until when
            deadline += _now_ms()
        return cls(
            aws_request_id=headers["Lambda-Runtime-Aws-Request-Id"],
            invoked_function_arn=headers.get("Lambda-Runtime-Invoked-Function-Arn", ""),
            function_name=os.environ.get("AWS_LAMBDA_FUNCTION_NAME", ""),
            function_version=os.environ.get("AWS_LAMBDA_FUNCTION_VERSION", ""),
            memory_limit_in_mb=int(os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "0")),
            log_group_name=os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME", ""),
            log_stream_name=os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME", ""),
            deadline_ms=deadline,
        )

    def get_remaining_time_in_millis(self) -> int:
        """Return the milliseconds until Lambda ends the function."""
        return max(0, self.deadline_ms - _now_ms())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
