"""A secret that is kept for some minutes: what is read, how often, and what a failure does."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from moto import mock_aws
from parley.adapters.secrets import MAX_AGE, RETRY_AFTER, Secret
from parley.core.errors import Unavailable

from tests.contract import backends
from tests.contract.backends import ManualClock

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

pytestmark = pytest.mark.anyio

A_MOMENT = 0.001
MINUTES = 60


@dataclass
class Vault:
    """Secrets Manager as its operator and its bill see it."""

    operator: "SecretsManagerClient"
    reads: list[str] = field(default_factory=list)
    arn: str = ""

    def __post_init__(self) -> None:
        self.arn = self.operator.create_secret(Name="key", SecretString="old")["ARN"]

    def client(self) -> "SecretsManagerClient":
        client = backends.secrets_client()
        client.meta.events.register("before-call.secrets-manager.GetSecretValue", self._count)
        return client

    def _count(self, **_: Any) -> None:
        self.reads.append(self.arn)

    def rotate(self, value: str) -> None:
        self.operator.put_secret_value(SecretId=self.arn, SecretString=value)

    def close(self) -> None:
        """Refuse to give the secret out."""
        self.operator.delete_secret(SecretId=self.arn, RecoveryWindowInDays=7)

    def open(self) -> None:
        self.operator.restore_secret(SecretId=self.arn)


@pytest.fixture
def vault() -> Iterator[Vault]:
    with mock_aws(), closing(backends.secrets_client()) as operator:
        yield Vault(operator)


@pytest.fixture
async def secret(vault: Vault, clock: ManualClock) -> AsyncIterator[Secret]:
    made = Secret(vault.arn, clock, vault.client)
    yield made
    await made.close()


async def test_the_text_comes_without_the_line_end_that_an_editor_leaves(vault: Vault, secret: Secret) -> None:
    vault.rotate("  sk-ant-1\n")

    assert await secret.read() == "sk-ant-1"


async def test_nothing_is_read_before_it_is_asked_for(vault: Vault, secret: Secret) -> None:
    assert vault.reads == []


async def test_however_often_it_is_asked_for_it_is_read_once_in_five_minutes(
    vault: Vault, secret: Secret, clock: ManualClock
) -> None:
    for _ in range(5):
        await secret.read()
        clock.advance(1 * MINUTES - 1)

    assert len(vault.reads) == 1


async def test_however_many_ask_at_once_it_is_read_once(vault: Vault, secret: Secret) -> None:
    values = await asyncio.gather(*(secret.read() for _ in range(20)))

    assert set(values) == {"old"}
    assert len(vault.reads) == 1


async def test_a_rotated_secret_counts_after_five_minutes_and_the_old_one_no_more(
    vault: Vault, secret: Secret, clock: ManualClock
) -> None:
    await secret.read()
    vault.rotate("new")

    clock.advance(5 * MINUTES - 1)
    before = await secret.read()
    clock.advance(1)
    after = await secret.read()

    assert (before, after) == ("old", "new")
    assert MAX_AGE.total_seconds() == 5 * MINUTES


async def test_who_says_that_the_value_will_not_do_gets_one_that_was_read_since(
    vault: Vault, secret: Secret, clock: ManualClock
) -> None:
    await secret.read()
    vault.rotate("new")
    clock.advance(A_MOMENT)

    values = await asyncio.gather(*(secret.read(fresh=True) for _ in range(20)))

    assert set(values) == {"new"}
    assert len(vault.reads) == 2


async def test_a_known_value_survives_a_failure_to_read_it_again(
    vault: Vault, secret: Secret, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await secret.read()
    vault.close()
    clock.advance(5 * MINUTES)

    values = [await secret.read(), await secret.read(), await secret.read()]

    assert values == ["old", "old", "old"]
    assert len(vault.reads) == 2, "a service that fails is not asked at every request"
    assert [record.message for record in caplog.records] == ["secret_not_refreshed"]
    assert "old" not in caplog.text


async def test_after_a_failure_it_is_tried_again_soon(vault: Vault, secret: Secret, clock: ManualClock) -> None:
    await secret.read()
    vault.close()
    clock.advance(5 * MINUTES)
    await secret.read()

    vault.open()
    vault.rotate("new")
    clock.advance(RETRY_AFTER.total_seconds())

    assert await secret.read() == "new"


async def test_a_secret_that_was_never_read_is_unavailable_until_it_can_be(vault: Vault, secret: Secret) -> None:
    vault.close()
    with pytest.raises(Unavailable, match="InvalidRequestException") as refused:
        await secret.read()

    vault.open()

    assert refused.value.code == "secret_unavailable"
    assert await secret.read() == "old"


async def test_a_reader_who_leaves_takes_nothing_from_the_others(vault: Vault, secret: Secret) -> None:
    leaving = asyncio.create_task(secret.read())
    staying = asyncio.create_task(secret.read())
    await asyncio.sleep(0)

    leaving.cancel()

    assert await staying == "old"


async def test_a_server_that_does_not_answer_is_unavailable(clock: ManualClock) -> None:
    address = f"http://127.0.0.1:{backends.free_port()}"
    secret = Secret("arn:aws:secretsmanager:eu-central-1:1:secret:k", clock, partial(backends.secrets_client, address))

    with pytest.raises(Unavailable, match="EndpointConnectionError"):
        await secret.read()

    await secret.close()
