"""What a function's role allows, as CloudFormation gets it, and what a recorded call takes: both with whole ARNs."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests import template
from tests.integration.permissions import Call, Need
from tests.integration.stack import Stack

ACCOUNT = "eu-central-1:000000000000"
"""Region and account of the emulator."""


def statements(function: str, arns: Mapping[str, str], conditions: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Return the statements of a function's role; of AWS's own policies, which are for logs and traces, none."""
    resources = template.translated()["Resources"]
    role = resolved(resources[f"{function}Role"]["Properties"], arns, conditions)
    documents = [policy["PolicyDocument"] for policy in role["Policies"]]
    for policy in role["ManagedPolicyArns"]:
        if policy in resources:
            documents.append(resolved(resources[policy]["Properties"]["PolicyDocument"], arns, conditions))
        else:
            assert policy.startswith("arn:aws:iam::aws:policy/"), policy
    return [statement for document in documents for statement in document["Statement"]]


def resolved(value: Any, arns: Mapping[str, str], conditions: Mapping[str, bool]) -> Any:
    """Return a part of a template with its functions done."""
    match value:
        case {"Fn::If": [condition, yes, no]}:
            return resolved(yes if conditions[condition] else no, arns, conditions)
        case {"Ref": str(name)}:
            return arns.get(name, name)
        case {"Fn::GetAtt": [name, attribute]}:
            return arns[name] if attribute == "Arn" else f"{arns[name]}.{attribute}"
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{(\w+)\.Arn\}", lambda found: arns[found[1]], text)
        case dict():
            return {key: resolved(each, arns, conditions) for key, each in value.items()}
        case list():
            return [
                resolved(each, arns, conditions) for each in value if resolved(each, arns, conditions) != "AWS::NoValue"
            ]
        case _:
            return value


def arns_of(stack: Stack) -> dict[str, str]:
    """Return the ARNs of what the functions use, by logical id."""
    queues = {name: stack.resource(name).rpartition("/")[2] for name in ("Queue", "DeadLetterQueue", "UnsweptQueue")}
    secrets = stack.client("secretsmanager")
    return {
        "Table": f"arn:aws:dynamodb:{ACCOUNT}:table/{stack.resource('Table')}",
        "Bucket": f"arn:aws:s3:::{stack.resource('Bucket')}",
        **{name: f"arn:aws:sqs:{ACCOUNT}:{queue}" for name, queue in queues.items()},
        **{
            name: secrets.describe_secret(SecretId=stack.resource(name))["ARN"] for name in ("AdminKey", "AnthropicKey")
        },
    }


def shortened(arn: str, names: Mapping[str, str]) -> str:
    """Return an ARN with the logical id in the place of what names the resource."""
    known = max((each for each in names if arn.startswith(each)), key=len, default="")
    return names.get(known, "") + arn.removeprefix(known)


def needs(call: Call) -> Iterator[Need]:
    """Yield what a call takes, its resources as it named them."""
    for need in call.needs() if call.service != "secretsmanager" else [Need(f"secretsmanager:{call.operation}", "")]:
        yield Need(need.action, _arn(call, need), need.pk)


def _arn(call: Call, need: Need) -> str:
    match call.parameters:
        case {"TransactItems": items}:
            [table] = {request["TableName"] for item in items for request in item.values()}
            return f"arn:aws:dynamodb:{ACCOUNT}:table/{table}"
        case {"TableName": table}:
            return f"arn:aws:dynamodb:{ACCOUNT}:table/{table}{need.resource.removeprefix('Table.Arn')}"
        case {"Bucket": bucket}:
            return f"arn:aws:s3:::{bucket}{need.resource.removeprefix('Bucket.Arn')}"
        case {"QueueUrl": url}:
            return f"arn:aws:sqs:{ACCOUNT}:{url.rpartition('/')[2]}"
        case {"SecretId": arn}:
            return str(arn)
        case other:
            raise AssertionError(f"a call of an unknown resource: {other}")
