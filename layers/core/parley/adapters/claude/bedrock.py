"""Claude over Amazon Bedrock.

The SDK does more here than over the API: it puts the model into the path, signs with the credentials that
boto3 finds, and decodes AWS's event stream. With `object` as their type its events stay parsed JSON.
"""

from collections.abc import AsyncGenerator
from typing import Any

from anthropic import AsyncAnthropicBedrock, AsyncStream, Timeout
from botocore.eventstream import ParserError
from botocore.exceptions import BotoCoreError, ClientError

from parley.adapters.claude.failures import TIMEOUT, translated
from parley.adapters.claude.request import to_object
from parley.core.errors import ModelError
from parley.ports import ModelRequest


class BedrockModel:
    """Amazon Bedrock; belongs to one event loop. The model ids of agents must be Bedrock's."""

    def __init__(self, *, region: str | None = None, base_url: str | None = None, timeout: Timeout = TIMEOUT) -> None:
        self._client = AsyncAnthropicBedrock(
            aws_region=region or None,
            base_url=base_url or None,
            max_retries=0,  # the engine retries, where the log can be seen
            timeout=timeout,
            open_telemetry=False,
        )

    async def stream(self, request: ModelRequest) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the raw stream events; closing early closes the response.

        Raises:
            ModelError: the request was refused, failed or broke off.
        """
        stream = await self._open(request)
        try:
            with translated("cut_short"):
                async with stream:
                    async for event in stream:
                        if isinstance(event, dict):
                            yield event
        except (ParserError, ValueError) as error:
            raise ModelError("cut_short", "The model's stream cannot be read.") from error

    async def _open(self, request: ModelRequest) -> AsyncStream[object]:
        try:
            with translated("request_failed"):
                return await self._client.post(
                    "/v1/messages",
                    body=to_object(request),
                    cast_to=object,
                    stream=True,
                    stream_cls=AsyncStream[object],
                )
        except (RuntimeError, BotoCoreError, ClientError) as error:  # RuntimeError is how the SDK says it
            raise ModelError("request_failed", "There are no usable AWS credentials.") from error

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
