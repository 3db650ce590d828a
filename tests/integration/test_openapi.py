"""The description of the API that clients are made from changes only on purpose."""

import json
from pathlib import Path
from typing import Any

from parley.api.app import bare_app
from parley.api.routers import ROUTERS
from parley.core.content import SAYS_SOMETHING

SNAPSHOT = Path(__file__).parents[2] / "docs" / "openapi.json"


def operations() -> list[dict[str, Any]]:
    return [operation for path in bare_app(ROUTERS).openapi()["paths"].values() for operation in path.values()]


def test_the_api_is_what_its_snapshot_says() -> None:
    described = bare_app(ROUTERS).openapi()

    assert described == json.loads(SNAPSHOT.read_text()), "if this is meant: make openapi"


def test_every_operation_has_a_summary_a_description_and_a_problem() -> None:
    assert len(operations()) > 10
    for operation in operations():
        assert operation["summary"]
        assert operation["description"]
        assert "application/problem+json" in operation["responses"]["default"]["content"]


def test_no_parameter_says_that_it_may_be_null() -> None:
    """A query or a header is text: a generated client that sends `null` sends the word."""
    parameters = [parameter for operation in operations() for parameter in operation.get("parameters", ())]

    assert len(parameters) > 30
    assert not [parameter["name"] for parameter in parameters if "null" in json.dumps(parameter["schema"])]


def test_what_is_refused_for_its_value_alone_is_said_to_be_refused() -> None:
    schemas = bare_app(ROUTERS).openapi()["components"]["schemas"]
    keys = [
        parameter["schema"]
        for operation in operations()
        for parameter in operation.get("parameters", ())
        if parameter["name"] == "idempotency-key"
    ]

    assert {(key["minLength"], key["maxLength"]) for key in keys} == {(1, 255)}
    for name in ("initial_events", "resources", "vault_ids"):
        field = schemas["CreateSession"]["properties"][name]
        assert (field["maxItems"], field["maxProperties"]) == (0, 0)
    assert schemas["Execute"]["then"] == {"properties": {"metadata": {"maxProperties": 0}}}
    assert schemas["Execute"]["properties"]["input"]["oneOf"][0]["pattern"] == SAYS_SOMETHING
    said = schemas["MessageInput"]["properties"]["content"]["contains"]
    assert said == {"properties": {"text": {"pattern": SAYS_SOMETHING}}}
    assert schemas["Outcome"]["else"] == {"properties": {"result": {"type": "null"}}}
