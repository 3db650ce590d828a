"""Events of a REST API as ASGI scopes."""

import base64
import json
from collections.abc import Iterable
from email.message import Message
from http.client import HTTPMessage
from pathlib import Path
from typing import Any, cast

import pytest
from mangum.adapter import DEFAULT_TEXT_MIME_TYPES
from mangum.handlers import APIGateway
from parley_runtime.context import Context
from parley_runtime.request import body_of, is_request, scope_of

EVENTS = sorted((Path(__file__).parents[2] / "events").glob("*.json"))
PATHS = [path for path in EVENTS if "httpMethod" in json.loads(path.read_text())]


def context(**fields: str) -> Context:
    headers: Message = HTTPMessage()
    for name, value in ({"Lambda-Runtime-Aws-Request-Id": "1"} | fields).items():
        headers[name] = value
    return Context.of(cast("HTTPMessage", headers))


def recorded(name: str = "execute") -> dict[str, Any]:
    [path] = [path for path in EVENTS if path.stem == name]
    event: dict[str, Any] = json.loads(path.read_text())
    return event


def values(name: bytes, headers: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    return [value for each, value in headers if each == name]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_recorded_event_is_the_scope_and_the_body_that_mangum_makes_of_it(path: Path) -> None:
    event, told = json.loads(path.read_text()), context()
    config: Any = {"api_gateway_base_path": "/", "text_mime_types": DEFAULT_TEXT_MIME_TYPES, "exclude_headers": []}
    theirs = APIGateway(event, cast("Any", told), config)

    scope = scope_of(event, told)

    wanted = cast("dict[str, Any]", theirs.scope)
    wanted["headers"] = [(name, value) for name, value in wanted["headers"]]
    assert scope == {name: wanted[name] for name in scope}
    assert wanted.keys() - scope.keys() == {"raw_path", "server"}
    assert body_of(event) == theirs.body


def test_there_are_recorded_events() -> None:
    assert len(PATHS) > 10


def test_every_value_of_a_repeated_header_arrives_as_a_header_of_its_own() -> None:
    event = recorded()
    event["multiValueHeaders"]["X-Twice"] = ["one", "two, three"]
    event["headers"]["X-Twice"] = "two, three"

    scope = scope_of(event, context())

    assert values(b"x-twice", scope["headers"]) == [b"one", b"two, three"]


def test_cookies_that_http_2_sent_one_a_line_are_one_header() -> None:
    event = recorded()
    event["multiValueHeaders"]["cookie"] = ["a=1", "b=2; c=3"]

    scope = scope_of(event, context())

    assert values(b"cookie", scope["headers"]) == [b"a=1; b=2; c=3"]
    assert values(b"accept", scope["headers"])


def test_a_query_keeps_repeated_values_and_is_encoded_anew() -> None:
    event = recorded() | {
        "multiValueQueryStringParameters": {"type": ["user.message", "a&b=c"], "q": ["Zoë +1"]},
        "queryStringParameters": {"type": "a&b=c", "q": "Zoë +1"},
    }

    scope = scope_of(event, context())

    assert scope["query_string"] == b"type=user.message&type=a%26b%3Dc&q=Zo%C3%AB+%2B1"


def test_a_path_is_decoded_and_a_body_is_too() -> None:
    body = bytes(range(256))
    event = recorded() | {"path": "/v1/sessions/a%20b", "body": base64.b64encode(body).decode()}
    event["isBase64Encoded"] = True

    assert scope_of(event, context())["path"] == "/v1/sessions/a b"
    assert body_of(event) == body


def test_an_event_of_the_consoles_test_button_is_a_request_without_headers() -> None:
    event = recorded() | dict.fromkeys(("headers", "multiValueHeaders", "queryStringParameters", "body"))
    event["requestContext"].pop("identity")

    scope = scope_of(event, context())

    assert (scope["headers"], scope["query_string"], scope["scheme"]) == ([], b"", "https")
    assert (scope["client"], body_of(event)) == ((None, 0), b"")


def test_only_what_a_rest_api_sends_is_a_request() -> None:
    others: list[object] = [
        None,
        "ping",
        [],
        {},
        {"Records": []},
        {"source": "aws.events"},
        {"version": "2.0", "requestContext": {}},
    ]

    assert is_request(recorded())
    assert not [event for event in others if is_request(event)]


def test_a_context_says_who_is_invoked_and_how_much_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"NAME": "execute", "MEMORY_SIZE": "1769", "VERSION": "7"}.items():
        monkeypatch.setenv(f"AWS_LAMBDA_FUNCTION_{name}", value)

    over = context(**{"Lambda-Runtime-Deadline-Ms": "1577836800000"})
    told = context(**{"Lambda-Runtime-Deadline-Ms": "4102444800000"})

    assert (told.function_name, told.memory_limit_in_mb, told.function_version) == ("execute", 1769, "7")
    assert told.get_remaining_time_in_millis() > 1_000_000
    assert over.get_remaining_time_in_millis() == 0


def test_a_deadline_that_is_a_duration_counts_from_now() -> None:
    told = context(**{"Lambda-Runtime-Deadline-Ms": "600000"})

    assert 590_000 < told.get_remaining_time_in_millis() <= 600_000
