"""The first deploy and `make set-key`, in a CloudFormation that others wrote."""

import importlib.util
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests import template
from tests.integration import stack as stacks
from tests.integration.stack import Stack

pytestmark = pytest.mark.xdist_group("processes")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One for all tests that only look."""
    with stacks.deployed(tmp_path_factory.mktemp("stack")) as opened:
        yield opened


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """One that a test may change."""
    with stacks.deployed(tmp_path) as opened:
        point_at(opened, monkeypatch)
        yield opened


# The first deploy


def test_the_first_deploy_needs_nothing_and_prints_what_to_type(stack: Stack) -> None:
    outputs = stack.outputs()

    call, key_command = shlex.split(outputs["FirstCall"]), outputs["AdminKeyCommand"]
    assert call[:3] == ["curl", "-N", f"{outputs['ApiUrl']}/v1/agents/wallet/execute"]
    assert f"x-api-key: $({key_command})" in call
    assert json.loads(call[-1]) == {"input": "What is my balance?"}
    assert stack.resource("AdminKey") in shlex.split(key_command)


def test_a_new_stack_has_an_admin_key_of_its_own_and_no_key_for_claude(stack: Stack) -> None:
    secrets = stack.client("secretsmanager")

    admin, anthropic = (
        secrets.get_secret_value(SecretId=stack.resource(name))["SecretString"] for name in ("AdminKey", "AnthropicKey")
    )

    assert len(admin) == 43
    assert anthropic == "not-set"


def test_a_function_is_told_the_names_of_secrets_and_no_secret(stack: Stack) -> None:
    environment = stack.environment("ExecuteFunction")

    assert environment["PARLEY_ADMIN_KEY_SECRET"] == stack.resource("AdminKey")
    assert environment["PARLEY_ANTHROPIC_KEY_SECRET"] == stack.resource("AnthropicKey")
    assert environment["PARLEY_QUEUE_URL"] == stack.outputs()["QueueUrl"]
    assert "ANTHROPIC_API_KEY" not in environment


def test_an_event_of_another_system_reaches_the_queue_whole(stack: Stack) -> None:
    command = shlex.split(stack.outputs()["EventsCommand"])

    stack.client("events").put_events(Entries=json.loads(command[-1]))
    stack.client("events").put_events(Entries=[{"Source": "me", "DetailType": "Something Else", "Detail": "{}"}])

    queue = stack.outputs()["QueueUrl"]
    [message] = stack.client("sqs").receive_message(QueueUrl=queue, MaxNumberOfMessages=10)["Messages"]
    event = json.loads(message["Body"])
    assert event["detail-type"] == "Parley Job"
    assert event["detail"] == {"agent_id": "wallet", "input": "What is my balance?"}


def test_every_parameter_can_be_set_at_once(tmp_path: Path) -> None:
    chosen = {
        "ModelProvider": "bedrock",
        "AnthropicKeySecretArn": "arn:aws:secretsmanager:eu-central-1:000000000000:secret:theirs-AbCdEf",
        "CorsOrigin": "https://app.example.com",
        "AccessLogs": "on-with-account-role",
        "StreamConcurrency": "5",
        "SnapStart": "on",
        "Architecture": "x86_64",
        "DeletionProtection": "false",
        "AlarmTopicArn": "arn:aws:sns:eu-central-1:000000000000:alarms",
    }

    with stacks.deployed(tmp_path, chosen) as stack:
        environment = stack.environment("ExecuteFunction")

    assert environment["PARLEY_ANTHROPIC_KEY_SECRET"] == chosen["AnthropicKeySecretArn"]
    assert environment["PARLEY_CORS_ORIGIN"] == chosen["CorsOrigin"]


# make set-key


def test_set_key_stores_the_key_and_chooses_claude(own: Stack) -> None:
    before = own.parameters()

    arn = script().set_key(stacks.session(), stacks.NAME, "sk-ant-1")

    assert secret(own, arn) == "sk-ant-1"
    assert own.parameters() == before | {"ModelProvider": "anthropic"}
    assert own.environment("WorkerFunction")["PARLEY_MODEL_PROVIDER"] == "anthropic"
    assert own.resource("ModelPolicy")


def test_a_second_key_replaces_the_first_and_leaves_the_stack_alone(own: Stack) -> None:
    script().set_key(stacks.session(), stacks.NAME, "sk-ant-1")
    before = own.described()

    arn = script().set_key(stacks.session(), stacks.NAME, "sk-ant-2")

    assert secret(own, arn) == "sk-ant-2"
    assert own.described() == before


@pytest.mark.parametrize("key", ["", "two words", "line\nbreak", "sk-änt"])
def test_what_is_no_key_is_refused_before_anything_is_asked_of_aws(key: str) -> None:
    loaded = script()

    with pytest.raises(loaded.Refused, match="not a key"):
        loaded.set_key(stacks.session(), "there is no such stack", key)


def test_a_secret_that_is_the_users_own_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = "arn:aws:secretsmanager:eu-central-1:000000000000:secret:theirs-AbCdEf"
    with stacks.deployed(tmp_path, {"AnthropicKeySecretArn": theirs}) as stack:
        point_at(stack, monkeypatch)
        loaded = script()

        with pytest.raises(loaded.Refused, match=theirs):
            loaded.set_key(stacks.session(), stacks.NAME, "sk-ant-1")

        assert stack.parameters()["ModelProvider"] == "scripted"


# How it is found out


def point_at(stack: Stack, patch: pytest.MonkeyPatch) -> None:
    """Let every boto3 client of this process talk to the stack."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.setenv(name, "test")
    patch.setenv("AWS_ENDPOINT_URL", stack.endpoint)
    patch.delenv("AWS_PROFILE", raising=False)


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("set_key", template.PATH.parent / "scripts/set_key.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def secret(stack: Stack, arn: str) -> str:
    return str(stack.client("secretsmanager").get_secret_value(SecretId=arn)["SecretString"])
