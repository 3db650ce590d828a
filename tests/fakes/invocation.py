"""What Lambda tells a handler about the invocation, with a time that the test sets, and that runs out."""

import itertools
import time

from mangum.types import LambdaCognitoIdentity, LambdaMobileClientContext

_numbers = itertools.count(1)


class Invocation:
    """One invocation's context."""

    def __init__(self, seconds_left: float = 900.0) -> None:
        self.ends = time.monotonic() + seconds_left
        self.function_name = "probe"
        self.function_version = "$LATEST"
        self.invoked_function_arn = "arn:aws:lambda:eu-central-1:123456789012:function:probe"
        self.memory_limit_in_mb = 512
        self.aws_request_id = f"invocation-{next(_numbers)}"
        self.log_group_name = "/aws/lambda/probe"
        self.log_stream_name = "2026/11/20/[$LATEST]0"
        self.identity: LambdaCognitoIdentity | None = None
        self.client_context: LambdaMobileClientContext | None = None

    def get_remaining_time_in_millis(self) -> int:
        return max(0, round((self.ends - time.monotonic()) * 1000))
