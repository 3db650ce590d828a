"""Every function of the template, driven through its handler with the recorded events, on moto."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator

import boto3
import pytest
from parley.store import Ref

from tests import template
from tests.integration import gateway
from tests.integration.drivers import LARGE, begin_and_die, die_while_paying
from tests.integration.gateway import Answer, Gateway

TOO_LATE = {
    "decide_outcome": (404, "tool_call_not_found"),
    "edit_event": (404, "event_not_found"),
    "remove_event": (404, "event_not_found"),
    "cancel_run": (409, "run_ended"),
    "decide_plan": (404, "plan_not_found"),
    "get_approval": (404, "approval_not_found"),
    "decide_approval": (404, "approval_not_found"),
}
"""What is said of a run that is over, in a session where nothing waits."""

UNICODE = 'Überweise 5 € an Zoë 🦊 \u2028 "quoted" \\ 你好'


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with gateway.deployed(tmp_path_factory.mktemp("wallet")) as deployed:
        yield deployed


@pytest.fixture(autouse=True)
def an_empty_queue(api: Gateway) -> None:
    api.lose_hints()


# Each event, each function


@pytest.mark.parametrize("operation", gateway.operations())
def test_a_recorded_event_is_answered_by_the_function_its_route_is_attached_to(api: Gateway, operation: str) -> None:
    ids = ids_of(api.send("execute"))

    answer = api.send(operation, ids=ids)

    expected, code = TOO_LATE.get(operation, (200, ""))
    assert answer.status == expected, answer.body
    assert answer.headers.get("content-type", "").split(";")[0] in {
        "text/event-stream",
        "application/json",
        "application/problem+json",
    }
    assert expected == 200 or answer.json()["code"] == code


def test_a_session_lives_from_execute_to_delete_across_all_functions(api: Gateway) -> None:
    first = api.send("execute", body={"input": "What is my balance?", "task_id": "ticket-1"})
    ids = ids_of(first)
    second = api.send("execute", body={"input": "And now?", "session_id": ids["session_id"]})

    shown = api.send("get_session", ids=ids).json()
    listed = api.send("list_sessions", query={"task_id": ["ticket-1"]}).json()
    log = api.send("list_events", ids=ids, query={"limit": ["100"]}).json()["data"]
    said = api.send("list_messages", ids=ids, query={}).json()["data"]
    runs = api.send("list_runs", ids=ids).json()["data"]
    run = api.send("get_run", ids=ids).json()
    deleted = api.send("delete_session", ids=ids)

    assert first.frames()[-1].event == second.frames()[-1].event == "complete"
    assert first.frames()[-1].data["run_id"] == ids["run_id"]
    assert (shown["id"], shown["run_status"], shown["stats"]["runs"]) == (ids["session_id"], "completed", 2)
    assert [session["id"] for session in listed["data"]] == [ids["session_id"]]
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))
    assert [message["role"] for message in said] == ["user", "assistant", "tool", "assistant", "user", "assistant"]
    assert [each["id"] for each in runs] == [ids_of(second)["run_id"], ids["run_id"]]
    assert (run["status"], run["input"], run["task_id"]) == ("completed", "What is my balance?", "ticket-1")
    assert (deleted.status, deleted.json()) == (200, {"id": ids["session_id"], "type": "session_deleted"})
    for operation in ("get_session", "list_events", "list_messages", "list_runs", "get_run", "delete_session"):
        assert api.send(operation, ids=ids).json()["code"] == "session_not_found"
    gone = api.send("execute", body={"input": "Still there?", "session_id": ids["session_id"]})
    assert (gone.status, gone.json()["code"]) == (404, "session_not_found")
    assert api.send("list_sessions", query={"task_id": ["ticket-1"]}).json()["data"] == []


def test_what_execute_streams_is_what_the_log_holds(api: Gateway) -> None:
    answer = api.send("execute", body={"input": "What is my balance?"})

    frames = answer.frames()

    seqs = [frame.id for frame in frames if frame.id is not None]
    said = "".join(frame.data["text"] for frame in frames if frame.event == "text")
    log = api.send("list_events", ids=ids_of(answer), query={"limit": ["100"]}).json()["data"]
    assert answer.headers["cache-control"] == "no-store"
    assert answer.body.startswith("retry: 1000\n\n")
    assert "\r" not in answer.body
    assert seqs == sorted(set(seqs))
    assert set(seqs) <= {event["seq"] for event in log}
    assert frames[-1].event == "complete"
    assert frames[-1].data["output"] == said == log[-4]["content"][0]["text"]


def test_execute_answers_once_with_json_when_no_stream_is_wanted(api: Gateway) -> None:
    answer = api.send("execute", body={"input": "Pay 5 to alice", "stream": False})

    told = answer.json()

    assert (answer.status, told["status"]) == (200, "completed")
    assert "tool" in [message["role"] for message in told["messages"]]


def test_a_session_that_was_created_first_is_executed_in(api: Gateway) -> None:
    created = api.send("create_session", body={"agent": "wallet", "title": UNICODE}).json()

    answer = api.send("execute", body={"input": "What is my balance?", "session_id": created["id"]})

    assert created["state"] == "created"
    assert answer.frames()[-1].event == "complete"
    assert api.send("get_session", ids={"session_id": created["id"]}).json()["title"] == UNICODE


def test_several_values_of_one_query_parameter_all_count(api: Gateway) -> None:
    ids = ids_of(api.send("execute", body={"input": "What is my balance?"}))

    one = api.send("list_events", ids=ids, query={"types[]": ["user.message"]}).json()["data"]
    two = api.send("list_events", ids=ids, query={"types[]": ["user.message", "agent.message"]}).json()["data"]

    assert [event["type"] for event in one] == ["user.message"]
    assert [event["type"] for event in two] == ["user.message", "agent.message"]


def test_page_after_page_shows_every_event_once(api: Gateway) -> None:
    ids = ids_of(api.send("execute", body={"input": "What is my balance?"}))

    seqs: list[int] = []
    query: dict[str, list[str]] | None = {"limit": ["3"]}
    while query:
        page = api.send("list_events", ids=ids, query=query).json()
        seqs += [event["seq"] for event in page["data"]]
        query = {"limit": ["3"], "page": [page["next_page"]]} if page["has_more"] else None

    assert len(seqs) > 6
    assert seqs == list(range(1, len(seqs) + 1))


def test_a_cursor_of_another_list_is_refused_by_every_function(api: Gateway) -> None:
    ids = ids_of(api.send("execute"))
    cursor = api.send("list_events", ids=ids, query={"limit": ["1"]}).json()["next_page"]

    answer = api.send("list_sessions", query={"page": [cursor]})

    assert (answer.status, answer.json()["code"]) == (400, "malformed")


def test_the_same_idempotency_key_gives_the_same_run_again(api: Gateway) -> None:
    headers = {"Idempotency-Key": "once"}
    first = api.send("execute", headers=headers)

    again = api.send("execute", headers=headers)
    other = api.send("execute", headers=headers, body={"input": "Something else"})

    assert ids_of(again) == ids_of(first)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.frames()[-1].data == first.frames()[-1].data
    assert (other.status, other.json()["code"]) == (422, "idempotency_mismatch")


def test_one_process_answers_many_invocations_in_a_row(api: Gateway) -> None:
    ids = ids_of(api.send("execute", body={"input": "What is my balance?"}))

    for turn in range(2, 12):
        answer = api.send("execute", body={"input": f"Turn {turn}", "session_id": ids["session_id"]})
        shown = api.send("get_session", ids=ids).json()

        assert answer.frames()[-1].event == "complete"
        assert (shown["run_status"], shown["stats"]["runs"]) == ("completed", turn)


# What a driver left behind


def test_a_run_without_a_driver_is_shown_as_its_log_has_it(api: Gateway) -> None:
    claim = asyncio.run(begin_and_die(api.settings("execute"), LARGE))

    shown = api.send("get_session", ids={"session_id": claim.ref.id})

    assert (shown.status, shown.json()["status"], shown.json()["run_status"]) == (200, "running", "planning")


def test_an_approval_is_found_in_the_inbox_and_lets_the_run_go_on_in_the_worker(api: Gateway) -> None:
    told = api.send("execute", body={"input": "Donate 5 to alice", "stream": False}).json()
    [approval_id] = told["pending_approval_ids"]

    inbox = api.send("list_approvals", query={"session_id": [told["session_id"]]}).json()["data"]
    answer = api.send("decide_approval", ids={"approval_id": approval_id}, body={"decision": "approve"})
    failed = api.pump()
    again = api.send("decide_approval", ids={"approval_id": approval_id}, body={"decision": "deny"})
    shown = api.send("get_approval", ids={"approval_id": approval_id}).json()

    assert [row["id"] for row in inbox] == [approval_id]
    assert (answer.status, answer.json()["approval"]["status"]) == (200, "approved")
    assert failed == []
    assert (again.status, again.json()["code"]) == (409, "approval_decided")
    assert shown == answer.json()["approval"]
    assert api.send("get_session", ids=told).json()["run_status"] == "completed"


def test_a_decided_outcome_lets_the_run_go_on_in_the_worker(api: Gateway) -> None:
    ids = asyncio.run(die_while_paying(api.settings("execute")))
    waiting = api.send("get_session", ids=ids).json()

    answer = api.send("decide_outcome", ids=ids, body={"outcome": "happened", "result": UNICODE})
    assert api.pump() == []
    again = api.send("decide_outcome", ids=ids, body={"outcome": "retry"})

    said = api.send("list_messages", ids=ids).json()["data"]
    results = [message["content"][0]["content"][0]["text"] for message in said if message["role"] == "tool"]
    assert waiting["run_status"] == "waiting_approval"
    assert (answer.status, answer.function) == (200, "api")
    assert api.send("get_run", ids=ids).json()["status"] == "completed"
    assert results[-1] == UNICODE
    assert (again.status, again.json()["code"]) == (409, "outcome_decided")


# The queue, the sweeper, the watchers


def test_a_message_that_is_sent_is_answered_by_the_worker_and_seen_by_a_watcher(api: Gateway) -> None:
    ids = {"session_id": api.send("create_session").json()["id"]}

    sent = api.send("send_events", ids=ids)
    waiting = api.send("get_session", ids=ids).json()
    listed = api.send("list_events", ids=ids, query={}).json()["data"]
    assert api.pump() == []
    seen = api.send("stream_events", ids=ids, query={"after": ["0"], "until": ["idle"]}).frames()

    [message] = sent.json()["data"]
    assert (sent.status, sent.function) == (200, "api")
    assert (message["processed_at"], waiting["run_status"]) == (None, "executing_queued")
    assert [(event["id"], "seq" in event) for event in listed] == [(message["id"], False)]
    assert [frame.id for frame in seen] == list(range(1, len(seen) + 1))
    assert (seen[0].data["id"], seen[-1].event) == (message["id"], "session.status_idle")


def test_the_recorded_jobs_begin_sessions_of_their_owners(api: Gateway) -> None:
    records = gateway.recorded("queue_jobs")["Records"]
    told = [api.trigger("worker", {"Records": [each]}) for each in records]  # moto takes one writer at a time

    sessions = api.send("list_sessions", query={"source": ["queue"]}).json()["data"]
    assert told == [{"batchItemFailures": []}] * 3
    assert {(each["owner"], each["task_id"], each["run_status"]) for each in sessions} == {
        ("alice", "ticket-7", "completed"),
        ("admin", None, "completed"),
    }


def test_the_sweeper_gives_a_lost_hint_again(api: Gateway) -> None:
    ids = {"session_id": api.send("create_session").json()["id"]}
    api.send("send_events", ids=ids)
    api.lose_hints()
    gateway.age(api, Ref("default", ids["session_id"]).pk)

    api.trigger("sweeper", gateway.recorded("sweep"))
    assert api.pump() == []

    assert api.send("get_session", ids=ids).json()["run_status"] == "completed"


def test_a_session_that_has_lapsed_is_ended_by_the_stream_of_the_table(api: Gateway) -> None:
    ids = ids_of(api.send("execute"))
    ref = Ref("default", ids["session_id"])
    boto3.client("dynamodb").delete_item(
        TableName=api.functions["sweeper"].environment["PARLEY_TABLE"],
        Key={"PK": {"S": ref.pk}, "SK": {"S": "M"}},
    )
    event = gateway.recorded("session_expired")
    event["Records"][0]["dynamodb"]["Keys"]["PK"]["S"] = ref.pk

    told = api.trigger("sweeper", event)
    api.trigger("sweeper", gateway.recorded("sweep"))

    assert told == {"batchItemFailures": []}
    assert api.send("get_session", ids=ids).status == 404
    items = boto3.client("dynamodb").query(
        TableName=api.functions["sweeper"].environment["PARLEY_TABLE"],
        KeyConditionExpression="PK = :pk",
        ExpressionAttributeValues={":pk": {"S": ref.pk}},
    )["Items"]
    assert {item["SK"]["S"][:2] for item in items} == {"M", "L", "E#"}
    assert not [item for item in items if len(item.get("body", {}).get("B", b"")) > 300], "contents are gone"


def test_without_the_key_no_function_says_anything(api: Gateway) -> None:
    for operation in gateway.operations():
        event = gateway.recorded(operation)
        del event["headers"]["X-Api-Key"], event["multiValueHeaders"]["X-Api-Key"]

        answer = api.invoke(event)

        assert (answer.status, answer.json()["code"]) == (401, "unauthorized"), operation


# What a cold start loads


@pytest.mark.parametrize("name", ["list_sessions", "get_session", "delete_session", "stream_events"])
def test_what_reads_or_deletes_starts_without_the_sdk_the_engine_and_a_server(name: str) -> None:
    loaded = modules_after_cold_start(name)

    assert {"boto3", "parley.store"} <= loaded
    assert not loaded & {"anthropic", "parley.engine", "parley.runner", "parley.adapters.claude", "uvicorn"}


@pytest.mark.parametrize("name", ["execute", "api", "worker"])
def test_what_runs_agents_has_the_engine_and_no_server(name: str) -> None:
    loaded = modules_after_cold_start(name)

    assert {"parley.engine", "parley.runner"} <= loaded
    assert not loaded & {"anthropic", "uvicorn", "parley.dev", "parley.adapters.sqlite"}


# How it is done


def ids_of(answer: Answer) -> dict[str, str]:
    """Return the ids that an answer of execute names."""
    assert answer.status == 200, answer.body
    session_id, _, run_id = answer.headers["content-location"].split("/")[-3:]
    return {"session_id": session_id, "run_id": run_id}


def modules_after_cold_start(name: str) -> set[str]:
    """Import a handler in a process of its own, with the environment that Lambda would give it, and no AWS in reach."""
    function = template.functions()[name]
    script = f"import json, sys, {function.handler.split('.')[0]}; print(json.dumps(list(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=function.folder,
        env={**gateway.SURROUNDINGS, **function.environment, "PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
        capture_output=True,
        text=True,
    )
    return set(json.loads(found.stdout))
