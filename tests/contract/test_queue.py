"""What every queue does with a hint."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial

import pytest
from moto import mock_aws
from parley.adapters.inline import InlineQueue
from parley.adapters.sqs import SqsQueue
from parley.ports import Queue

from tests.contract import backends

pytestmark = pytest.mark.anyio

Hint = tuple[str, str]
URL = "https://sqs.eu-central-1.amazonaws.com/123456789012/hints"


@dataclass(frozen=True)
class Subject:
    """A queue, and what has come out of it since it was last asked."""

    queue: Queue
    received: Callable[[], list[Hint]]


@pytest.fixture(params=["inline", "sqs"])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "inline":
        followed: list[Hint] = []

        async def nudge(tenant: str, session_id: str) -> None:
            followed.append((tenant, session_id))

        yield Subject(InlineQueue(nudge), lambda: followed)
        return
    with mock_aws(), closing(backends.sqs_client()) as worker:
        url = worker.create_queue(QueueName="hints")["QueueUrl"]
        sqs = SqsQueue(url, backends.sqs_client)

        def receive() -> list[Hint]:
            messages = worker.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            hints = [json.loads(message["Body"])["hint"] for message in messages]
            return [(hint["tenant"], hint["session_id"]) for hint in hints]

        yield Subject(sqs, receive)
        await sqs.close()


async def test_a_hint_names_its_tenant_and_its_session(subject: Subject) -> None:
    await subject.queue.send("acme", "sesn_1")

    assert subject.received() == [("acme", "sesn_1")]


async def test_every_hint_comes_out(subject: Subject) -> None:
    for number in range(3):
        await subject.queue.send("acme", f"sesn_{number}")

    assert sorted(subject.received()) == [("acme", f"sesn_{number}") for number in range(3)]


async def test_a_hint_says_nothing_but_where_to_look() -> None:
    with mock_aws(), closing(backends.sqs_client()) as worker:
        url = worker.create_queue(QueueName="hints")["QueueUrl"]
        queue = SqsQueue(url, backends.sqs_client)

        await queue.send("acme", "sesn_1")
        await queue.close()

        [message] = worker.receive_message(QueueUrl=url)["Messages"]
        assert json.loads(message["Body"]) == {"hint": {"tenant": "acme", "session_id": "sesn_1"}}


async def test_a_message_that_was_received_comes_again_when_it_is_told_to() -> None:
    with mock_aws(), closing(backends.sqs_client()) as worker:
        url = worker.create_queue(QueueName="hints")["QueueUrl"]
        queue = SqsQueue(url, backends.sqs_client)
        await queue.send("acme", "sesn_1")
        [message] = worker.receive_message(QueueUrl=url)["Messages"]
        hidden = worker.receive_message(QueueUrl=url).get("Messages", [])

        await queue.retry_later(message["ReceiptHandle"], 0)
        await queue.close()

        [again] = worker.receive_message(QueueUrl=url)["Messages"]
        assert hidden == []
        assert again["Body"] == message["Body"]


async def test_a_queue_that_is_not_there_loses_the_hint_and_nobody_s_request(caplog: pytest.LogCaptureFixture) -> None:
    with mock_aws():
        queue = SqsQueue(URL, backends.sqs_client)

        await queue.send("acme", "sesn_1")
        await queue.close()

    assert lost(caplog) == [("WARNING", "sesn_1", "AWS.SimpleQueueService.NonExistentQueue")]


async def test_a_server_that_does_not_answer_loses_the_hint_and_nobody_s_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue = SqsQueue(URL, partial(backends.sqs_client, f"http://127.0.0.1:{backends.free_port()}"))

    await queue.send("acme", "sesn_1")
    await queue.close()

    assert lost(caplog) == [("WARNING", "sesn_1", "EndpointConnectionError")]


def lost(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    """Read what was said about lost hints: how loud, of which session, and why."""
    told = [record for record in caplog.records if record.message == "hint_not_sent"]
    return [(logging.getLevelName(one.levelno), one.__dict__["session_id"], one.__dict__["error"]) for one in told]
