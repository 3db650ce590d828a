"""The status table."""

import typing

from inline_snapshot import snapshot
from parley.core.status import STATUS, Phase, RunStatus, SessionStatus, State


def test_every_phase_has_a_row() -> None:
    assert set(STATUS) == set(typing.get_args(Phase))


def test_the_table_says_what_the_wire_says() -> None:
    assert {phase: tuple(status) for phase, status in STATUS.items()} == snapshot(
        {
            "created": (None, "idle", "created"),
            "queued": ("executing_queued", "running", "active"),
            "planning": ("planning", "running", "active"),
            "executing": ("executing", "running", "active"),
            "rescheduling": ("executing", "rescheduling", "active"),
            "waiting": ("waiting_approval", "idle", "active"),
            "completed": ("completed", "idle", "active"),
            "completed_with_errors": ("completed_with_errors", "idle", "active"),
            "error": ("error", "idle", "active"),
            "interrupted": ("interrupted", "idle", "active"),
            "suspended": (None, "idle", "suspended"),
            "archived": (None, "terminated", "completed"),
            "deleted": (None, "terminated", "completed"),
        }
    )


def test_only_words_of_the_vocabularies_are_used() -> None:
    for status in STATUS.values():
        assert status.run is None or status.run in typing.get_args(RunStatus)
        assert status.session in typing.get_args(SessionStatus)
        assert status.state in typing.get_args(State)
