"""The template as a stack of an emulator, and its built functions as processes: on emulators of Lambda, in the
environment that the template gives them, with credentials that tell who they are.
"""

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests import lambda_process, template
from tests.e2e import processes
from tests.e2e.built import artifacts, roles
from tests.e2e.built.recorder import Recorder, recording
from tests.e2e.emulators import cargo_lambda, rie
from tests.e2e.emulators.cargo_lambda import CargoLambda
from tests.e2e.emulators.rie import Rie
from tests.e2e.processes import Process
from tests.integration import gateway
from tests.integration import stack as stacks
from tests.integration.stack import Stack
from tests.lambda_process import LambdaProcess

AGENTS = Path(__file__).parent / "agents"
PARAMETERS = {"ModelProvider": "anthropic", "Agent": "agent:agent,night:agent"}
CONDITIONS = {"CallsModel": True, "UsesBedrock": False, "OwnsAnthropicKey": True}
"""Of the template, with these parameters."""

DOOMED = "doomed"
"""A name on the emulator for a function that is killed."""

KEYS = {"AdminKey": gateway.KEY, "AnthropicKey": "sk-ant-test"}


@dataclass
class Deployment:
    """A stack, and what its functions talk to."""

    stack: Stack
    arns: dict[str, str]
    recorder: Recorder
    model: Process
    """The fake of the Messages API."""
    emulator: CargoLambda
    functions: dict[str, template.Function]
    ledger: Path
    warm: set[str] = field(default_factory=set)
    until_the_end: ExitStack = field(default_factory=ExitStack)

    def environment(self, function: str, **more: str) -> dict[str, str]:
        """Return what a function is told by the template, by Lambda, and of where our emulators are."""
        return {
            **gateway.SURROUNDINGS,
            **self.functions[function].environment,
            "AWS_ACCESS_KEY_ID": function,
            "AWS_ENDPOINT_URL": self.recorder.url,
            "ANTHROPIC_BASE_URL": self.model.url,
            "NIGHT_LEDGER": str(self.ledger),
            "WALLET_LEDGER": str(self.ledger.with_name("wallet.jsonl")),
            "WALLET_PAY_SECONDS": "0",
            **more,
        }

    def folder(self, function: str) -> Path:
        """Return where a function was built."""
        return artifacts.built() / self.functions[function].name

    def process(self, function: str, name: str = "", **more: str) -> AbstractContextManager[LambdaProcess]:
        """Run a function on the emulator that streams, there under a name of its own if need be."""
        return lambda_process.started(
            self.folder(function),
            self.emulator.runtime_api(name or function),
            layers=_layers(),
            environment=self.environment(function, **more),
            interpreter=artifacts.interpreter(),
            wrapper=artifacts.wrapper(),
        )

    def on_rie(self, function: str, seconds: int | None = None) -> AbstractContextManager[Rie]:
        """Run a function on AWS's emulator, with so much time for an invocation, or what the template gives it."""
        given = {
            "LAMBDA_TASK_ROOT": str(self.folder(function)),
            "PYTHONPATH": os.pathsep.join(map(str, _layers())),
            "AWS_LAMBDA_FUNCTION_NAME": function,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
            **self.environment(function),
        }
        start = [*rie.function(given), str(artifacts.wrapper()), *artifacts.interpreter(), "/var/runtime/bootstrap.py"]
        timeout = str(seconds or self.functions[function].properties["Timeout"])
        return rie.started(["env", *start], {"AWS_LAMBDA_FUNCTION_TIMEOUT": timeout})

    @contextmanager
    def invoke(self, function: str, event: Any) -> Iterator[httpx.Response]:
        """Invoke a function on the emulator that streams; it is started when it is first needed, and stays."""
        if function in self.functions and function not in self.warm:
            self.warm.add(function)
            self.until_the_end.enter_context(self.process(function))
        with self.emulator.invoke(function, event) as response:
            yield response

    def send(self, operation: str, **changes: Any) -> AbstractContextManager[httpx.Response]:
        """Send a request of an operation to the function that the template attaches to its route."""
        event = request(operation, **changes)
        return self.invoke(self.route(event), event)

    def ask(self, operation: str, **changes: Any) -> Any:
        """Send a request to a function that answers in one piece; return the JSON of its answer."""
        with self.send(operation, **changes) as response:
            answer = json.loads(response.read())
        assert answer["statusCode"] < 300, answer
        return json.loads(answer["body"])

    def trigger(self, function: str, event: Any) -> Any:
        """Give a function an event that is no request; return what it said."""
        with self.invoke(function, event) as response:
            return json.loads(response.read())

    def work(self, event: Any) -> Any:
        """Give the worker a batch."""
        return self.trigger("worker", event)

    def route(self, event: dict[str, Any]) -> str:
        """Say which function a request goes to."""
        route = template.Route(event["httpMethod"], event["resource"])
        [name] = [name for name, function in self.functions.items() if route in function.routes]
        return name

    def let_through(self, gate: str, times: int = 1) -> None:
        """Let the model make more deltas of those that a script holds back."""
        for _ in range(times):
            httpx.post(f"{self.model.url}/_gates/{gate}").raise_for_status()

    def model_calls(self) -> list[dict[str, Any]]:
        """Return what the model was asked, oldest first."""
        found: list[dict[str, Any]] = httpx.get(f"{self.model.url}/_requests").json()
        return found

    def forget_model_calls(self) -> None:
        """Let the model begin to count anew."""
        httpx.delete(f"{self.model.url}/_requests").raise_for_status()

    def noted(self, session_id: str) -> list[int]:
        """Return what the agent wrote down in a session, in order."""
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        return [each["number"] for each in map(json.loads, lines) if each["session_id"] == session_id]

    def log(self, session_id: str) -> list[dict[str, Any]]:
        """Return a session's whole log."""
        found: list[dict[str, Any]]
        found = self.ask("list_events", ids={"session_id": session_id}, query={"limit": ["100"]})["data"]
        return found


def request(
    operation: str,
    *,
    ids: Mapping[str, str] | None = None,
    query: Mapping[str, list[str]] | None = None,
    headers: Mapping[str, str] | None = None,
    body: Any = None,
) -> dict[str, Any]:
    """Return the recorded event of an operation, with these values in place of the recorded ones."""
    event = gateway.recorded(operation)
    gateway.fill(event, ids or {})
    if query is not None:
        event["multiValueQueryStringParameters"] = dict(query) or None
        event["queryStringParameters"] = {name: values[-1] for name, values in query.items()} or None
    for name, value in ({"Idempotency-Key": str(uuid.uuid4())} | dict(headers or {})).items():
        event["headers"][name], event["multiValueHeaders"][name] = value, [value]
    if body is not None:
        event["body"] = json.dumps(body)
    return event


@contextmanager
def deployed(folder: Path) -> Iterator[Deployment]:
    """Deploy the template into an emulator of its own; its functions are started by who needs them."""
    artifacts.built()
    with ExitStack() as opened:
        stack = opened.enter_context(stacks.deployed(folder, PARAMETERS))
        arns = roles.arns_of(stack)
        _stop_polling(stack)
        _redrive(stack, arns)
        for name, value in KEYS.items():
            stack.client("secretsmanager").put_secret_value(SecretId=arns[name], SecretString=value)
        refs = {name: stack.resource(name) for name in ("Table", "Bucket", "Queue")}
        functions = template.functions({**refs, **PARAMETERS, **{name: arns[name] for name in KEYS}})
        recorder = opened.enter_context(recording(stack.endpoint))
        model = opened.enter_context(processes.running(processes.fake_anthropic))
        emulator = opened.enter_context(cargo_lambda.running(*functions, DOOMED))
        ledger = folder / "night.jsonl"
        deployment = Deployment(stack, arns, recorder, model, emulator, functions, ledger)
        with deployment.until_the_end:
            yield deployment


def _stop_polling(stack: Stack) -> None:
    """Take away the event sources: ministack would poll the queue for a function of its own."""
    functions = stack.client("lambda")
    for mapping in functions.list_event_source_mappings()["EventSourceMappings"]:
        functions.delete_event_source_mapping(UUID=mapping["UUID"])


def _redrive(stack: Stack, arns: Mapping[str, str]) -> None:
    """Set what ministack's CloudFormation leaves out: when the queue gives a message up."""
    policy = roles.resolved(template.resources("AWS::SQS::Queue")["Queue"]["RedrivePolicy"], arns, {})
    stack.client("sqs").set_queue_attributes(
        QueueUrl=stack.resource("Queue"), Attributes={"RedrivePolicy": json.dumps(policy)}
    )


def _layers() -> list[Path]:
    return artifacts.layers(artifacts.built() / "AgentLayer/python", AGENTS)
