"""The sweeper's edge: a tick of the schedule is a round; records of the table's stream are rows that have lapsed.

Source: "Using AWS Lambda with Amazon DynamoDB" and "… Time to Live … streams" (read 2026-11-20). The template lets
only removals of rows `M` through that DynamoDB's own expiry made.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from mangum.types import LambdaContext

from parley.core.errors import ParleyError
from parley.lambda_app import logs
from parley.lambda_app.metrics import Counted
from parley.store import Ref
from parley.sweeper import Sweeper

Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]


def handler(sweeper: Sweeper) -> Handler:
    """Do a round for every tick, and end every session whose row has lapsed."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    logger, counted = logs.logger(), Counted()

    async def expire(records: list[dict[str, Any]]) -> dict[str, Any]:
        """End sessions in the stream's order; the first that fails and all behind it come again."""
        for record in records:
            change = record["dynamodb"]
            try:
                await sweeper.expire(Ref.of(change["Keys"]["PK"]["S"]))
            except ParleyError as error:
                logger.warning("session_not_expired", code=error.code)
                return {"batchItemFailures": [{"itemIdentifier": change["SequenceNumber"]}]}
        return {"batchItemFailures": []}

    def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        logs.invocation(logger, context)
        asyncio.set_event_loop(loop)
        if "Records" in event:
            return loop.run_until_complete(expire(event["Records"]))
        counted.swept(loop.run_until_complete(sweeper.sweep()))
        counted.flush()
        return {}

    return handle
