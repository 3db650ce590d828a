"""Claude over the Anthropic API, or over anything that speaks it.

The SDK makes the call: authentication, headers, proxies, TLS. The body is spliced from stored bytes and the
events are split from received ones, because the SDK's objects per event cost more than the rest of a turn.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress
from typing import Any

import httpx2
from anthropic import AsyncAnthropic, AsyncStream, AuthenticationError, DefaultAsyncHttpxClient, Timeout

from parley.adapters.claude.events import EventSplitter, parse
from parley.adapters.claude.failures import TIMEOUT, translated
from parley.adapters.claude.key import PLACEHOLDER, Secret, read_key
from parley.adapters.claude.request import to_bytes
from parley.core.errors import ModelError
from parley.ports import ModelRequest

DRAIN_SECONDS = 1.0
"""How long the end of a body may take after its last event, before its connection is given up."""


LIMITS = httpx2.Limits(max_connections=None, max_keepalive_connections=100)
"""The SDK stops at 1,000 connections, and then runs wait for each other; the provider has limits of its own."""


class ClaudeModel:
    """The Anthropic API; belongs to one event loop.

    Without a key the SDK looks for credentials where it always does. A key that is a secret is read before each call.
    """

    def __init__(
        self, *, api_key: str | Secret | None = None, base_url: str | None = None, timeout: Timeout = TIMEOUT
    ) -> None:
        given = api_key or None
        self._secret = None if given is None or isinstance(given, str) else given
        self._client = AsyncAnthropic(
            api_key=given if given is None or isinstance(given, str) else PLACEHOLDER,
            base_url=base_url or None,
            max_retries=0,  # the engine retries, where the log can be seen
            timeout=timeout,
            http_client=DefaultAsyncHttpxClient(limits=LIMITS),
            open_telemetry=False,  # its spans end when the SDK has read the stream, which it never does here
        )

    async def stream(self, request: ModelRequest) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the raw stream events; closing early closes the response.

        Raises:
            ModelError: the request was refused, failed or broke off.
        """
        stream = await self._open(request)
        with translated("cut_short"):
            async with stream:
                splitter, chunks = EventSplitter(), stream.response.aiter_bytes()
                async for chunk in chunks:
                    for data in splitter.take(chunk):
                        event = parse(data)
                        yield event
                        if event.get("type") == "message_stop":
                            await _drain(chunks)
                            return

    async def _open(self, request: ModelRequest) -> AsyncStream[object]:
        body = to_bytes(request)
        try:
            with translated("request_failed"):
                return await (self._post_with(self._secret, body) if self._secret else self._post(body))
        except TypeError as error:  # this is how the SDK says it
            raise ModelError("no_access", "There are no credentials for the Anthropic API.") from error

    async def _post_with(self, secret: Secret, body: bytes) -> AsyncStream[object]:
        """Post with the key of now; when it is refused, once more if it has been rotated meanwhile."""
        key = self._client.api_key = await read_key(secret)
        try:
            return await self._post(body)
        except AuthenticationError:
            self._client.api_key = await read_key(secret, fresh=True)
            if self._client.api_key == key:
                raise
            return await self._post(body)

    async def _post(self, body: bytes) -> AsyncStream[object]:
        return await self._client.post(
            "/v1/messages", content=body, cast_to=object, stream=True, stream_cls=AsyncStream[object]
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read to the end of the body, so that the connection serves again; how it ends no longer matters."""
    with suppress(httpx2.HTTPError, TimeoutError):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for _ in chunks:
                pass
