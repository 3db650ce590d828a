"""What each failure of the provider means, said once.

Sources, read 2026-11-20: `_exceptions.py` and the retry headers in `_base_client.py` of the `anthropic`
package 2.11; Bedrock's `ResponseStream` as botocore 1.44 has it.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2
from anthropic import APIConnectionError, APIStatusError, APITimeoutError, Timeout

from parley.core.errors import ModelError, ModelFailure, refusal

TIMEOUT = Timeout(connect=5.0, read=60.0, write=60.0, pool=5.0)
"""`read` is the longest silence: the API sends pings while the model thinks."""

MAX_MESSAGE_CHARS = 500

_BY_STATUS: dict[int, ModelFailure] = {
    401: "no_access",
    402: "no_access",
    403: "no_access",
    404: "no_access",  # to a model: no other thing is named
    408: "request_failed",
    409: "request_failed",
    413: "context_full",
    424: "request_failed",  # how Bedrock says that the model failed
    429: "rate_limited",
    503: "overloaded",
    529: "overloaded",
}
"""Any other 5xx has failed, any other 4xx was refused, be it because the prompt is too long."""

_IN_STREAM: dict[str, ModelFailure] = {
    "overloaded_error": "overloaded",
    "serviceUnavailableException": "overloaded",
    "rate_limit_error": "rate_limited",
    "throttlingException": "rate_limited",
    "invalid_request_error": "refused_request",
    "validationException": "refused_request",
}
"""Errors that come as an event after status 200; the exceptions are Bedrock's."""


@contextmanager
def translated(broken: ModelFailure) -> Iterator[None]:
    """Turn the SDK's exceptions into `ModelError`; `broken` is what a lost connection means at this point."""
    try:
        yield
    except APIStatusError as error:
        raise _from_status(error) from error
    except (APIConnectionError, httpx2.HTTPError) as error:
        late = isinstance(error, APITimeoutError | httpx2.TimeoutException)
        problem = "fell silent" if late else "could not be reached or hung up"
        raise ModelError(broken, f"The model's provider {problem}.") from error


def _from_status(error: APIStatusError) -> ModelError:
    status, body = error.status_code, error.body
    if status < 400:
        failure = _IN_STREAM.get(str(error.type), "request_failed")
    else:
        failure = _BY_STATUS.get(status, "request_failed" if status >= 500 else "refused_request")
    said = error.api_message or (body.get("message") if isinstance(body, dict) else None)
    message = str(said or f"The model's provider answered with status {status}.")[:MAX_MESSAGE_CHARS]
    failure = refusal(message) if failure == "refused_request" else failure
    return ModelError(failure, message, retry_after_seconds=retry_after_seconds(error.response.headers))


def retry_after_seconds(headers: httpx2.Headers) -> int | None:
    """Read how long to wait, rounded up: `retry-after-ms`, or `retry-after` in seconds or as an HTTP date."""
    for name, per_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        with suppress(KeyError, ValueError, OverflowError):
            return max(0, math.ceil(float(headers[name]) / per_second))
    with suppress(KeyError, ValueError, TypeError):
        until = parsedate_to_datetime(headers["retry-after"])
        return max(0, math.ceil((until - datetime.now(UTC)).total_seconds()))
    return None
