"""The table in CloudFormation's words (`AWS::DynamoDB::Table`); a test compares it with template.yaml."""

from typing import Any, Final


def _keys(pk: str, sk: str) -> list[dict[str, str]]:
    return [{"AttributeName": pk, "KeyType": "HASH"}, {"AttributeName": sk, "KeyType": "RANGE"}]


TABLE_PROPERTIES: Final[dict[str, Any]] = {
    "BillingMode": "PAY_PER_REQUEST",
    "AttributeDefinitions": [
        {"AttributeName": name, "AttributeType": "S"}
        for name in ("PK", "SK", "list_pk", "list_sk", "work_pk", "work_sk")
    ],
    "KeySchema": _keys("PK", "SK"),
    "GlobalSecondaryIndexes": [
        {
            "IndexName": index,
            "KeySchema": _keys(f"{index}_pk", f"{index}_sk"),
            "Projection": {"ProjectionType": "ALL"},
        }
        for index in ("list", "work")
    ],
    "TimeToLiveSpecification": {"AttributeName": "ttl", "Enabled": True},
}
