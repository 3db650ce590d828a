"""Every function's role, compared with what the function asks of AWS while it does all that it can do."""

import asyncio
from pathlib import Path

from tests.integration import gateway
from tests.integration.drivers import LARGE, begin_and_die, die_while_paying
from tests.integration.gateway import Gateway
from tests.integration.permissions import Need, allowed

NOT_ASKED_FOR = {"s3:ListBucket"}
"""No call needs it; it makes S3 say that a blob is missing, instead of refusing."""


def test_each_function_may_do_what_it_does_and_nothing_else(tmp_path: Path) -> None:
    with gateway.deployed(tmp_path) as api:
        do_everything(api)

    for name, function in api.functions.items():
        needs = [need for call in api.calls if call.function == name for need in call.needs()]
        granted = {action for statement in function.statements for action in statement["Action"]}
        assert not [need for need in needs if not allowed(need, function.statements)], name
        assert {need.action for need in needs} == granted - NOT_ASKED_FOR, name


def test_who_lists_sessions_reads_no_session(tmp_path: Path) -> None:
    with gateway.deployed(tmp_path) as api:
        statements = api.functions["list_sessions"].statements

    assert allowed(Need("dynamodb:GetItem", "Table.Arn", "SECRET"), statements)
    assert not allowed(Need("dynamodb:GetItem", "Table.Arn", "S#default#sesn_1"), statements)
    assert not allowed(Need("dynamodb:PutItem", "Table.Arn", "S#default#sesn_1"), statements)
    assert not allowed(Need("dynamodb:Query", "Table.Arn", "S#default#sesn_1"), statements)


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
    for operation in set(gateway.operations()) - {"execute", "decide_outcome", "delete_session"}:
        assert api.send(operation, ids=waiting).status == 200
    assert api.send("delete_session", ids=waiting).status == 200
