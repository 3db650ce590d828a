"""What DynamoDB may answer and no emulator does: each has one meaning, and an unknown outcome is never taken for no."""

from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest
from parley.adapters.dynamodb import DynamoTable
from parley.core.errors import TooLarge, Unavailable
from parley.ports import Absent, ConditionFailed, Key, Match, Put, Update, WriteUncertain

from tests.contract import backends
from tests.contract.backends import ManualClock
from tests.contract.endpoint import Answer, Endpoint, cancelled, refusal, serving

pytestmark = pytest.mark.anyio

A = Put({"PK": "P", "SK": "a", "n": 1}, Absent())
B = Put({"PK": "P", "SK": "b"})
STORED = {"PK": {"S": "P"}, "SK": {"S": "a"}, "body": {"B": "aGk="}}
FOUND = {"PK": "P", "SK": "a", "body": b"hi"}
EXISTS = refusal("ConditionalCheckFailedException", Item=STORED)
CONFLICT = refusal("TransactionConflictException")
THROTTLED = refusal("ProvisionedThroughputExceededException")
BROKEN = refusal("InternalServerError", status=500)
LOST = Answer(lost=True)
SLOW = Answer(slow_seconds=5)
TRIES = 5


@pytest.fixture
def dynamodb() -> Iterator[Endpoint]:
    with serving() as endpoint:
        yield endpoint


@pytest.fixture
async def table(dynamodb: Endpoint, clock: ManualClock) -> AsyncIterator[DynamoTable]:
    """A table whose client tries once."""
    dynamo = DynamoTable("sessions", clock, partial(backends.dynamodb_client, dynamodb.url, read_timeout=0.3))
    yield dynamo
    await dynamo.close()


@pytest.fixture
async def repeating(dynamodb: Endpoint, clock: ManualClock) -> AsyncIterator[DynamoTable]:
    """A table whose client, as that of a deployment, repeats a call by itself: here once."""
    retries = {"mode": "standard", "total_max_attempts": 2}
    client = partial(backends.dynamodb_client, dynamodb.url, retries=retries, read_timeout=0.3)
    dynamo = DynamoTable("sessions", clock, client)
    yield dynamo
    await dynamo.close()


# --- one op --------------------------------------------------------------------------------------------------------


async def test_a_put_is_one_plain_call(table: DynamoTable, dynamodb: Endpoint) -> None:
    await table.write(A)

    [(operation, body)] = dynamodb.calls
    assert operation == "PutItem"
    assert body == {
        "TableName": "sessions",
        "Item": {"PK": {"S": "P"}, "SK": {"S": "a"}, "n": {"N": "1"}},
        "ConditionExpression": "attribute_not_exists(PK)",
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


async def test_a_failed_condition_shows_what_is_there(table: DynamoTable, dynamodb: Endpoint) -> None:
    dynamodb.answers = [EXISTS]

    with pytest.raises(ConditionFailed) as failure:
        await table.write(A)

    assert failure.value.found == {0: FOUND}


@pytest.mark.parametrize("lost", [LOST, SLOW, BROKEN], ids=["answer lost", "no answer in time", "server error"])
async def test_a_refusal_after_a_lost_answer_says_nothing(
    repeating: DynamoTable, dynamodb: Endpoint, lost: Answer
) -> None:
    dynamodb.answers = [lost, EXISTS, EXISTS]

    with pytest.raises(WriteUncertain):
        await repeating.write(A)
    with pytest.raises(ConditionFailed) as failure:
        await repeating.write(A)

    assert failure.value.found == {0: FOUND}
    assert dynamodb.calls == [dynamodb.calls[0]] * 3


async def test_a_conflict_with_a_transaction_passes(table: DynamoTable, dynamodb: Endpoint, clock: ManualClock) -> None:
    dynamodb.answers = [CONFLICT, CONFLICT]

    await table.write(A)

    assert dynamodb.calls == [dynamodb.calls[0]] * 3
    assert len(clock.slept) == 2


async def test_a_refusal_after_a_conflict_counts(table: DynamoTable, dynamodb: Endpoint) -> None:
    dynamodb.answers = [CONFLICT, EXISTS]

    with pytest.raises(ConditionFailed):
        await table.write(A)


async def test_a_conflict_that_stays_is_uncertain(table: DynamoTable, dynamodb: Endpoint, clock: ManualClock) -> None:
    dynamodb.answers = [CONFLICT] * 20

    with pytest.raises(WriteUncertain):
        await table.write(A)

    assert len(dynamodb.calls) == TRIES
    assert 0 < sum(clock.slept) < 0.4


@pytest.mark.parametrize(
    "answer",
    [THROTTLED, refusal("ThrottlingException"), refusal("RequestLimitExceeded"), BROKEN, LOST, SLOW, Answer(503)],
    ids=["provisioned", "throttled", "request limit", "server error", "lost", "slow", "unavailable"],
)
async def test_no_clear_answer_is_uncertain(table: DynamoTable, dynamodb: Endpoint, answer: Answer) -> None:
    dynamodb.answers = [answer]

    with pytest.raises(WriteUncertain):
        await table.write(A)


@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException", "ExpiredTokenException"])
async def test_a_clear_no_is_unavailable(table: DynamoTable, dynamodb: Endpoint, code: str) -> None:
    dynamodb.answers = [refusal(code)]

    with pytest.raises(Unavailable, match=code):
        await table.write(A)


async def test_nobody_there_is_uncertain_for_a_write_and_unavailable_for_a_read(clock: ManualClock) -> None:
    address = f"http://127.0.0.1:{backends.free_port()}"
    table = DynamoTable("sessions", clock, partial(backends.dynamodb_client, address))

    with pytest.raises(WriteUncertain):
        await table.write(A)
    with pytest.raises(Unavailable):
        await table.get(A.key)

    await table.close()


# --- transactions --------------------------------------------------------------------------------------------------


async def test_more_ops_are_one_transaction(table: DynamoTable, dynamodb: Endpoint) -> None:
    check = Update(Key("P", "c"), condition=Match({"n": 1}))

    await table.write(A, Update(B.key, add={"n": 1}), check)

    [(operation, body)] = dynamodb.calls
    assert operation == "TransactWriteItems"
    assert [list(op) for op in body["TransactItems"]] == [["Put"], ["Update"], ["ConditionCheck"]]


@pytest.mark.parametrize("reason", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
async def test_a_passing_cancellation_is_repeated_with_the_same_bytes_and_token(
    table: DynamoTable, dynamodb: Endpoint, reason: str
) -> None:
    dynamodb.answers = [cancelled(reason, "None"), cancelled({"Code": "ConditionalCheckFailed"}, reason)]

    await table.write(A, B)

    assert dynamodb.calls == [dynamodb.calls[0]] * 3


async def test_a_cancellation_that_stays_is_uncertain(table: DynamoTable, dynamodb: Endpoint) -> None:
    dynamodb.answers = [cancelled("None", "TransactionConflict")] * 20

    with pytest.raises(WriteUncertain):
        await table.write(A, B)

    assert len(dynamodb.calls) == TRIES


async def test_a_cancellation_without_a_reason_is_uncertain(table: DynamoTable, dynamodb: Endpoint) -> None:
    dynamodb.answers = [cancelled("None", "None")]

    with pytest.raises(WriteUncertain):
        await table.write(A, B)


async def test_failed_conditions_are_told_by_position(table: DynamoTable, dynamodb: Endpoint) -> None:
    failed = {"Code": "ConditionalCheckFailed", "Message": "The conditional request failed"}
    dynamodb.answers = [cancelled(failed | {"Item": STORED}, "None", failed)]

    with pytest.raises(ConditionFailed) as failure:
        await table.write(A, B, Put({"PK": "P", "SK": "c"}, Match({})))

    assert failure.value.found == {0: FOUND, 2: None}


async def test_a_refused_transaction_counts_after_a_lost_answer_because_it_has_a_token(
    repeating: DynamoTable, dynamodb: Endpoint
) -> None:
    dynamodb.answers = [LOST, cancelled({"Code": "ConditionalCheckFailed"}, "None")]

    with pytest.raises(ConditionFailed):
        await repeating.write(A, B)


@pytest.mark.parametrize(
    "answers",
    [[LOST], [SLOW], [THROTTLED], [cancelled("TransactionConflict", "None")] * TRIES],
    ids=["lost", "slow", "throttled", "conflict"],
)
async def test_uncertain_ops_sent_again_keep_their_token(
    table: DynamoTable, dynamodb: Endpoint, answers: list[Answer]
) -> None:
    dynamodb.answers = list(answers)

    with pytest.raises(WriteUncertain):
        await table.write(A, B)
    await table.write(A, B)

    assert len(set(dynamodb.tokens())) == 1
    assert dynamodb.calls == [dynamodb.calls[0]] * (len(answers) + 1)


async def test_every_other_write_has_a_token_of_its_own(table: DynamoTable, dynamodb: Endpoint) -> None:
    dynamodb.answers = [Answer(), Answer(), LOST]

    await table.write(A, B)
    await table.write(A, B)
    with pytest.raises(WriteUncertain):
        await table.write(A, B)
    await table.write(B, A)
    await table.write(A, B)
    await table.write(A, B)

    first, second, lost, other, again, fresh = dynamodb.tokens()
    assert lost == again
    assert len({first, second, lost, other, fresh}) == 5


@pytest.mark.parametrize(
    "answer",
    [
        refusal("ValidationException", "Item size to update has exceeded the maximum allowed size"),
        cancelled({"Code": "ValidationError", "Message": "Item size has exceeded the maximum allowed size"}, "None"),
        refusal("ValidationException", "Collection size of items exceeded the limit: 4MB limit"),
        refusal("TransactionCanceledException", "The aggregate size of the items exceeds 4 MB"),
        cancelled({"Code": "ValidationError", "Message": "secondary index key beyond allowed size limits"}, "None"),
    ],
    ids=["item", "item in a transaction", "transaction", "transaction without reasons", "key of an index"],
)
async def test_too_much_data_is_too_large(table: DynamoTable, dynamodb: Endpoint, answer: Answer) -> None:
    dynamodb.answers = [answer]

    with pytest.raises(TooLarge):
        await table.write(A, B)


@pytest.mark.parametrize(
    "answer",
    [
        refusal("ValidationException", "Type mismatch for Index Key list_sk"),
        cancelled({"Code": "ValidationError", "Message": "Type mismatch for attribute to update"}, "None"),
    ],
    ids=["request", "op"],
)
async def test_another_invalid_request_is_a_bug(table: DynamoTable, dynamodb: Endpoint, answer: Answer) -> None:
    dynamodb.answers = [answer]

    with pytest.raises(ValueError, match="Type mismatch"):
        await table.write(A, B)


# --- reads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [BROKEN, LOST, SLOW], ids=["server error", "lost", "slow"])
async def test_a_read_is_repeated_then_unavailable(repeating: DynamoTable, dynamodb: Endpoint, answer: Answer) -> None:
    dynamodb.answers = [answer, Answer(200, {"Item": STORED}), answer, answer]

    assert await repeating.get(A.key) == FOUND
    with pytest.raises(Unavailable):
        await repeating.query("P")


@pytest.mark.parametrize("code", ["ResourceNotFoundException", "AccessDeniedException"])
async def test_a_refused_read_is_unavailable_and_says_why(table: DynamoTable, dynamodb: Endpoint, code: str) -> None:
    dynamodb.answers = [refusal(code)]

    with pytest.raises(Unavailable, match=code):
        await table.get(A.key)


async def test_reads_of_the_table_are_consistent_and_of_an_index_cannot_be(
    table: DynamoTable, dynamodb: Endpoint
) -> None:
    empty = Answer(200, {"Items": []})
    dynamodb.answers = [Answer(), empty, empty]

    await table.get(A.key)
    await table.query("P")
    await table.query("T", index="list")

    assert [body.get("ConsistentRead") for _, body in dynamodb.calls] == [True, True, None]


async def test_the_table_is_never_described(table: DynamoTable, dynamodb: Endpoint) -> None:
    dynamodb.answers = [Answer(), Answer(), refusal("ResourceInUseException")]

    await table.create_table_if_missing()
    await table.create_table_if_missing()
    await table.write(A)

    asked = [operation for operation, _ in dynamodb.calls]
    assert asked == ["CreateTable", "UpdateTimeToLive", "CreateTable", "PutItem"]
