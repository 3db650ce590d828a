"""Every error Parley raises on purpose.

    ParleyError                    code                     status
    ├── Malformed                  malformed                400   cannot be parsed: JSON, header, cursor
    ├── Unauthorized               unauthorized             401   no key, or not the right one
    ├── NotFound                   *_not_found              404   unknown, deleted, expired, or somebody else's
    ├── Conflict                   (given)                  409   well-formed, but not now
    │   ├── SessionBusy            session_busy             409
    │   │   └── SessionSuspended   session_suspended        409
    │   └── SessionArchived        session_archived         409
    ├── Gone                       (given)                  410   it was there, and its time is over
    ├── TooLarge                   too_large                413
    ├── Invalid                    invalid_input            422   well-formed, but not acceptable
    │   └── IdempotencyMismatch    idempotency_mismatch     422
    ├── Unavailable                store_unavailable        503   try again
    ├── Unreadable                 log_unreadable           500   a stored entry that this version cannot read
    ├── ModelError                 model_*                  502   raised by a model adapter, handled by the engine
    └── Fenced                     fenced                   409   another driver has the run; never reaches a client

The status is a hint for whoever answers; nothing here knows HTTP. `code` is stable and safe to branch on.
"""

from typing import ClassVar, Literal


class ParleyError(Exception):
    """The root: a message for people, a code for programs."""

    status: ClassVar[int] = 500
    code: str = "internal_error"
    retry_after_seconds: int | None = None

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code


class Malformed(ParleyError):
    """What was sent cannot be parsed."""

    status = 400
    code = "malformed"


class Unauthorized(ParleyError):
    """Who is calling is not known: there is no key, or it opens nothing."""

    status = 401
    code = "unauthorized"


class NotFound(ParleyError):
    """There is no such thing for this caller; unknown and foreign look the same."""

    status = 404
    code = "not_found"

    def __init__(self, what: str, id: str, instead: str = "") -> None:
        super().__init__(f"There is no {what} '{id}'. {instead}".rstrip(), code=f"{what.replace(' ', '_')}_not_found")


class Conflict(ParleyError):
    """The request is fine but does not fit the present state."""

    status = 409
    code = "conflict"


class SessionBusy(Conflict):
    """A run is open in this session."""

    code = "session_busy"

    def __init__(self, session_id: str, run_id: str, *, waits_for_person: bool = False) -> None:
        then = "Wait until it has finished, or POST …/events: messages sent there wait for their turn."
        if waits_for_person:
            then = (
                "It waits for a person: see GET …/approvals. If its budget is reached, raise that with "
                "POST /v1/sessions/{id}. Or POST …/runs/{id}/cancel."
            )
        super().__init__(f"Session '{session_id}' is busy with run '{run_id}'. {then}")


class SessionSuspended(SessionBusy):
    """A person holds the session; messages may wait for its turn."""

    code = "session_suspended"

    def __init__(self, session_id: str) -> None:
        then = "POST …/resume lets it go on; messages sent to POST …/events wait until then."
        Conflict.__init__(self, f"Session '{session_id}' is suspended. {then}")


class SessionArchived(Conflict):
    """The session can only be read, forked and deleted."""

    code = "session_archived"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"Session '{session_id}' is archived. POST …/fork makes one like it that goes on.")


class Gone(ParleyError):
    """The time for it is over."""

    status = 410
    code = "gone"


class TooLarge(ParleyError):
    """More bytes than the limit allows; nothing was stored."""

    status = 413
    code = "too_large"


class Invalid(ParleyError):
    """Understood, but refused: a value, a name or a combination that is not allowed."""

    status = 422
    code = "invalid_input"


class IdempotencyMismatch(Invalid):
    """The `Idempotency-Key` was used before with another body."""

    code = "idempotency_mismatch"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used before with a different body. Use a new key for a new request.")


class Unavailable(ParleyError):
    """The store does not answer for now; whether a write happened is decided by the next read."""

    status = 503
    code = "store_unavailable"
    retry_after_seconds = 1


ModelFailure = Literal[
    "overloaded", "rate_limited", "request_failed", "refused_request", "no_access", "context_full", "cut_short"
]

_SAYS_FULL = ("prompt is too long", "input is too long", "exceed context limit")
"""How Anthropic and Bedrock say that a request does not fit the model's context window."""


def refusal(message: str) -> ModelFailure:
    """Tell a request that is too long from one that is refused for another reason: shorter, it may be answered."""
    return "context_full" if any(words in message.lower() for words in _SAYS_FULL) else "refused_request"


CONTEXT_FULL = "model_context_full"
"""Code of the `ModelError` that a compaction answers."""


REFUSED_REQUEST = "model_refused_request"
"""Code of the failure that the same request would meet again, whoever sends it."""


class Unreadable(ParleyError):
    """A stored entry does not parse: it is damaged, or a newer version wrote it."""

    code = "log_unreadable"

    def __init__(self, pk: str, sk: str) -> None:
        super().__init__(f"The entry '{sk}' of '{pk}' cannot be read by this version.")


class ModelError(ParleyError):
    """A model call gave no whole answer.

    `refused_request` and `context_full` mean that the same request will be refused again, `no_access` that any is until
    somebody sees to the key, the bill or the model's name; every other failure may be retried.
    """

    status = 502

    def __init__(self, failure: ModelFailure, message: str, *, retry_after_seconds: int | None = None) -> None:
        super().__init__(message, code=f"model_{failure}")
        self.failure = failure
        self.retry_after_seconds = retry_after_seconds

    @property
    def retryable(self) -> bool:
        """Whether the same request may succeed later."""
        return self.failure not in ("refused_request", "no_access", "context_full")


class Fenced(ParleyError):
    """A newer claim or a delete stands in the log: this driver must stop and store nothing more."""

    status = 409
    code = "fenced"
