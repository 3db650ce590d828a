"""Claude, imported by whoever calls it first: the SDK takes 0.7 s of CPU and most functions never call a model.

A thread imports it, so that the first bytes of a stream, and heartbeats, leave meanwhile.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Protocol

from parley.adapters.claude.key import Secret
from parley.ports import Model, ModelRequest


class Closable(Model, Protocol):
    """A model with connections."""

    async def close(self) -> None:
        """Close the connections."""
        ...


class DeferredModel:
    """The model that `build` returns, built in a thread at the first call; belongs to one event loop."""

    def __init__(self, build: Callable[[], Closable]) -> None:
        self._build = build
        self._building = asyncio.Lock()
        self._model: Closable | None = None

    async def stream(self, request: ModelRequest) -> AsyncGenerator[dict[str, Any], None]:
        """Yield what the model yields.

        Raises:
            ModelError: as the model says.
        """
        async with aclosing((await self.ready()).stream(request)) as events:
            async for event in events:
                yield event

    async def ready(self) -> Model:
        """Build the model, if nobody has; a server that has the time does it before the first call."""
        if self._model is None:
            async with self._building:
                if self._model is None:
                    self._model = await asyncio.to_thread(self._build)
        return self._model

    async def close(self) -> None:
        """Close the connections, if there are any."""
        if self._model:
            await self._model.close()


def over_api(*, api_key: str | Secret, base_url: str | None = None) -> DeferredModel:
    """Claude over the Anthropic API."""

    def build() -> Closable:
        from parley.adapters.claude.api import ClaudeModel

        return ClaudeModel(api_key=api_key, base_url=base_url)

    return DeferredModel(build)


def over_bedrock(*, region: str | None = None) -> DeferredModel:
    """Claude over Amazon Bedrock."""

    def build() -> Closable:
        from parley.adapters.claude.bedrock import BedrockModel

        return BedrockModel(region=region)

    return DeferredModel(build)
