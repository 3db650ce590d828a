"""One table, three times: whoever asks for `table` runs on SQLite, on moto and on each emulator at hand."""

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial

import pytest
from moto import mock_aws
from parley.adapters.dynamodb import DynamoTable
from parley.adapters.sqlite import SqliteTable
from parley.ports import Table

from tests.contract import backends
from tests.contract.backends import ManualClock

KNOWN_GAPS = {
    ("moto", "test_nesting_ends_at_32_levels"): "nests without end",
    ("moto", "test_an_empty_key_is_refused"): "lets an update do it",
    ("moto", "test_match_tells_true_from_one"): "compares as Python does",
    ("moto", "test_an_update_of_nothing_may_be_alone"): "fails without an expression",
    ("moto", "test_a_write_has_at_most_4_mb"): "has no such limit",
    ("moto", "test_an_item_has_at_most_400_kb"): "adds up sizes in its own way",
    ("moto", "test_an_update_cannot_make_an_item_larger_than_400_kb"): "has no such limit",
    ("moto", "test_a_full_page_has_a_cursor_even_when_nothing_follows"): "looks one item further",
    ("moto", "test_a_key_of_an_index_is_text_that_is_not_empty"): "lets an update do it",
    ("ministack", "test_an_update_that_names_an_attribute_twice_is_refused"): "does one after the other",
    ("ministack", "test_an_update_cannot_make_an_item_larger_than_400_kb"): "has no limit in transactions",
    ("ministack", "test_a_page_has_at_most_1_mb"): "has no such limit",
}
"""Where an emulator is not DynamoDB. Strict: a gap that has closed fails, and leaves this list."""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Start each emulator when it is first asked for; end all of them with the session."""
    running: dict[str, str] = {}
    with ExitStack() as stack:

        def start(kind: str) -> str:
            if kind not in running:
                folder = tmp_path_factory.mktemp(kind)
                running[kind] = stack.enter_context(backends.emulator(kind, folder))
            return running[kind]

        yield start


@pytest.fixture(params=["sqlite", "moto", *backends.installed_emulators()])
async def table(
    request: pytest.FixtureRequest, clock: ManualClock, endpoint: Callable[[str], str]
) -> AsyncIterator[Table]:
    kind: str = request.param
    test = request.function.__name__
    if gap := KNOWN_GAPS.get((kind, test)):
        request.applymarker(pytest.mark.xfail(strict=True, reason=gap))
    if kind == "sqlite":
        folder = request.getfixturevalue("tmp_path")
        async with SqliteTable(folder / "table.db", clock) as sqlite:
            yield sqlite
    elif kind == "moto":
        with mock_aws():
            with closing(backends.dynamodb_client()) as setup:
                backends.create_table_of_the_template(setup, "sessions")
            dynamo = DynamoTable("sessions", clock, backends.dynamodb_client)
            yield dynamo
            await dynamo.close()
    else:
        client = partial(backends.dynamodb_client, endpoint(kind))
        dynamo = DynamoTable(f"sessions-{uuid.uuid4().hex}", clock, client)
        await dynamo.create_table_if_missing()
        yield dynamo
        await dynamo.close()
