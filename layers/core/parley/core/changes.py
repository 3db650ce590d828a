"""What changes when a person changes a session's settings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from parley.core.budget import Budget
from parley.core.control import SessionUpdated
from parley.core.errors import Invalid
from parley.core.event import Event
from parley.core.policy import Autonomy
from parley.core.scribe import Scribe
from parley.core.session import Session

MAX_METADATA = 16
"""As in the Managed Agents API."""

SETTINGS = ("title", "metadata", "autonomy")
"""Fields of `session.updated` that the fold takes over: those that were changed have a value."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be different; `None` stays as it is. In `metadata`, `None` takes a name away."""

    title: str | None = None
    """Empty: it has none any more."""
    metadata: Mapping[str, str | None] | None = None
    autonomy: Autonomy | None = None
    budget: Budget | None = None
    """Without a cap: it has none any more. The same again lets a run that waits look again."""


def changed(
    changes: Changes, session: Session, first_title: str | None, first_metadata: Mapping[str, str]
) -> dict[str, Any]:
    """Return the settings that are to have another value; `first_…` are those it was made with.

    Raises:
        Invalid: there would be too many metadata.
    """
    told: dict[str, Any] = {}
    title = first_title if session.title is None else session.title
    if changes.title is not None and changes.title != (title or ""):
        told["title"] = changes.title
    before = first_metadata if session.metadata is None else session.metadata
    patched = {**before, **(changes.metadata or {})}
    after = {name: value for name, value in patched.items() if value is not None}
    if len(after) > MAX_METADATA:
        raise Invalid(f"A session has at most {MAX_METADATA} metadata; with these it would have {len(after)}.")
    if after != before:
        told["metadata"] = after
    if changes.autonomy and changes.autonomy != session.autonomy:
        told["autonomy"] = changes.autonomy
    if changes.budget is not None:
        told["budget"] = changes.budget
    return told


def settings(scribe: Scribe, by: str, **values: Any) -> list[Event]:
    """Write the settings that have a value; nothing when none has."""
    told = {name: value for name, value in values.items() if value is not None}
    return [scribe.write(SessionUpdated, **told, updated_by=by)] if told else []
