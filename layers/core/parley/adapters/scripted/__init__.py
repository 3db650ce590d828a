"""A `Model` without a model: it behaves like the API and drives an agent's tools from plain words.

For demos and tests, so it is stateless and deterministic: the same request always gives the same answer. It
reads the conversation (`conversation`), finds tools in its words (`words`) and their arguments (`values`),
decides what to say (`reply`), and says it in the API's stream events (`wire`).
"""

from collections.abc import AsyncGenerator
from typing import Any

from parley.adapters.scripted.conversation import read, summarise
from parley.adapters.scripted.reply import Reply, decide
from parley.adapters.scripted.wire import events
from parley.adapters.scripted.words import offers
from parley.core.compaction import asks_for_summary
from parley.ports import Clock, ModelRequest


class ScriptedModel:
    """Answers in words, `delay_seconds` apart."""

    def __init__(self, clock: Clock, delay_seconds: float = 0.02) -> None:
        self._clock = clock
        self._delay_seconds = delay_seconds

    async def stream(self, request: ModelRequest) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the stream events of one answer."""
        for event in events(_reply(request), request):
            if event["type"] == "content_block_delta" and self._delay_seconds > 0:
                await self._clock.sleep(self._delay_seconds)
            yield event


def _reply(request: ModelRequest) -> Reply:
    *before, last = request.messages
    if asks_for_summary(last):
        return Reply("This has become long.", summarise(read(before)))
    return decide(read(request.messages), offers(request.tools))
