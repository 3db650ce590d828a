"""Events: the closed union, what they look like as JSON, and that old ones load for ever."""

import json
import typing
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot
from parley.core import event as e
from parley.core.value import TextBlock, Usage, rfc3339
from pydantic import ValidationError

from tests import build
from tests.build import SMALLEST, event, linked, picture
from tests.fakes.clock import NOON

UNION: tuple[type[e.EventBase], ...] = typing.get_args(typing.get_args(e.Event)[0])


def test_every_type_of_the_union_can_be_built() -> None:
    assert set(SMALLEST) == set(UNION)


def test_the_total_of_a_usage_is_all_that_was_read_and_written() -> None:
    assert (
        Usage(input_tokens=1, output_tokens=20, cache_creation_input_tokens=300, cache_read_input_tokens=4000).total
        == 4321
    )


def test_type_names_are_the_wires() -> None:
    names = [kind.model_fields["type"].default for kind in UNION]

    assert names == snapshot(
        [
            "user.message",
            "user.interrupt",
            "user.tool_confirmation",
            "agent.message",
            "agent.thinking",
            "agent.tool_use",
            "agent.tool_result",
            "tool.intended",
            "tool.outcome_unknown",
            "tool.outcome_decided",
            "approval.requested",
            "approval.decided",
            "approval.expired",
            "plan.proposed",
            "plan.approved",
            "plan.rejected",
            "budget.reserved",
            "budget.warning",
            "budget.reached",
            "span.model_request_start",
            "span.model_request_end",
            "agent.thread_context_compacted",
            "run.started",
            "run.claimed",
            "run.finished",
            "run.failed",
            "run.cancelled",
            "session.status_idle",
            "session.status_running",
            "session.status_rescheduled",
            "session.error",
            "session.updated",
            "session.suspended",
            "session.resumed",
            "session.status_terminated",
            "checkpoint.created",
            "session.restored",
            "session.deleted",
        ]
    )
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("kind", UNION)
def test_every_event_survives_being_stored(kind: type[e.EventBase]) -> None:
    stored = event(kind, task_id="ticket-7", processed_at=NOON)

    read = e.EVENT.validate_json(e.to_json(stored))

    assert read == stored


@given(st.text())
def test_any_text_survives_being_stored(text: str) -> None:
    stored = build.message(text)

    read = e.EVENT.validate_json(e.to_json(stored))

    assert read == stored


def test_the_place_in_the_log_is_not_stored_in_the_body() -> None:
    placed = event(e.StatusRunning, seq=7)

    assert b'"seq"' not in e.to_json(placed)
    assert json.loads(e.to_json(placed, with_seq=True))["seq"] == 7


def test_a_stored_event_is_one_line() -> None:
    assert b"\n" not in e.to_json(build.message("one\ntwo\r\nthree\u2028four\0five"))


def test_a_field_of_a_newer_version_is_dropped() -> None:
    newer = json.loads(e.to_json(build.message())) | {"mood": "cheerful"}

    read = e.EVENT.validate_python(newer)

    assert not hasattr(read, "mood")


def test_a_type_of_nobody_is_refused() -> None:
    with pytest.raises(ValidationError):
        e.EVENT.validate_python({"id": "sevt_1", "type": "user.telepathy", "created_at": NOON})


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        build.message().seq = 3  # type: ignore[misc]


def test_moments_are_written_as_utc_with_milliseconds() -> None:
    moment = datetime(2026, 11, 20, 13, 0, 0, 7000, timezone(timedelta(hours=1)))

    assert rfc3339(moment) == "2026-11-20T12:00:00.007Z"


def test_usage_adds_up_every_kind_of_token() -> None:
    one = Usage(input_tokens=1, output_tokens=2, cache_creation_input_tokens=3, cache_read_input_tokens=4)

    assert one + one == Usage(input_tokens=2, output_tokens=4, cache_creation_input_tokens=6, cache_read_input_tokens=8)


OLDEST = [
    '{"id":"a","created_at":"2026-11-20T12:00:00.000Z","type":"user.message","content":[{"type":"text","text":"Hi"}]}',
    '{"id":"b","created_at":"2026-11-20T12:00:00.000Z","type":"run.started","agent_id":"bank","agent_version":1}',
    '{"id":"c","created_at":"2026-11-20T12:00:00.000Z","type":"run.claimed","epoch":1}',
    '{"id":"d","created_at":"2026-11-20T12:00:00.000Z","type":"span.model_request_start"}',
    '{"id":"e","created_at":"2026-11-20T12:00:00.000Z","type":"agent.thinking","thinking":"Hm","signature":"s"}',
    '{"id":"f","created_at":"2026-11-20T12:00:00.000Z","type":"agent.message","content":[{"type":"text","text":"Yo"}]}',
    '{"id":"g","created_at":"2026-11-20T12:00:00.000Z","type":"agent.tool_use","name":"n","input":{},"provider_id":"p"}',
    '{"id":"h","created_at":"2026-11-20T12:00:00.000Z","type":"span.model_request_end","model_request_start_id":"d",'
    '"model_usage":{}}',
    '{"id":"i","created_at":"2026-11-20T12:00:00.000Z","type":"tool.intended","tool_use_id":"g",'
    '"effect":"non_idempotent","idempotency_key":"k"}',
    '{"id":"j","created_at":"2026-11-20T12:00:00.000Z","type":"tool.outcome_unknown","tool_use_id":"g"}',
    '{"id":"k","created_at":"2026-11-20T12:00:00.000Z","type":"tool.outcome_decided","tool_use_id":"g",'
    '"outcome":"retry","decided_by":"ann"}',
    '{"id":"l","created_at":"2026-11-20T12:00:00.000Z","type":"agent.tool_result","tool_use_id":"g"}',
    '{"id":"m","created_at":"2026-11-20T12:00:00.000Z","type":"session.error",'
    '"error":{"type":"x","message":"y","retry_status":{"type":"retrying"}}}',
    '{"id":"n","created_at":"2026-11-20T12:00:00.000Z","type":"session.status_rescheduled"}',
    '{"id":"o","created_at":"2026-11-20T12:00:00.000Z","type":"session.status_running"}',
    '{"id":"p","created_at":"2026-11-20T12:00:00.000Z","type":"session.status_idle","stop_reason":{"type":"end_turn"}}',
    '{"id":"q","created_at":"2026-11-20T12:00:00.000Z","type":"run.finished","status":"completed",'
    '"stop_reason":"end_turn"}',
    '{"id":"r","created_at":"2026-11-20T12:00:00.000Z","type":"run.failed","code":"c","message":"m"}',
    '{"id":"s","created_at":"2026-11-20T12:00:00.000Z","type":"session.deleted"}',
    '{"id":"t","created_at":"2026-11-20T12:00:00.000Z","type":"agent.thread_context_compacted"}',
    '{"id":"u","created_at":"2026-11-28T12:00:00.000Z","type":"user.interrupt"}',
    '{"id":"v","created_at":"2026-11-28T12:00:00.000Z","type":"user.tool_confirmation","tool_use_id":"g",'
    '"result":"allow"}',
    '{"id":"w","created_at":"2026-11-28T12:00:00.000Z","type":"approval.requested","approval_id":"a",'
    '"tool_use_id":"g","name":"n","input":{},"binding":"b"}',
    '{"id":"x","created_at":"2026-11-28T12:00:00.000Z","type":"approval.decided","approval_id":"a","tool_use_id":"g",'
    '"decision":"approve"}',
    '{"id":"y","created_at":"2026-11-28T12:00:00.000Z","type":"approval.expired","approval_id":"a","tool_use_id":"g"}',
    '{"id":"z","created_at":"2026-11-28T12:00:00.000Z","type":"plan.proposed","plan_id":"p","calls":[],'
    '"verdict":"run"}',
    '{"id":"A","created_at":"2026-11-28T12:00:00.000Z","type":"plan.approved","plan_id":"p","tool_use_ids":[]}',
    '{"id":"B","created_at":"2026-11-28T12:00:00.000Z","type":"plan.rejected","plan_id":"p"}',
    '{"id":"F","created_at":"2026-11-28T12:00:00.000Z","type":"budget.reserved","amount":7,"day":"2026-11-28","cap":9}',
    '{"id":"G","created_at":"2026-11-28T12:00:00.000Z","type":"budget.warning","which":"max_cost","cap":9,"spent":8}',
    '{"id":"H","created_at":"2026-11-28T12:00:00.000Z","type":"budget.reached","which":"max_cost","cap":9,"spent":9}',
    '{"id":"C","created_at":"2026-11-28T12:00:00.000Z","type":"run.cancelled","reason":"interrupted"}',
    '{"id":"D","created_at":"2026-11-28T12:00:00.000Z","type":"session.updated"}',
    '{"id":"E","created_at":"2026-11-28T12:00:00.000Z","type":"session.suspended"}',
    '{"id":"F","created_at":"2026-11-28T12:00:00.000Z","type":"session.resumed"}',
    '{"id":"G","created_at":"2026-11-28T12:00:00.000Z","type":"session.status_terminated"}',
    '{"id":"H","created_at":"2026-11-28T12:00:00.000Z","type":"checkpoint.created","name":"before"}',
    '{"id":"I","created_at":"2026-11-28T12:00:00.000Z","type":"session.restored","to_seq":1}',
]
"""The least that the first version wrote for each type: a required field added later would break a line of these."""


def test_what_the_first_version_wrote_still_loads() -> None:
    read = [e.EVENT.validate_json(line) for line in OLDEST]

    assert {type(each) for each in read} == set(UNION)
    assert isinstance(read[0], e.UserMessage)
    assert read[0].content == (TextBlock(text="Hi"),)


def test_a_message_of_text_is_written_as_the_first_version_wrote_it() -> None:
    [oldest, *_] = OLDEST

    assert e.to_json(e.EVENT.validate_json(oldest)).decode() == oldest


def test_images_come_back_as_they_were_stored_and_what_a_newer_version_adds_is_passed_over() -> None:
    sent = event(e.UserMessage, content=(picture(), linked(), TextBlock(text="Hi")))
    newer = e.to_json(sent).replace(b'"type":"url"', b'"type":"url","crop":[1,2]')

    assert e.EVENT.validate_json(e.to_json(sent)) == sent
    assert e.EVENT.validate_json(newer) == sent
