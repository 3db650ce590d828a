"""DynamoDB's errors as ours.

A write has three ends: done, refused, or unknown. This decides between the last two.

Codes and reasons: the API Reference as botocore 1.44.5 carries it, read 2026-11-20. Seen on no real AWS yet.
"""

from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from parley.adapters.dynamodb.values import decode_item
from parley.core.errors import TooLarge, Unavailable
from parley.ports import ConditionFailed, WriteUncertain

_CONDITION: Final = frozenset({"ConditionalCheckFailed", "ConditionalCheckFailedException"})
_CONFLICT: Final = frozenset({
    "TransactionConflict", "TransactionConflictException", "TransactionInProgressException",
    "ReplicatedWriteConflictException", "ThrottlingError", "ProvisionedThroughputExceeded",
})  # fmt: skip
"""Reasons that pass, and that botocore's standard mode does not repeat when they cancel a transaction."""

_THROTTLED: Final = frozenset({
    "ProvisionedThroughputExceededException", "RequestLimitExceeded", "Throttling", "ThrottlingException",
    "LimitExceededException", "InternalServerError", "InternalFailure", "ServiceUnavailable",
    "RequestTimeout",
})  # fmt: skip


class Contended(WriteUncertain):
    """Another write was in the way for a moment; worth repeating at once."""


def write_failure(error: ClientError | BotoCoreError, *, repeatable: bool) -> Exception:
    """Say what a failed write means. `repeatable`: DynamoDB knows its repeats by a token."""
    if isinstance(error, ParamValidationError):
        return ValueError(str(error))
    if not isinstance(error, ClientError):
        return WriteUncertain(f"No answer to a write: {_code(error)}")
    response: dict[str, Any] = dict(error.response)
    # botocore repeats by itself. When the first try had worked and its answer was lost, the second is refused
    # because of the first; so the refusal says nothing. The caller asks again, and looks whose item it finds.
    repeated = response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0
    if repeated and not repeatable:
        return WriteUncertain(f"A write was repeated, then refused: {_code(error)}")
    if _code(error) == "TransactionCanceledException":
        return _cancelled(response.get("CancellationReasons", []), str(error))
    return _refused(response, _code(error), error)


def read_failure(error: ClientError | BotoCoreError) -> Exception:
    """Say what a failed read means."""
    if isinstance(error, ParamValidationError):
        return ValueError(str(error))
    if isinstance(error, ClientError) and _code(error) == "ValidationException":
        return _invalid(str(error))
    return Unavailable(f"The store does not answer: {_code(error)}")


def _refused(response: dict[str, Any], code: str, error: ClientError) -> Exception:
    if code in _CONDITION:
        found = response.get("Item")
        return ConditionFailed({0: decode_item(found) if found else None})
    if code in _CONFLICT:
        return Contended(code)
    if code == "ValidationException":
        return _invalid(str(error))
    if code in _THROTTLED or response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) >= 500:
        return WriteUncertain(code)
    return Unavailable(f"The store refuses to write: {code}")


def _cancelled(reasons: list[dict[str, Any]], message: str) -> Exception:
    """Judge a transaction by the reasons of its ops; one that may pass outweighs a condition that failed."""
    codes = {reason.get("Code", "None") for reason in reasons} - {"None"}
    if not codes:  # documented for more than 4 MB; anything else without a reason may or may not pass
        return _invalid(message) if _is_about_size(message) else WriteUncertain(message)
    if codes <= _CONDITION:
        return ConditionFailed(
            {
                n: decode_item(reason["Item"]) if reason.get("Item") else None
                for n, reason in enumerate(reasons)
                if reason.get("Code") in _CONDITION
            }
        )
    if "ValidationError" in codes:
        return _invalid("; ".join(str(r["Message"]) for r in reasons if r.get("Code") == "ValidationError"))
    return Contended(", ".join(sorted(codes)))


def _invalid(message: str) -> Exception:
    """Tell too much data from a caller that is wrong; DynamoDB has one code for both."""
    if _is_about_size(message):
        return TooLarge(f"More than the store takes at once: {message}")
    return ValueError(message)


def _is_about_size(message: str) -> bool:
    words = message.lower()
    return "size" in words and ("exceed" in words or "beyond" in words)


def _code(error: ClientError | BotoCoreError) -> str:
    return str(error.response["Error"]["Code"]) if isinstance(error, ClientError) else type(error).__name__
