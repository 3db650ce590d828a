"""The description of the API that clients are made from changes only on purpose."""

import json
from pathlib import Path

from parley.api.app import bare_app
from parley.api.routers import ROUTERS

SNAPSHOT = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_the_api_is_what_its_snapshot_says() -> None:
    described = bare_app(ROUTERS).openapi()

    assert described == json.loads(SNAPSHOT.read_text()), "if this is meant: make openapi"


def test_every_operation_has_a_summary_a_description_and_a_problem() -> None:
    operations = [operation for path in bare_app(ROUTERS).openapi()["paths"].values() for operation in path.values()]

    assert len(operations) > 10
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        assert "application/problem+json" in operation["responses"]["default"]["content"]
