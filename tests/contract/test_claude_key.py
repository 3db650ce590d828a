"""The Anthropic key as a secret that is rotated while the process lives."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing

import pytest
from moto import mock_aws
from parley.adapters.claude import over_api
from parley.adapters.secrets import Secret
from parley.adapters.system import SystemClock
from parley.ports import Model

from tests.contract import backends
from tests.contract.provider import answer_of, endpoint, failure_of, fake_anthropic, head, hello_events, request

pytestmark = pytest.mark.anyio

REFUSED = {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}


class Provider:
    """An API that takes one key, and remembers those that it was shown."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.shown: list[str] = []

    async def answer(self, asked: bytes, _: bytes, writer: asyncio.StreamWriter) -> None:
        shown = re.search(rb"(?i)(?:x-api-key: |authorization: bearer )(\S+)", asked)
        self.shown.append(shown[1].decode() if shown else "")
        if self.shown[-1] == self.key:
            events = "".join(f"data: {json.dumps(event)}\n\n" for event in hello_events())
            writer.write(head("200 OK") + events.encode())
        else:
            writer.write(head("401 Unauthorized", "application/json") + json.dumps(REFUSED).encode())


class Vault:
    """The secret, in an operator's hands."""

    def __init__(self, key: str) -> None:
        with closing(backends.secrets_client()) as operator:
            self.arn = operator.create_secret(Name="key", SecretString=key)["ARN"]

    def rotate(self, key: str) -> None:
        with closing(backends.secrets_client()) as operator:
            operator.put_secret_value(SecretId=self.arn, SecretString=key)

    def close(self) -> None:
        with closing(backends.secrets_client()) as operator:
            operator.delete_secret(SecretId=self.arn, RecoveryWindowInDays=7)


@pytest.fixture
def vault() -> Iterator[Vault]:
    with mock_aws():
        yield Vault("key-1")


@asynccontextmanager
async def claude(vault: Vault, url: str) -> AsyncIterator[Model]:
    secret = Secret(vault.arn, SystemClock(), backends.secrets_client)
    model = over_api(api_key=secret, base_url=url)
    yield model
    await model.close()
    await secret.close()


async def test_the_model_answers_with_a_key_from_a_secret(vault: Vault) -> None:
    with fake_anthropic() as url:
        async with claude(vault, url) as model:
            answer, _ = await answer_of(model, request("[[say fine]]"))

    assert answer.blocks[-1].text == "fine"


async def test_the_key_of_the_secret_is_the_one_that_is_shown(vault: Vault) -> None:
    provider = Provider("key-1")

    async with endpoint(provider.answer) as url, claude(vault, url) as model:
        await answer_of(model, request("hello"))

    assert provider.shown == ["key-1"]


async def test_a_rotated_key_is_picked_up_by_the_call_that_is_refused(vault: Vault) -> None:
    provider = Provider("key-1")
    async with endpoint(provider.answer) as url, claude(vault, url) as model:
        await answer_of(model, request("hello"))
        provider.key = "key-2"
        vault.rotate("key-2")

        answer, _ = await answer_of(model, request("hello"))
        await answer_of(model, request("hello"))

    assert answer.stop_reason == "end_turn"
    assert provider.shown == ["key-1", "key-1", "key-2", "key-2"]


async def test_a_wrong_key_is_refused_once(vault: Vault) -> None:
    provider = Provider("another")

    async with endpoint(provider.answer) as url, claude(vault, url) as model:
        error = await failure_of(model, request("hello"))

    assert (error.failure, error.message) == ("no_access", "invalid x-api-key")
    assert provider.shown == ["key-1"]


@pytest.mark.parametrize("unset", ["not-set", " \n"])
async def test_without_a_key_it_is_said_what_to_run_and_nobody_is_asked(vault: Vault, unset: str) -> None:
    vault.rotate(unset)
    provider = Provider("")

    async with endpoint(provider.answer) as url, claude(vault, url) as model:
        error = await failure_of(model, request("hello"))

    assert (error.failure, error.retryable) == ("no_access", False)
    assert error.message == "No Anthropic key is set. Run `make set-key`."
    assert provider.shown == []


async def test_a_key_works_as_soon_as_it_is_set(vault: Vault) -> None:
    vault.rotate("not-set")
    provider = Provider("key-1")
    async with endpoint(provider.answer) as url, claude(vault, url) as model:
        await failure_of(model, request("hello"))

        vault.rotate("key-1")
        answer, _ = await answer_of(model, request("hello"))

    assert answer.stop_reason == "end_turn"


async def test_a_secret_that_cannot_be_read_may_be_tried_again(vault: Vault) -> None:
    vault.close()
    provider = Provider("key-1")

    async with endpoint(provider.answer) as url, claude(vault, url) as model:
        error = await failure_of(model, request("hello"))

    assert (error.failure, error.retryable) == ("request_failed", True)
    assert "InvalidRequestException" in error.message
    assert provider.shown == []
