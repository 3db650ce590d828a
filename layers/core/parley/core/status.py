"""The status table: what happened last, in the three vocabularies that people ask in."""

from typing import Literal, NamedTuple

Phase = Literal[
    "created",
    "queued",
    "planning",
    "executing",
    "waiting",
    "rescheduling",
    "completed",
    "completed_with_errors",
    "error",
    "interrupted",
    "suspended",
    "archived",
    "deleted",
]
RunStatus = Literal[
    "planning",
    "executing",
    "executing_queued",
    "waiting_approval",
    "completed",
    "completed_with_errors",
    "error",
    "interrupted",
]
SessionStatus = Literal["idle", "running", "rescheduling", "terminated"]
State = Literal["created", "active", "suspended", "completed", "failed"]


class Status(NamedTuple):
    """One row: of the run, of the session as the Managed Agents API says it, and of the session's life."""

    run: RunStatus | None
    session: SessionStatus
    state: State


OPEN: frozenset[Phase] = frozenset({"planning", "executing", "rescheduling", "waiting"})
"""A run is open: what a row says may lag behind the log. (`queued` is never stored: messages wait beside the log.)"""

AT_REST: frozenset[Phase] = frozenset({"waiting", "suspended", "archived"})
"""Messages that wait are not what the session is about: a person has to do something first."""

STATUS: dict[Phase, Status] = {
    "created": Status(None, "idle", "created"),
    "queued": Status("executing_queued", "running", "active"),
    "planning": Status("planning", "running", "active"),
    "executing": Status("executing", "running", "active"),
    "rescheduling": Status("executing", "rescheduling", "active"),
    "waiting": Status("waiting_approval", "idle", "active"),
    "completed": Status("completed", "idle", "active"),
    "completed_with_errors": Status("completed_with_errors", "idle", "active"),
    "error": Status("error", "idle", "active"),
    "interrupted": Status("interrupted", "idle", "active"),
    "suspended": Status(None, "idle", "suspended"),
    "archived": Status(None, "terminated", "completed"),
    "deleted": Status(None, "terminated", "completed"),
}
