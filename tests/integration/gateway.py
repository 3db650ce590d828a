"""API Gateway as the tests play it: the template says which function a request goes to, events/*.json how it looks."""

import asyncio
import importlib.util
import itertools
import json
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import pytest
from moto import mock_aws
from parley.settings import Settings
from parley.settings import load as load_settings
from parley_runtime import cycle
from parley_runtime.loop import is_asgi
from parley_runtime.request import body_of, scope_of
from parley_runtime.response import Buffered

from tests import template
from tests.integration.permissions import Call

EVENTS = Path(__file__).resolve().parents[2] / "events"
REGION = "eu-central-1"
SURROUNDINGS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": REGION,
    "AWS_DEFAULT_REGION": REGION,
}
"""What the runtime sets, whatever the template says."""

KEY = "local-admin-key"
"""The admin key that the recorded events show."""

_deployments = itertools.count()


@dataclass(frozen=True, slots=True)
class Context:
    """What Lambda tells a handler about the invocation."""

    function_name: str
    invoked_function_arn: str
    memory_limit_in_mb: int = 512
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of an event stream."""

    id: int | None
    event: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function answered, as the gateway passes it on."""

    function: str
    status: int
    headers: dict[str, str]
    body: str

    def json(self) -> dict[str, Any]:
        """Read the body; the gateway would not have undone base64."""
        found: dict[str, Any] = json.loads(self.body)
        return found

    def frames(self) -> list[Frame]:
        """Read the body as an event stream, comments and `retry:` left out."""
        assert self.headers["content-type"].startswith("text/event-stream"), self.body
        assert self.body.endswith("\n\n")
        blocks = [dict(_field(line) for line in block.split("\n")) for block in self.body[:-2].split("\n\n")]
        return [
            Frame(int(block["id"]) if "id" in block else None, block["event"], json.loads(block["data"]))
            for block in blocks
            if "data" in block
        ]


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.removeprefix(" ")


@dataclass(slots=True)
class Gateway:
    """Every function of the template, loaded once, as warm Lambdas are."""

    functions: dict[str, template.Function]
    handlers: dict[str, Any]
    loops: dict[str, asyncio.AbstractEventLoop]
    calls: list[Call]
    """What the functions asked of AWS."""
    queue: Any
    """The queue, to look into."""

    def settings(self, function: str) -> Settings:
        """Read the settings that the template gives a function."""
        return load_settings({**self.functions[function].environment, "PARLEY_SCRIPTED_DELAY_SECONDS": "0"})

    def send(
        self,
        operation: str,
        *,
        ids: Mapping[str, str] | None = None,
        query: Mapping[str, list[str]] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Answer:
        """Send the recorded event of an operation, with these values in place of the recorded ones."""
        event = recorded(operation)
        fill(event, ids or {})
        if query is not None:
            event["multiValueQueryStringParameters"] = dict(query) or None
            event["queryStringParameters"] = {name: values[-1] for name, values in query.items()} or None
        if event["httpMethod"] == "POST":
            headers = {"Idempotency-Key": str(uuid.uuid4())} | dict(headers or {})
        for name, value in (headers or {}).items():
            event["headers"][name], event["multiValueHeaders"][name] = value, [value]
        if body is not None:
            event["body"] = body if isinstance(body, str) else json.dumps(body)
        return self.invoke(event)

    def invoke(self, event: dict[str, Any]) -> Answer:
        """Give an event to the function that the template attaches to its route."""
        route = template.Route(event["httpMethod"], event["resource"])
        [name] = [name for name, function in self.functions.items() if route in function.routes]
        answer = self.trigger(name, event)
        assert answer["isBase64Encoded"] is False, "nobody undoes base64: the API has no binary media types"
        several = {key: values[-1] for key, values in (answer.get("multiValueHeaders") or {}).items()}
        return Answer(name, answer["statusCode"], several | (answer.get("headers") or {}), answer["body"])

    def trigger(self, name: str, event: dict[str, Any]) -> dict[str, Any]:
        """Give an event to a function, as its runtime does."""
        before, handler = len(self.calls), self.handlers[name]
        context = Context(name, f"arn:aws:lambda:{REGION}:123456789012:function:{name}")
        asyncio.set_event_loop(self.loops[name])
        answer = self._stream(name, event, context) if is_asgi(handler) else handler(event, context)
        self.calls[before:] = [call.by(name) for call in self.calls[before:]]
        return dict(json.loads(json.dumps(answer)))  # the runtime would write it

    def _stream(self, name: str, event: dict[str, Any], context: Any) -> dict[str, Any]:
        response = Buffered()
        answering = cycle.answer(self.handlers[name], scope_of(event, context), body_of(event), response)
        self.loops[name].run_until_complete(answering)
        answer: dict[str, Any] = json.loads(response.proxy_answer())
        return answer

    def lose_hints(self) -> None:
        """Remove all that is in the queue."""
        while messages := self.queue.receive_messages(MaxNumberOfMessages=10):
            for message in messages:
                message.delete()

    def pump(self) -> list[str]:
        """Give all that is in the queue to the worker; return the ids of the messages that it could not do."""
        records = [
            {
                "messageId": message.message_id,
                "receiptHandle": message.receipt_handle,
                "body": message.body,
                "attributes": message.attributes,
            }
            for message in self.queue.receive_messages(MaxNumberOfMessages=10, AttributeNames=["All"])
        ]
        if not records:
            return []
        told = self.trigger("worker", {"Records": records})
        failed = [each["itemIdentifier"] for each in told["batchItemFailures"]]
        for record in records:
            if record["messageId"] not in failed:
                self.queue.delete_messages(Entries=[{"Id": "0", "ReceiptHandle": record["receiptHandle"]}])
        return failed


def recorded(operation: str) -> dict[str, Any]:
    """Read the event of an operation."""
    event: dict[str, Any] = json.loads((EVENTS / f"{operation}.json").read_text())
    return event


def age(api: Gateway, pk: str) -> None:
    """Let the messages of a session have waited since 1970."""
    client, name = boto3.client("dynamodb"), api.functions["sweeper"].environment["PARLEY_TABLE"]
    asked = {":pk": {"S": pk}, ":queued": {"S": "Q#"}}
    condition = "PK = :pk AND begins_with(SK, :queued)"
    found = client.query(TableName=name, KeyConditionExpression=condition, ExpressionAttributeValues=asked)
    for item in found["Items"]:
        client.put_item(TableName=name, Item=item | {"created_ms": {"N": "1"}})


def operations() -> list[str]:
    """Name the operations of the API that have an event."""
    return sorted(path.stem for path in EVENTS.glob("*.json") if "httpMethod" in recorded(path.stem))


def fill(event: dict[str, Any], ids: Mapping[str, str]) -> None:
    """Put ids into the path."""
    parameters = {
        **(event["pathParameters"] or {}),
        **{k: v for k, v in ids.items() if f"{{{k}}}" in event["resource"]},
    }
    path = event["resource"].format(**parameters)
    event["pathParameters"] = parameters or None
    event["path"] = path
    event["requestContext"]["path"] = f"/{event['requestContext']['stage']}{path}"


@contextmanager
def deployed(folder: Path, *, delay_seconds: str = "0") -> Iterator[Gateway]:
    """Make the table and the bucket of the template, and load every function with its own environment."""
    calls: list[Call] = []
    with mock_aws(), pytest.MonkeyPatch.context() as patch:
        for name, value in {**SURROUNDINGS, "WALLET_LEDGER": str(folder), "WALLET_PAY_SECONDS": "0"}.items():
            patch.setenv(name, value)
        number = next(_deployments)
        refs = create_resources(number)
        boto3.setup_default_session()
        events = boto3._get_default_session().events
        events.register("before-parameter-build", lambda params, model, **_: calls.append(Call.of(model, params)))
        functions = template.functions(refs)
        delay = {"PARLEY_SCRIPTED_DELAY_SECONDS": delay_seconds}
        loaded = {name: load(function, function.environment | delay) for name, function in functions.items()}
        handlers = {name: module.handler for name, (module, _) in loaded.items()}
        loops = {name: loop for name, (_, loop) in loaded.items()}
        queue = boto3.Session(region_name=REGION).resource("sqs").Queue(refs["Queue"])
        yield Gateway(functions, handlers, loops, calls, queue)
        asyncio.set_event_loop(None)
        for _, loop in loaded.values():
            loop.run_until_complete(asyncio.sleep(0.01))  # generators that were left half-way are closed now
            left_running = asyncio.all_tasks(loop)
            loop.close()
            assert not left_running, left_running


def create_resources(number: int) -> dict[str, str]:
    """Make what the template describes, as far as an emulator can; return the names by logical id."""
    refs = {"Table": f"parley-{number}", "Bucket": f"parley-{number}-blobs"}
    secrets = boto3.client("secretsmanager")
    for name, value in (("AdminKey", KEY), ("AnthropicKey", "not-set")):
        refs[name] = secrets.create_secret(Name=f"parley-{number}-{name}", SecretString=value)["ARN"]
    refs["Queue"] = boto3.client("sqs").create_queue(QueueName=f"parley-{number}")["QueueUrl"]
    table = template.table_properties()
    dynamodb = boto3.client("dynamodb")
    taken = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    request: dict[str, Any] = {name: deepcopy(table[name]) for name in taken}
    dynamodb.create_table(TableName=refs["Table"], **request)
    expiry = table["TimeToLiveSpecification"]
    dynamodb.update_time_to_live(TableName=refs["Table"], TimeToLiveSpecification=expiry)
    place: Any = {"LocationConstraint": REGION}
    boto3.client("s3").create_bucket(Bucket=refs["Bucket"], CreateBucketConfiguration=place)
    return refs


def load(function: template.Function, environment: Mapping[str, str]) -> tuple[ModuleType, asyncio.AbstractEventLoop]:
    """Import a handler as a cold start does, from its file and in its environment; return its event loop, too."""
    module, _, attribute = function.handler.partition(".")
    unique = f"deployed_{next(_deployments)}_{function.folder.name}"
    spec = importlib.util.spec_from_file_location(unique, function.folder / f"{module}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = sys.modules[unique] = importlib.util.module_from_spec(spec)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # the streaming runtime has one before it loads a handler
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        spec.loader.exec_module(loaded)
    assert callable(getattr(loaded, attribute))
    made = asyncio.get_event_loop()
    if made is not loop:
        loop.close()
    return loaded, made
