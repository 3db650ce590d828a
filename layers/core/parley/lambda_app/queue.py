"""SQS's edge: a batch of messages, each taken at the same time; those that failed are told, and come again soon.

Source: "Implementing partial batch responses" (Lambda Developer Guide, read 2026-11-20). A failed message would stay
hidden for the queue's visibility timeout, which is longer than a run may take: its retry is set here. Powertools' batch
processor is not used: it makes an event loop for every batch, and clients live longer than that.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mangum.types import LambdaContext

from parley.core.errors import ParleyError
from parley.lambda_app import logs
from parley.lambda_app.metrics import Counted
from parley.worker import Worker

Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]
RetryLater = Callable[[str, int], Awaitable[None]]
"""Takes a message's receipt handle, and after how many seconds it shall be delivered again."""

RETRY_SECONDS = (5, 30, 120)
"""After the first, the second, and every later delivery that failed."""


def handler(worker: Worker, retry_later: RetryLater) -> Handler:
    """Take batches of the queue."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    batches = _Batches(worker, retry_later)

    def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(batches.take(event["Records"], context))

    return handle


class _Batches:
    def __init__(self, worker: Worker, retry_later: RetryLater) -> None:
        self.worker, self.retry_later = worker, retry_later
        self.logger, self.counted = logs.logger(), Counted()
        self.counted.observe(worker.runner)

    async def take(self, records: list[dict[str, Any]], context: LambdaContext) -> dict[str, Any]:
        """Take every record to its end, or as far as the time allows: then the runs are handed over."""
        logs.invocation(self.logger, context)
        runner = self.worker.runner
        deadline = runner.deadline
        deadline.is_in(context.get_remaining_time_in_millis)
        taken = [asyncio.create_task(self._take(record)) for record in records]
        late = set(taken)
        while late:  # more than once, for a run may begin at the very moment at which the time is up
            _, late = await asyncio.wait(late, timeout=max(0.1, deadline.seconds_left()))
            if late:
                await runner.close(0)
        done = await asyncio.gather(*taken)
        self.counted.flush()
        failed = [record["messageId"] for record, succeeded in zip(records, done, strict=True) if not succeeded]
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}

    async def _take(self, record: dict[str, Any]) -> bool:
        message_id, receives = record["messageId"], int(record["attributes"]["ApproximateReceiveCount"])
        keys = {"message_id": message_id, "receives": receives}
        try:
            await self.worker.take(record["body"], message_id, receives)
        except ParleyError as error:
            self.logger.warning("message_failed", code=error.code, **keys)
        except Exception:
            self.logger.exception("message_failed", **keys)
        else:
            return True
        await self.retry_later(record["receiptHandle"], RETRY_SECONDS[min(receives, len(RETRY_SECONDS)) - 1])
        return False
