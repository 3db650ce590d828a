"""What the template promises: every route and nothing open, every role small, nothing lost with the stack."""

import json
import subprocess
from typing import Any

import pytest
from fastapi.routing import APIRoute
from parley.api.routers import ROUTERS
from parley.settings import load

from tests import template
from tests.integration import gateway
from tests.integration.permissions import arns
from tests.template import Route

FUNCTIONS = template.functions()
SAM = template.PATH.parent / ".tools/sam/bin/python"
"""Where `make sam` puts the SAM command line; it cannot share an environment with ours."""

TRANSLATE = """
import boto3, json, sys, yaml
from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator
document = yaml_parse(sys.stdin.read())
for resource in document["Resources"].values():
    for name in {"CodeUri", "ContentUri"} & resource.get("Properties", {}).keys():
        resource["Properties"][name] = "s3://bucket/built"
values = {name: each.get("Default", "") for name, each in document["Parameters"].items()}
session = boto3.session.Session(region_name="eu-central-1")
print(json.dumps(Translator({}, Parser(), boto_session=session).translate(document, values)))
"""


# Routes


def test_every_route_of_the_app_is_in_the_template_and_the_reverse() -> None:
    deployed = [route for function in FUNCTIONS.values() for route in function.routes]

    assert len(deployed) == len(set(deployed))
    assert set(deployed) == served_routes().keys()


def test_every_route_has_one_recorded_event_named_after_its_operation() -> None:
    events = {name: gateway.recorded(name) for name in gateway.operations()}

    recorded = {Route(event["httpMethod"], event["resource"]): name for name, event in events.items()}

    assert len(recorded) == len(events)
    assert recorded == served_routes()


@pytest.mark.parametrize("operation", gateway.operations())
def test_a_recorded_event_is_whole(operation: str) -> None:
    event = gateway.recorded(operation)

    context = event["requestContext"]
    assert event["path"] == event["resource"].format(**(event["pathParameters"] or {}))
    assert context["path"] == f"/{context['stage']}{event['path']}"
    assert (context["resourcePath"], context["httpMethod"]) == (event["resource"], event["httpMethod"])
    assert event["multiValueHeaders"] == {name: [value] for name, value in event["headers"].items()}
    assert (event["queryStringParameters"] is None) == (event["multiValueQueryStringParameters"] is None)
    assert (event["body"] is None) == (event["httpMethod"] != "POST")
    assert {"stageVariables", "isBase64Encoded"} <= event.keys()
    assert {"accountId", "apiId", "domainName", "identity", "protocol", "requestId", "requestTime"} <= context.keys()


def test_the_api_is_one_is_regional_and_no_route_of_it_is_open() -> None:
    [api] = template.resources("AWS::Serverless::Api").values()
    events = [event for function in FUNCTIONS.values() for event in function.properties["Events"].values()]

    assert api["EndpointConfiguration"] == {"Type": "REGIONAL"}
    assert api["Auth"] == {"DefaultAuthorizer": "AWS_IAM", "InvokeRole": "NONE"}
    assert {event["Type"] for event in events} == {"Api"}
    assert {event["Properties"]["RestApiId"]["Ref"] for event in events} == {"Api"}
    assert not [event for event in events if event["Properties"].keys() - {"RestApiId", "Method", "Path"}]


# Functions


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_settings_take_what_the_template_gives_a_function(name: str) -> None:
    settings = load(FUNCTIONS[name].environment)

    assert (settings.store, settings.table, settings.bucket) == ("dynamodb", "Table", "Bucket")
    assert settings.provider == "scripted"


def test_only_what_runs_agents_has_the_key_the_models_and_the_time_for_them() -> None:
    key = {name for name, function in FUNCTIONS.items() if "ANTHROPIC_API_KEY" in function.environment}
    patient = {name for name, function in FUNCTIONS.items() if function.properties["Timeout"] > 29}
    models = {name for name, function in FUNCTIONS.items() if "ModelPolicy" in str(function.properties["Policies"])}

    assert key == patient == models == {"execute", "api"}
    assert template.whole()["Parameters"]["AnthropicApiKey"]["NoEcho"] is True


def test_every_function_logs_json_into_a_group_of_its_own_that_is_not_kept_for_ever() -> None:
    groups = template.resources("AWS::Logs::LogGroup")
    used = [function.properties["LoggingConfig"]["LogGroup"]["Ref"] for function in FUNCTIONS.values()]

    assert sorted(used) == sorted(groups)
    assert [group["RetentionInDays"] for group in groups.values()] == [{"Ref": "LogRetentionDays"}] * len(used)
    assert template.whole()["Globals"]["Function"]["LoggingConfig"]["LogFormat"] == "JSON"


def test_no_function_names_a_layer_that_all_of_them_have() -> None:
    layers = template.resources("AWS::Serverless::LayerVersion")

    assert [layer["RetentionPolicy"] for layer in layers.values()] == ["Delete"] * 3
    assert [each["Ref"] for each in template.whole()["Globals"]["Function"]["Layers"]] == list(layers)
    assert not [r for r in template.resources("AWS::Serverless::Function").values() if "Layers" in r]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_role_has_actions_by_name_on_our_table_its_indexes_and_our_bucket(name: str) -> None:
    statements = FUNCTIONS[name].statements

    assert statements
    assert not [action for statement in statements for action in statement["Action"] if "*" in action]
    assert {arn for statement in statements for arn in arns(statement)} <= {
        "Table.Arn",
        "Table.Arn/index/list",
        "Bucket.Arn",
        "Bucket.Arn/*",
    }


def test_models_on_bedrock_are_those_of_anthropic_and_only_when_they_are_chosen() -> None:
    policy = template.whole()["Resources"]["ModelPolicy"]

    [statement] = policy["Properties"]["PolicyDocument"]["Statement"]
    assert policy["Condition"] == "UsesBedrock"
    assert statement["Action"] == ["bedrock:InvokeModelWithResponseStream"]
    assert all("anthropic." in arn for arn in arns(statement))


# What is kept


def test_table_and_bucket_outlive_the_stack() -> None:
    kept = {name: r for name, r in template.whole()["Resources"].items() if r.get("DeletionPolicy") == "Retain"}

    assert {each["Type"] for each in kept.values()} == {"AWS::DynamoDB::Table", "AWS::S3::Bucket"}
    assert {each["UpdateReplacePolicy"] for each in kept.values()} == {"Retain"}


def test_the_table_can_be_restored_forgets_in_time_and_is_encrypted() -> None:
    table = template.table_properties()

    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert table["BillingMode"] == "PAY_PER_REQUEST"


def test_the_bucket_is_closed_encrypted_and_keeps_no_half_uploads() -> None:
    [bucket] = template.resources("AWS::S3::Bucket").values()

    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert "ServerSideEncryptionConfiguration" in bucket["BucketEncryption"]
    assert "AbortIncompleteMultipartUpload" in bucket["LifecycleConfiguration"]["Rules"][0]


# What CloudFormation gets


@pytest.fixture(scope="module")
def translated() -> dict[str, dict[str, Any]]:
    if not SAM.exists():
        pytest.skip("needs the SAM command line: make sam")
    done = subprocess.run(
        [SAM, "-c", TRANSLATE], input=template.PATH.read_text(), check=True, capture_output=True, text=True
    )
    resources: dict[str, dict[str, Any]] = json.loads(done.stdout)["Resources"]
    return resources


def test_translated_each_function_has_a_role_of_its_own_without_wildcard_actions(
    translated: dict[str, dict[str, Any]],
) -> None:
    roles = {name: r["Properties"] for name, r in translated.items() if r["Type"] == "AWS::IAM::Role"}
    functions = [r["Properties"] for r in translated.values() if r["Type"] == "AWS::Lambda::Function"]

    statements = [statement for role in roles.values() for statement in _statements(role)]

    assert sorted(function["Role"]["Fn::GetAtt"][0] for function in functions) == sorted(roles)
    assert len(roles) == len(FUNCTIONS)
    assert not [action for statement in statements for action in statement["Action"] if "*" in action]
    assert {statement["Effect"] for statement in statements} == {"Allow"}


def test_translated_every_route_asks_for_a_signature_and_none_for_its_callers_rights(
    translated: dict[str, dict[str, Any]],
) -> None:
    [api] = [r["Properties"] for r in translated.values() if r["Type"] == "AWS::ApiGateway::RestApi"]
    stages = [r["Properties"]["StageName"] for r in translated.values() if r["Type"] == "AWS::ApiGateway::Stage"]

    operations = {
        Route(method.upper(), path): operation
        for path, methods in api["Body"]["paths"].items()
        for method, operation in methods.items()
    }

    assert operations.keys() == {route for function in FUNCTIONS.values() for route in function.routes}
    assert all(operation["security"] == [{"AWS_IAM": []}] for operation in operations.values())
    assert not [o for o in operations.values() if "credentials" in o["x-amazon-apigateway-integration"]]
    assert stages == [{"Ref": "StageName"}]


# How it is found out


def served_routes() -> dict[Route, str]:
    """Every route that the app has, with the name of its operation; the pages for people are the dev server's."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    found = {Route(method, route.path): route.name for route in routes for method in route.methods or ()}
    assert len(found) > 10
    return found | {Route("GET", "/openapi.json"): "openapi"}


def _statements(role: dict[str, Any]) -> list[dict[str, Any]]:
    return [statement for policy in role["Policies"] for statement in policy["PolicyDocument"]["Statement"]]
