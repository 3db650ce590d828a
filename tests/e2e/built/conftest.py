"""What the tests of built functions share."""

from collections.abc import Iterator

import pytest

from tests.e2e.built import artifacts
from tests.e2e.built.deployment import Deployment, deployed
from tests.e2e.built.pump import Pump
from tests.e2e.emulators import cargo_lambda


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    if not cargo_lambda.COMMAND.exists():
        artifacts.do_without("needs cargo-lambda: make emulators")
    with deployed(tmp_path_factory.mktemp("built")) as deployment:
        yield deployment


@pytest.fixture
def pump(deployment: Deployment) -> Pump:
    """Poll an empty queue, when what other tests have left to do is done."""
    pump = Pump(deployment.stack, deployment.arns["Queue"])
    while pump.counted()[0]:
        pump.pump(deployment.work)
    pump.sqs.purge_queue(QueueUrl=pump.url)
    return pump
