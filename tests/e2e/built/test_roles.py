"""What the functions asked of AWS in these tests, held against their roles as CloudFormation gets them.

The last module of its folder: it looks at what the others did, so they must have run before it, in the same process.
"""

import pytest

from tests import template
from tests.e2e.built import artifacts, roles
from tests.e2e.built.deployment import CONDITIONS, Deployment
from tests.integration.permissions import Need, allowed, arns

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.timeout(180)]  # the first one builds

FUNCTIONS = template.functions()

POLLING = "Lambda polls the queue with the worker's role"
STREAMING = "Lambda reads the table's stream with the sweeper's role"
EXPLAINED = {
    ("s3:ListBucket", "Bucket"): "makes S3 say that a blob is missing, and not that it may not be read",
    ("sqs:ReceiveMessage", "Queue"): POLLING,
    ("sqs:DeleteMessage", "Queue"): POLLING,
    ("sqs:GetQueueAttributes", "Queue"): POLLING,
    ("dynamodb:DescribeStream", "Table.StreamArn"): STREAMING,
    ("dynamodb:GetShardIterator", "Table.StreamArn"): STREAMING,
    ("dynamodb:GetRecords", "Table.StreamArn"): STREAMING,
    ("dynamodb:ListStreams", "*"): STREAMING,
    ("sqs:SendMessage", "UnsweptQueue"): "Lambda puts there what the sweeper failed at",
}
"""Grants that no call of ours needs, and why they are there."""


@pytest.fixture
def needed(deployment: Deployment) -> dict[str, set[Need]]:
    """Collect what each function needed; skips unless all of them were called."""
    found: dict[str, set[Need]] = {name: set() for name in FUNCTIONS}
    for call in deployment.recorder.calls:
        found[call.function] |= set(roles.needs(call))
    if idle := [name for name, needs in found.items() if not needs]:
        artifacts.do_without(f"run the whole folder, in one process: nobody called {idle}")
    return found


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_a_function_may_do_what_it_did(deployment: Deployment, needed: dict[str, set[Need]], function: str) -> None:
    granted = roles.statements(FUNCTIONS[function].name, deployment.arns, CONDITIONS)

    assert [need for need in needed[function] if not allowed(need, granted)] == []


def test_a_function_may_do_nothing_that_it_did_not_do_but_for_a_reason(
    deployment: Deployment, needed: dict[str, set[Need]]
) -> None:
    names = {arn: name for name, arn in deployment.arns.items()}
    unused: dict[tuple[str, str], list[str]] = {}
    for function, needs in needed.items():
        used = {(need.action, need.resource) for need in needs}
        for statement in roles.statements(FUNCTIONS[function].name, deployment.arns, CONDITIONS):
            for grant in ((action, arn) for action in statement["Action"] for arn in arns(statement)):
                if grant not in used:
                    unused.setdefault((grant[0], roles.shortened(grant[1], names)), []).append(function)

    assert {grant: functions for grant, functions in unused.items() if grant not in EXPLAINED} == {}
    assert EXPLAINED.keys() == unused.keys(), "an explanation of what is used, or not granted any more"
