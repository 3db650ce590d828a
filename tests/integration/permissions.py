"""IAM as far as the template uses it: what a call needs, and whether a role's statements allow it.

Sources: "Actions, resources, and condition keys for Amazon DynamoDB" and "… for Amazon S3" (Service Authorization
Reference), "Using IAM with DynamoDB transactions", read 2026-11-20.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Self

_TRANSACTED = {
    "Put": "PutItem",
    "Update": "UpdateItem",
    "Delete": "DeleteItem",
    "ConditionCheck": "ConditionCheckItem",
}


@dataclass(frozen=True, slots=True)
class Need:
    """One permission: an action on a resource, in the words of the template; `pk` is what LeadingKeys looks at."""

    action: str
    resource: str
    pk: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function to AWS."""

    service: str
    operation: str
    parameters: dict[str, Any]
    function: str = ""

    @classmethod
    def of(cls, model: Any, parameters: dict[str, Any]) -> Self:
        """Take it from botocore's event `before-parameter-build`."""
        return cls(str(model.service_model.service_name), str(model.name), dict(parameters))

    def by(self, function: str) -> Self:
        """Say whose call it is."""
        return replace(self, function=function)

    def needs(self) -> Iterator[Need]:
        """Yield the permissions that it takes."""
        match self.operation, self.parameters:
            case "TransactWriteItems", {"TransactItems": items}:
                for item in items:
                    [(kind, request)] = item.items()
                    yield Need(f"dynamodb:{_TRANSACTED[kind]}", "Table.Arn", _pk(request))
            case operation, {"TableName": _, "IndexName": index} as request:
                pk = request["ExpressionAttributeValues"][":pk"]["S"]
                yield Need(f"dynamodb:{operation}", f"Table.Arn/index/{index}", pk)
            case operation, {"TableName": _} as request:
                yield Need(f"dynamodb:{operation}", "Table.Arn", _pk(request))
            case operation, {"Bucket": _, "Key": _}:
                yield Need(f"s3:{operation}", "Bucket.Arn/*")
            case "ListObjectsV2", {"Bucket": _}:
                yield Need("s3:ListBucket", "Bucket.Arn")
            case "DeleteObjects", {"Bucket": _}:
                yield Need("s3:DeleteObject", "Bucket.Arn/*")
            case operation, {"QueueUrl": _}:
                yield Need(f"sqs:{operation}", "Queue.Arn")
            case "GetSecretValue", {"SecretId": secret}:
                yield Need("secretsmanager:GetSecretValue", secret.rpartition("-")[0].rpartition("-")[2])
            case _:
                raise AssertionError(f"a call that no statement is known for: {self}")


def _pk(request: dict[str, Any]) -> str:
    for holder in ("Item", "Key"):
        if holder in request:
            return str(request[holder]["PK"]["S"])
    return str(request["ExpressionAttributeValues"][":pk"]["S"])


def allowed(need: Need, statements: Iterable[dict[str, Any]]) -> bool:
    """Say whether a statement allows it."""
    return any(
        need.action in statement["Action"]
        and need.resource in arns(statement)
        and _condition_holds(need, statement.get("Condition", {}))
        for statement in statements
        if statement["Effect"] == "Allow"
    )


def arns(statement: dict[str, Any]) -> list[str]:
    """Return a statement's resources, spelled like `Table.Arn` and `Bucket.Arn/*`."""
    found = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
    return [_arn(each) for each in found]


def _arn(value: Any) -> str:
    match value:
        case {"Fn::GetAtt": [resource, attribute]}:
            return f"{resource}.{attribute}"
        case {"Fn::Sub": str(text)}:
            return text.replace("${Table.Arn}", "Table.Arn").replace("${Bucket.Arn}", "Bucket.Arn")
        case _:
            return str(value)


def _condition_holds(need: Need, condition: dict[str, Any]) -> bool:
    keys = condition.get("ForAllValues:StringEquals", {}).get("dynamodb:LeadingKeys")
    return keys is None or any(fnmatchcase(need.pk, key) for key in keys)
