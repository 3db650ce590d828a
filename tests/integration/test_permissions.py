"""Every function's role, compared with what the function asks of AWS while it does all that it can do."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import boto3
from parley.store import Ref

from tests.integration import gateway
from tests.integration.drivers import LARGE, ask_for_a_second, begin_and_die, die_while_paying
from tests.integration.gateway import Gateway
from tests.integration.permissions import Need, allowed

NOT_ASKED_FOR = {
    "s3:ListBucket",  # makes S3 say that a blob is missing, instead of refusing
    *("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"),  # Lambda polls with the worker's role
    *("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator", "dynamodb:ListStreams"),
}
"""What no call of ours needs; the streams' are Lambda's, too, which reads them with the sweeper's role."""


def test_each_function_may_do_what_it_does_and_nothing_else(tmp_path: Path) -> None:
    with gateway.deployed(tmp_path, delay_seconds="0.03") as api:
        do_everything(api)

    for name, function in api.functions.items():
        needs = [need for call in api.calls if call.function == name for need in call.needs()]
        granted = {action for statement in function.statements for action in statement["Action"]}
        assert not [need for need in needs if not allowed(need, function.statements)], name
        assert {need.action for need in needs} | NOT_ASKED_FOR == granted | NOT_ASKED_FOR, name


def test_who_lists_sessions_reads_no_session(tmp_path: Path) -> None:
    with gateway.deployed(tmp_path) as api:
        statements = api.functions["list_sessions"].statements

    assert allowed(Need("dynamodb:GetItem", "Table.Arn", "SECRET"), statements)
    assert not allowed(Need("dynamodb:GetItem", "Table.Arn", "S#default#sesn_1"), statements)
    assert not allowed(Need("dynamodb:PutItem", "Table.Arn", "S#default#sesn_1"), statements)
    assert not allowed(Need("dynamodb:Query", "Table.Arn", "S#default#sesn_1"), statements)


SENT_APART = {"execute", "decide_outcome", "stream_events", "delete_session"}
SENT_APART |= {"get_approval", "decide_approval", "decide_plan", "edit_event", "remove_event", "cancel_run"}
SENT_APART |= {"suspend_session", "resume_session", "archive_session"}


def do_everything(api: Gateway) -> None:
    """Make every function use all that it uses: blobs, snapshots, the first cursor, a run that is taken over."""
    settings = api.settings("execute")
    twice = {"Idempotency-Key": "twice"}
    begun, again = (api.send("execute", body={"input": LARGE}, headers=twice) for _ in range(2))
    assert again.headers["idempotent-replayed"] == "true"
    ids = {"session_id": begun.headers["location"].rsplit("/", 1)[-1]}
    for text in (LARGE[::-1], "What is my balance?"):
        assert api.send("execute", body={"input": text, **ids}).status == 200
    abandoned = asyncio.run(begin_and_die(settings, LARGE))
    assert api.send("list_sessions", query={"limit": ["1"]}).json()["has_more"]
    assert api.send("get_session", ids={"session_id": abandoned.ref.id}).status == 200
    waiting = asyncio.run(die_while_paying(settings))
    word = {"outcome": "happened", "result": LARGE[:60_000]}
    assert api.send("decide_outcome", ids=waiting, body=word).status == 200
    assert api.pump() == []
    waits = {"session_id": asyncio.run(ask_for_a_second(settings))}
    [asked] = api.send("list_approvals").json()["data"]
    assert api.send("get_approval", ids={"approval_id": asked["id"]}).json()["session_id"] == waits["session_id"]
    for operation in set(gateway.operations()) - SENT_APART:
        assert api.send(operation, ids=waiting).status == 200
    time.sleep(1)
    sent = {"events": [{"type": "user.message", "content": [{"type": "text", "text": LARGE}]}]}
    assert api.send("send_events", ids=waiting, body=sent).status == 200
    change_minds(api, waiting, sent)
    api.lose_hints()
    gateway.age(api, Ref("default", waiting["session_id"]).pk)
    api.trigger("sweeper", gateway.recorded("sweep"))
    assert api.send("get_approval", ids={"approval_id": asked["id"]}).json()["status"] == "expired"
    while len(api.send("list_runs", ids=waiting).json()["data"]) < 4:
        assert api.pump() == []
    assert api.send("stream_events", ids=waiting).status == 200
    watched = {"input": "What is my balance?", "session_id": waiting["session_id"]}
    assert api.send("execute", body=watched).status == 200
    api.queue.send_message(MessageBody=json.dumps(watched | {"agent_id": "wallet"}))
    assert api.pump() == []
    meet_trouble(api, asyncio.run(begin_and_die(settings, "Hi")).ref)
    for operation in ("suspend_session", "resume_session", "archive_session", "delete_session"):
        assert api.send(operation, ids=waiting).status == 200
    forget(api, abandoned.ref)
    api.trigger("sweeper", gateway.recorded("sweep"))


def change_minds(api: Gateway, ids: dict[str, str], sent: Any) -> None:
    """Edit a message that waits, remove one, and stop a run."""
    kept, removed = (
        api.send("send_events", ids=ids, body=sent, headers={"Idempotency-Key": key}).json()["data"][0]["id"]
        for key in ("kept", "removed")
    )
    content = {"content": [{"type": "text", "text": LARGE[::-1]}]}
    assert api.send("edit_event", ids=ids | {"event_id": kept}, body=content).status == 200
    assert api.send("remove_event", ids=ids | {"event_id": removed}).status == 200
    assert api.send("cancel_run", ids=ids).status == 409


def meet_trouble(api: Gateway, busy: Ref) -> None:
    """Let the worker meet a job that nobody can do; let execute and the worker meet a busy session."""
    into_busy = {"input": "Hi", "session_id": busy.id}
    assert api.send("execute", body=into_busy).status == 409
    for job in ({"agent_id": "nobody", "input": "Hi"}, {"agent_id": "wallet"} | into_busy):
        api.queue.send_message(MessageBody=json.dumps(job))
    assert len(api.pump()) == 1


def forget(api: Gateway, ref: Ref) -> None:
    """Let a session lapse, and the table's stream tell so; then let its second pass be due."""
    table = boto3.client("dynamodb")
    name = api.functions["sweeper"].environment["PARLEY_TABLE"]
    key = {"PK": {"S": ref.pk}, "SK": {"S": "M"}}
    table.delete_item(TableName=name, Key=key)
    event = gateway.recorded("session_expired")
    event["Records"][0]["dynamodb"]["Keys"]["PK"]["S"] = ref.pk
    api.trigger("sweeper", event)
    api.trigger("sweeper", gateway.recorded("sweep"))
    table.update_item(
        TableName=name,
        Key=key,
        UpdateExpression="SET swept_ms = :long_ago",
        ExpressionAttributeValues={":long_ago": {"N": "1"}},
    )
