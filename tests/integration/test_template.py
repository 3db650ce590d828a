"""What the template promises: every route, every role small, two functions that stream, nothing lost with the stack."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIRoute
from parley.api.routers import ROUTERS
from parley.settings import load

from tests import template
from tests.integration import gateway
from tests.integration.permissions import arns
from tests.template import Route

DOCUMENT = template.whole()
FUNCTIONS = template.functions()
BEHIND_THE_API = {name for name, function in FUNCTIONS.items() if function.routes}
STREAMING = {"execute", "stream_events"}
RUNNING_AGENTS = {"execute", "worker"}


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


def test_the_api_is_one_is_regional_and_leaves_it_to_the_app_who_may_call() -> None:
    [api] = template.resources("AWS::Serverless::Api").values()
    events = [event for each in FUNCTIONS.values() for event in each.properties.get("Events", {}).values()]
    routes = [event["Properties"] for event in events if event["Type"] == "Api"]

    assert api["EndpointConfiguration"] == {"Type": "REGIONAL"}
    assert "Auth" not in api
    assert {route["RestApiId"]["Ref"] for route in routes} == {"Api"}
    assert not [route for route in routes if "Auth" in route]


def test_the_api_is_throttled_traced_and_never_logs_a_body() -> None:
    [api] = template.resources("AWS::Serverless::Api").values()

    [methods] = api["MethodSettings"]
    assert (methods["HttpMethod"], methods["ResourcePath"], methods["DataTraceEnabled"]) == ("*", "/*", False)
    assert methods["ThrottlingRateLimit"] == {"Ref": "ThrottleRate"}
    assert methods["ThrottlingBurstLimit"] == {"Ref": "ThrottleBurst"}
    assert api["TracingEnabled"] is True
    written = api["AccessLogSetting"]["Fn::If"][1]["Format"]
    assert set(re.findall(r"\$context\.([\w.]+)", written)) == {
        *("requestId", "requestTime", "httpMethod", "resourcePath", "status", "responseLatency", "responseLength"),
        *("identity.sourceIp", "error.responseType"),
    }
    assert json.loads(written).keys() >= {"request_id", "status"}


# Functions


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_settings_take_what_the_template_gives_a_function(name: str) -> None:
    settings = load(FUNCTIONS[name].environment)

    assert (settings.store, settings.table, settings.bucket) == ("dynamodb", "Table", "Bucket")
    assert settings.provider == "scripted"


def test_only_what_runs_agents_has_the_models_and_memory_for_them() -> None:
    assert having("PARLEY_ANTHROPIC_KEY_SECRET") == RUNNING_AGENTS
    chosen = template.functions({"ModelProvider": "anthropic"})
    assert granted("secretsmanager:GetSecretValue", chosen)["AnthropicKey"] == RUNNING_AGENTS
    assert granted("secretsmanager:GetSecretValue", FUNCTIONS).keys() == {"AdminKey"}
    assert {n for n, f in FUNCTIONS.items() if f.properties["MemorySize"] == {"Ref": "MemorySize"}} == RUNNING_AGENTS


def test_only_what_outlives_a_request_has_more_than_its_time() -> None:
    seconds = {name: each.properties["Timeout"] for name, each in FUNCTIONS.items()}

    assert {name for name, timeout in seconds.items() if timeout == 900} == STREAMING | {"worker"}
    assert {name for name, timeout in seconds.items() if timeout == 29} == BEHIND_THE_API - STREAMING


def test_whoever_answers_the_api_and_nobody_else_may_read_the_admin_key() -> None:
    assert having("PARLEY_ADMIN_KEY_SECRET") == BEHIND_THE_API
    assert having("PARLEY_CORS_ORIGIN") == BEHIND_THE_API
    assert granted("secretsmanager:GetSecretValue", FUNCTIONS)["AdminKey"] == BEHIND_THE_API


def test_whoever_gives_hints_and_nobody_else_may_send_to_the_queue() -> None:
    hinting = {"execute", "api", "worker", "sweeper"}

    assert having("PARLEY_QUEUE_URL") == hinting
    assert granted("sqs:SendMessage", FUNCTIONS)["Queue.Arn"] == hinting


def test_no_secret_is_a_parameter_or_stands_in_an_environment() -> None:
    parameters = DOCUMENT["Parameters"]
    names = {name for each in FUNCTIONS.values() for name in each.environment}

    assert not [name for name, each in parameters.items() if each.get("NoEcho")]
    assert not [name for name in names if "KEY" in name and not name.endswith("_SECRET")]


def test_every_function_logs_json_into_a_group_of_its_own_that_is_not_kept_for_ever() -> None:
    groups = template.resources("AWS::Logs::LogGroup")
    used = [function.properties["LoggingConfig"]["LogGroup"]["Ref"] for function in FUNCTIONS.values()]

    assert sorted([*used, "AccessLogGroup"]) == sorted(groups)
    assert [group["RetentionInDays"] for group in groups.values()] == [{"Ref": "LogRetentionDays"}] * len(groups)
    assert DOCUMENT["Globals"]["Function"]["LoggingConfig"]["LogFormat"] == "JSON"


def test_all_share_three_layers_and_what_streams_has_one_more() -> None:
    layers = template.resources("AWS::Serverless::LayerVersion")
    own = {name: each.get("Layers") for name, each in template.resources("AWS::Serverless::Function").items()}

    assert [layer["RetentionPolicy"] for layer in layers.values()] == ["Delete"] * 4
    assert [layer["PublishLambdaVersion"] for layer in layers.values()] == [True] * 4
    shared = [each["Ref"] for each in DOCUMENT["Globals"]["Function"]["Layers"]]
    assert [*shared, "RuntimeLayer"] == list(layers)
    assert {name for name, layer in own.items() if layer} == {FUNCTIONS[name].name for name in STREAMING}
    assert all(layer == [{"Ref": "RuntimeLayer"}] for layer in own.values() if layer)
    assert having("AWS_LAMBDA_EXEC_WRAPPER") == STREAMING


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_role_has_actions_by_name_on_our_own_resources(name: str) -> None:
    statements = FUNCTIONS[name].statements

    assert statements
    assert not [action for statement in statements for action in statement["Action"] if "*" in action]
    ours = {
        "Table.Arn",
        "Table.Arn/index/list",
        "Table.Arn/index/work",
        "Table.StreamArn",
        "Bucket.Arn",
        "Bucket.Arn/*",
    }
    ours |= {"Queue.Arn", "UnsweptQueue.Arn", "AdminKey"}
    on_others = [each for each in statements if not set(arns(each)) <= ours]
    assert [each["Action"] for each in on_others] == ([["dynamodb:ListStreams"]] if name == "sweeper" else [])


def test_models_on_bedrock_are_those_of_anthropic_and_only_when_they_are_chosen() -> None:
    on_bedrock = template.functions({"ModelProvider": "bedrock"})

    calling = granted("bedrock:InvokeModelWithResponseStream", on_bedrock)
    assert set().union(*calling.values()) == RUNNING_AGENTS
    assert all("anthropic." in arn for arn in calling)
    assert not granted("bedrock:InvokeModelWithResponseStream", FUNCTIONS)
    assert granted("secretsmanager:GetSecretValue", on_bedrock).keys() == {"AdminKey"}


# Queues and events


def test_a_message_is_given_up_where_the_worker_thinks_it_is_and_not_given_twice_while_it_works() -> None:
    queues = template.resources("AWS::SQS::Queue")
    worker = FUNCTIONS["worker"]

    redrive = queues["Queue"]["RedrivePolicy"]
    assert redrive["deadLetterTargetArn"] == {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}
    assert str(redrive["maxReceiveCount"]) == worker.environment["PARLEY_QUEUE_MAX_RECEIVES"]
    assert queues["Queue"]["VisibilityTimeout"] == 6 * worker.properties["Timeout"]
    assert all(queue["SqsManagedSseEnabled"] for queue in queues.values())
    assert not [queue for queue in queues.values() if queue.get("FifoQueue")]


def test_the_worker_takes_five_messages_and_answers_for_each() -> None:
    source = template.resources("AWS::Lambda::EventSourceMapping")["WorkerSource"]

    assert source["FunctionName"] == {"Ref": "WorkerFunction"}
    assert source["EventSourceArn"] == {"Fn::GetAtt": ["Queue", "Arn"]}
    assert source["BatchSize"] == 5
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["ScalingConfig"] == {"MaximumConcurrency": {"Ref": "WorkerConcurrency"}}


def test_other_systems_events_reach_the_queue_whole_and_by_one_rule_only() -> None:
    [rule] = template.resources("AWS::Events::Rule").values()
    [policy] = template.resources("AWS::SQS::QueuePolicy").values()

    assert rule["EventPattern"] == {"detail-type": ["Parley Job"]}
    assert rule["Targets"] == [{"Id": "queue", "Arn": {"Fn::GetAtt": ["Queue", "Arn"]}}]
    [statement] = policy["PolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "events.amazonaws.com"}
    assert statement["Action"] == "sqs:SendMessage"
    assert statement["Condition"] == {"ArnEquals": {"aws:SourceArn": {"Fn::GetAtt": ["JobRule", "Arn"]}}}


def test_the_sweeper_is_called_every_minute_and_for_every_row_that_the_table_lets_expire() -> None:
    source = template.resources("AWS::Lambda::EventSourceMapping")["SweeperSource"]

    [schedule] = FUNCTIONS["sweeper"].properties["Events"].values()
    assert (schedule["Type"], schedule["Properties"]) == ("Schedule", {"Schedule": "rate(1 minute)"})
    assert FUNCTIONS["sweeper"].properties["EventInvokeConfig"]["MaximumRetryAttempts"] == 0
    [pattern] = [json.loads(each["Pattern"]) for each in source["FilterCriteria"]["Filters"]]
    assert pattern == {
        "eventName": ["REMOVE"],
        "userIdentity": {"type": ["Service"], "principalId": ["dynamodb.amazonaws.com"]},
        "dynamodb": {"Keys": {"SK": {"S": ["M"]}}},
    }
    assert source["EventSourceArn"] == {"Fn::GetAtt": ["Table", "StreamArn"]}
    assert source["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert source["BisectBatchOnFunctionError"] is True
    assert source["DestinationConfig"]["OnFailure"]["Destination"] == {"Fn::GetAtt": ["UnsweptQueue", "Arn"]}


def test_what_goes_wrong_has_an_alarm_that_can_be_told() -> None:
    alarms = template.resources("AWS::CloudWatch::Alarm")

    metrics = {metric for alarm in alarms.values() for metric in metrics_of(alarm)}
    assert metrics == {
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "DeadLetterQueue.QueueName"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "UnsweptQueue.QueueName"),
        ("Parley", "RunsFailed", "parley"),
        ("Parley", "RunsStarted", "parley"),
        ("Parley", "ModelThrottles", "parley"),
        ("AWS/Lambda", "Throttles", ""),
        ("AWS/Lambda", "Errors", "SweeperFunction"),
        ("AWS/ApiGateway", "5XXError", "AWS::StackName StageName"),
    }
    told = {"Fn::If": ["TellsOfAlarms", [{"Ref": "AlarmTopicArn"}], {"Ref": "AWS::NoValue"}]}
    assert all(alarm["AlarmActions"] == told for alarm in alarms.values())
    assert {alarm["TreatMissingData"] for alarm in alarms.values()} == {"notBreaching"}


# What is kept


def test_table_and_bucket_outlive_the_stack_and_its_keys_do_not() -> None:
    resources = DOCUMENT["Resources"]

    policies = {name: r["DeletionPolicy"] for name, r in resources.items() if "DeletionPolicy" in r}
    assert policies == {
        **dict.fromkeys(["Table", "Bucket", "GatewayAccount", "GatewayLogsRole"], "Retain"),
        **dict.fromkeys(["AdminKey", "AnthropicKey"], "Delete"),
    }
    assert {name: resources[name]["UpdateReplacePolicy"] for name in policies} == policies


def test_the_table_can_be_restored_forgets_in_time_and_is_encrypted() -> None:
    table = template.table_properties()

    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert table["TimeToLiveSpecification"] == {"AttributeName": "ttl", "Enabled": True}
    assert table["SSESpecification"] == {"SSEEnabled": True}
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert table["DeletionProtectionEnabled"] == {"Ref": "DeletionProtection"}


def test_the_tables_stream_carries_keys_and_nothing_that_was_said() -> None:
    assert template.table_properties()["StreamSpecification"] == {"StreamViewType": "KEYS_ONLY"}


def test_the_bucket_is_closed_encrypted_and_keeps_no_half_uploads() -> None:
    [bucket] = template.resources("AWS::S3::Bucket").values()

    assert set(bucket["PublicAccessBlockConfiguration"].values()) == {True}
    assert len(bucket["PublicAccessBlockConfiguration"]) == 4
    assert "ServerSideEncryptionConfiguration" in bucket["BucketEncryption"]
    assert "AbortIncompleteMultipartUpload" in bucket["LifecycleConfiguration"]["Rules"][0]


def test_the_admin_key_is_random_and_claudes_is_not_set() -> None:
    secrets = template.resources("AWS::SecretsManager::Secret")

    assert secrets["AdminKey"]["GenerateSecretString"] == {"PasswordLength": 43, "ExcludePunctuation": True}
    assert secrets["AnthropicKey"]["SecretString"] == "not-set"


# What CloudFormation gets


def test_translated_two_routes_stream_and_no_other_does() -> None:
    integrations = {route: operation["x-amazon-apigateway-integration"] for route, operation in operations()}
    streaming = {route for name in STREAMING for route in FUNCTIONS[name].routes}

    assert {route for route, each in integrations.items() if "responseTransferMode" in each} == streaming
    for route, integration in integrations.items():
        [invoked] = re.findall(r"/(\d{4}-\d\d-\d\d)/functions/\S+/([a-z-]+)$", integration["uri"]["Fn::Sub"])
        if route in streaming:
            assert invoked == ("2021-11-15", "response-streaming-invocations")
            assert (integration["responseTransferMode"], integration["timeoutInMillis"]) == ("STREAM", 900_000)
        else:
            assert invoked == ("2015-03-31", "invocations")


def test_translated_every_route_is_there_and_goes_to_the_published_version() -> None:
    integrations = {route: operation["x-amazon-apigateway-integration"] for route, operation in operations()}
    stages = [each["StageName"] for each in translated("AWS::ApiGateway::Stage").values()]

    expected = {route: each.name for each in FUNCTIONS.values() for route in each.routes}
    assert integrations.keys() == expected.keys()
    assert all(f"${{{expected[route]}Aliaslive}}" in each["uri"]["Fn::Sub"] for route, each in integrations.items())
    assert not [each for each in integrations.values() if "credentials" in each]
    assert stages == [{"Ref": "StageName"}]


def test_translated_each_function_has_a_role_of_its_own_without_wildcard_actions() -> None:
    functions = translated("AWS::Lambda::Function").values()
    roles = {name: role for name, role in translated("AWS::IAM::Role").items() if name != "GatewayLogsRole"}

    statements = [statement for role in roles.values() for statement in statements_of(role)]

    assert sorted(function["Role"]["Fn::GetAtt"][0] for function in functions) == sorted(roles)
    assert len(roles) == len(FUNCTIONS)
    assert not [action for statement in statements for action in statement["Action"] if "*" in action]
    assert {statement["Effect"] for statement in statements} == {"Allow"}


def test_translated_no_role_has_more_of_awss_own_policies_than_those_for_logs_and_traces() -> None:
    managed = [arn for role in translated("AWS::IAM::Role").values() for arn in role.get("ManagedPolicyArns", [])]

    assert {arn.rsplit("/", 1)[-1] for arn in managed if isinstance(arn, str)} == {
        "AWSLambdaBasicExecutionRole",
        "AWSXrayWriteOnlyAccess",
    }


def test_translated_functions_are_traced() -> None:
    assert all(f["TracingConfig"] == {"Mode": "Active"} for f in translated("AWS::Lambda::Function").values())


@pytest.mark.parametrize("name", sorted(BEHIND_THE_API))
def test_translated_a_versions_description_has_every_parameter_of_its_function_and_no_other(name: str) -> None:
    function = translated("AWS::Lambda::Function")[FUNCTIONS[name].name]
    [version] = [
        each
        for each in translated("AWS::Lambda::Version").values()
        if each["FunctionName"] == {"Ref": FUNCTIONS[name].name}
    ]

    of_a_version = {key: value for key, value in function.items() if key != "ReservedConcurrentExecutions"}
    assert set(parameters_in(of_a_version)) == set(parameters_in(version["Description"]))


def test_translated_a_changed_layer_publishes_new_versions_of_all_that_is_behind_the_api() -> None:
    changed = template.whole()
    changed["Resources"]["CoreLayer"]["Properties"]["ContentUri"] = "s3://bucket/changed"

    after = template.translate(changed)["Resources"]

    versions = translated("AWS::Lambda::Version").keys()
    assert len(versions) == len(BEHIND_THE_API)
    assert not versions & {name for name, each in after.items() if each["Type"] == "AWS::Lambda::Version"}


def test_translated_a_page_of_another_origin_learns_which_headers_it_may_send() -> None:
    body = rest_api()["Body"]["paths"]

    preflights = [methods["options"]["x-amazon-apigateway-integration"] for methods in body.values()]
    sent = [each["responses"]["default"]["responseParameters"] for each in preflights]
    assert len(sent) == len({route.path for each in FUNCTIONS.values() for route in each.routes})
    for headers in sent:
        assert headers["method.response.header.Access-Control-Allow-Origin"] == only_the_chosen_origin()
        assert headers["method.response.header.Access-Control-Allow-Headers"] == "'*,authorization'"


def test_translated_what_the_gateway_refuses_is_told_as_the_app_tells_it() -> None:
    responses = rest_api()["Body"]["x-amazon-apigateway-gateway-responses"]

    assert {"DEFAULT_4XX", "DEFAULT_5XX", "THROTTLED", "MISSING_AUTHENTICATION_TOKEN"} <= responses.keys()
    for response in responses.values():
        problem = json.loads(re.sub(r"\$context\.error\.messageString", '"said"', body_of(response)))
        assert str(problem.get("status", response.get("statusCode"))) == str(response.get("statusCode"))
        assert problem["type"] == f"urn:parley:problem:{problem['code']}"
        assert problem["detail"] == problem["error"]["message"]
        assert (problem["request_id"], problem["instance"]) == ("$context.requestId", "$context.path")
        assert problem.keys() >= {"title", "errors"}
        headers = response["responseParameters"]
        assert headers["gatewayresponse.header.Content-Type"] == "'application/problem+json'"
        assert headers["gatewayresponse.header.Access-Control-Allow-Origin"] == only_the_chosen_origin()
    assert responses["REQUEST_TOO_LARGE"]["statusCode"] == "413"
    assert "larger than 6 MB" in body_of(responses["REQUEST_TOO_LARGE"])
    assert responses["MISSING_AUTHENTICATION_TOKEN"]["statusCode"] == "404"
    assert '"code":"route_not_found"' in body_of(responses["MISSING_AUTHENTICATION_TOKEN"])


# How it is found out


def served_routes() -> dict[Route, str]:
    """Every route that the app has, with the name of its operation; the pages for people are the dev server's."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    found = {Route(method, route.path_format): route.name for route in routes for method in route.methods or ()}
    assert len(found) > 10
    return found | {Route("GET", "/openapi.json"): "openapi"}


def having(variable: str) -> set[str]:
    return {name for name, function in FUNCTIONS.items() if variable in function.environment}


def granted(action: str, functions: dict[str, template.Function]) -> dict[str, set[str]]:
    """Who may do it, by resource."""
    found: dict[str, set[str]] = {}
    for name, function in functions.items():
        for statement in function.statements:
            for arn in arns(statement) if action in statement["Action"] else ():
                found.setdefault(arn, set()).add(name)
    return found


def parameters_in(value: Any) -> Iterator[str]:
    """Yield the parameters that a value of the template depends on."""
    match value:
        case {"Ref": name}:
            yield from {name} & DOCUMENT["Parameters"].keys()
        case {"Fn::Sub": str(text)}:
            yield from set(re.findall(r"\$\{(\w+)\}", text)) & DOCUMENT["Parameters"].keys()
        case {"Fn::If": [condition, *branches]}:
            yield from parameters_in([DOCUMENT["Conditions"][condition], branches])
        case dict():
            yield from parameters_in(list(value.values()))
        case [str(text), dict() as more] if "${" in text:
            yield from parameters_in([{"Fn::Sub": text}, more])
        case list():
            for each in value:
                yield from parameters_in(each)
        case _:
            return


def metrics_of(alarm: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    measured = [each["MetricStat"]["Metric"] for each in alarm.get("Metrics", []) if "MetricStat" in each]
    for metric in measured or [alarm]:
        values = [each["Value"] for each in metric.get("Dimensions", [])]
        yield metric["Namespace"], metric["MetricName"], " ".join(spelled(value) for value in values)


def spelled(value: Any) -> str:
    match value:
        case {"Ref": name}:
            return str(name)
        case {"Fn::GetAtt": [name, attribute]}:
            return f"{name}.{attribute}"
        case _:
            return str(value)


def translated(kind: str) -> dict[str, dict[str, Any]]:
    resources = template.translated()["Resources"].items()
    found = {name: each["Properties"] for name, each in resources if each["Type"] == kind}
    assert found
    return found


def rest_api() -> dict[str, Any]:
    [api] = translated("AWS::ApiGateway::RestApi").values()
    return api


def operations() -> Iterator[tuple[Route, dict[str, Any]]]:
    """Yield what API Gateway serves, without the preflights that it answers itself."""
    for path, methods in rest_api()["Body"]["paths"].items():
        for method, operation in methods.items():
            if method != "options":
                yield Route(method.upper(), path), operation


def statements_of(role: dict[str, Any]) -> list[dict[str, Any]]:
    return [statement for policy in role["Policies"] for statement in policy["PolicyDocument"]["Statement"]]


def only_the_chosen_origin() -> dict[str, Any]:
    return {"Fn::If": ["AllowsOrigin", {"Fn::Sub": "'${CorsOrigin}'"}, {"Ref": "AWS::NoValue"}]}


def body_of(response: dict[str, Any]) -> str:
    return str(response["responseTemplates"]["application/json"])
