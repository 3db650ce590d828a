"""The whole template as a stack: ministack plays CloudFormation, with what SAM makes of the template."""

import io
import json
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from tests import template
from tests.contract.backends import SESSION, emulator

NAME = "parley"


@dataclass(frozen=True, slots=True)
class Stack:
    """A deployed stack."""

    endpoint: str

    def client(self, service: str) -> Any:
        """Make a client of a service."""
        return SESSION.client(service, endpoint_url=self.endpoint)  # type: ignore[call-overload]  # whichever it is

    def resource(self, logical_id: str) -> str:
        """Return the physical id of a resource."""
        found = self.client("cloudformation").describe_stack_resource(StackName=NAME, LogicalResourceId=logical_id)
        return str(found["StackResourceDetail"]["PhysicalResourceId"])

    def described(self) -> dict[str, Any]:
        """Return what CloudFormation says of the stack."""
        [found] = self.client("cloudformation").describe_stacks(StackName=NAME)["Stacks"]
        return dict(found)

    def outputs(self) -> dict[str, str]:
        """Return the outputs."""
        return {each["OutputKey"]: each["OutputValue"] for each in self.described()["Outputs"]}

    def parameters(self) -> dict[str, str]:
        """Return the parameters in force."""
        return {each["ParameterKey"]: each["ParameterValue"] for each in self.described()["Parameters"]}

    def environment(self, function: str) -> dict[str, str]:
        """Return the variables of a function."""
        found = self.client("lambda").get_function_configuration(FunctionName=self.resource(function))
        return dict(found["Environment"]["Variables"])


@contextmanager
def deployed(folder: Path, parameters: Mapping[str, str] | None = None) -> Iterator[Stack]:
    """Deploy the template into an emulator of its own, for as long as the block lasts."""
    document = template.translated()
    with emulator("ministack", folder) as endpoint:
        stack = Stack(endpoint)
        _upload(stack, {"built": _code(), "template.json": json.dumps(_known(document)).encode()})
        stack.client("cloudformation").create_stack(
            StackName=NAME,
            TemplateURL=f"{endpoint}/bucket/template.json",
            Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in (parameters or {}).items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        deadline = time.monotonic() + 20
        while (status := stack.described()["StackStatus"]) == "CREATE_IN_PROGRESS" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert status == "CREATE_COMPLETE", stack.described().get("StackStatusReason")
        yield stack


def _upload(stack: Stack, objects: Mapping[str, bytes]) -> None:
    s3 = stack.client("s3")
    place = {"LocationConstraint": SESSION.region_name}
    s3.create_bucket(Bucket="bucket", CreateBucketConfiguration=place)
    for key, body in objects.items():
        s3.put_object(Bucket="bucket", Key=key, Body=body)


def _code() -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("app.py", "")
    return archive.getvalue()


def _known(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out the alarm that calculates: ministack knows no metric math."""
    resources = document["Resources"]
    kept = {name: each for name, each in resources.items() if name != "FailedRunsAlarm"}
    assert len(kept) == len(resources) - 1
    return document | {"Resources": kept}


def session() -> boto3.Session:
    """Make a session as a person's command line would; the endpoint is in the environment."""
    return boto3.Session(region_name=SESSION.region_name)
