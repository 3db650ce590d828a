"""Claude over Amazon Bedrock, against an endpoint that answers in AWS's own encoding of event streams."""

import asyncio
import base64
import binascii
import json
import re
import struct
from pathlib import Path
from typing import Any

import pytest
from parley.adapters.claude import over_bedrock
from parley.adapters.claude.bedrock import BedrockModel
from parley.core.answer import Answer
from parley.core.errors import ModelError
from parley.ports import ModelRequest

from tests.contract.provider import (
    QUOTE,
    answer_of,
    endpoint,
    failure_of,
    head,
    hello_events,
    request,
    unused_url,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def aws_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    monkeypatch.delenv("AWS_BEARER_TOKEN_BEDROCK", raising=False)


def aws_frame(payload: dict[str, Any], **headers: str) -> bytes:
    """Encode one message of `application/vnd.amazon.eventstream`: lengths, CRC, headers, payload, CRC."""
    encoded = b"".join(
        bytes([len(name)]) + name + b"\x07" + struct.pack("!H", len(value)) + value
        for name, value in ((f":{k.replace('_', '-')}".encode(), v.encode()) for k, v in headers.items())
    )
    body = json.dumps(payload).encode()
    prelude = struct.pack("!II", 16 + len(encoded) + len(body), len(encoded))
    message = prelude + struct.pack("!I", binascii.crc32(prelude)) + encoded + body
    return message + struct.pack("!I", binascii.crc32(message))


def chunk(event: dict[str, Any]) -> bytes:
    data = {"bytes": base64.b64encode(json.dumps(event).encode()).decode()}
    return aws_frame(data, event_type="chunk", content_type="application/json", message_type="event")


async def bedrock_answering(answer: bytes, asked: ModelRequest) -> tuple[Answer | ModelError, bytes, dict[str, Any]]:
    """Ask Bedrock's adapter against an endpoint that gives these bytes; return also what it was sent."""
    seen: list[tuple[bytes, bytes]] = []

    async def handle(head: bytes, body: bytes, writer: asyncio.StreamWriter) -> None:
        seen.append((head, body))
        for place in range(0, len(answer), 50):
            writer.write(answer[place : place + 50])
            await writer.drain()

    async with endpoint(handle) as url:
        model = BedrockModel(region="eu-central-1", base_url=url)
        try:
            result: Answer | ModelError = (await answer_of(model, asked))[0]
        except ModelError as error:
            result = error
        await model.close()
    return result, seen[0][0], json.loads(seen[0][1])


AWS_STREAM = head("200 OK", "application/vnd.amazon.eventstream")
ON_BEDROCK = "us.anthropic.claude-sonnet-5-5"


@pytest.mark.usefixtures("aws_keys")
async def test_bedrock_gets_its_own_shape_and_its_stream_is_decoded() -> None:
    asked = request("What is it?", model=ON_BEDROCK)

    answer, sent_head, body = await bedrock_answering(AWS_STREAM + b"".join(map(chunk, hello_events())), asked)

    assert isinstance(answer, Answer)
    assert [block.text for block in answer.blocks] == ["Hello \u00fc"]
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (3, 4)
    assert sent_head.startswith(f"POST /model/{ON_BEDROCK}/invoke-with-response-stream HTTP/1.1\r\n".encode())
    assert re.search(rb"(?i)authorization: AWS4-HMAC-SHA256 Credential=AKIATEST/", sent_head)
    assert body.pop("anthropic_version")
    assert body == {
        "max_tokens": 16_000,
        "system": [{"type": "text", "text": "You look after a wallet.", "cache_control": {"type": "ephemeral"}}],
        "thinking": {"type": "adaptive", "display": "summarized"},
        "tools": [QUOTE],
        "messages": [
            {
                "role": "user",
                "content": [{"type": "text", "text": "What is it?", "cache_control": {"type": "ephemeral"}}],
            }
        ],
    }


@pytest.mark.usefixtures("aws_keys")
async def test_a_bedrock_stream_that_is_cut_is_never_an_answer() -> None:
    whole = AWS_STREAM + b"".join(map(chunk, hello_events()))

    for cut in (len(AWS_STREAM), len(whole) - 1, len(whole) - len(chunk(hello_events()[-1]))):
        error, _, _ = await bedrock_answering(whole[:cut], request("hello", model=ON_BEDROCK))

        assert isinstance(error, ModelError)
        assert error.failure == "cut_short"


@pytest.mark.usefixtures("aws_keys")
async def test_a_bedrock_stream_that_is_damaged_is_never_an_answer() -> None:
    damaged = bytearray(AWS_STREAM + b"".join(map(chunk, hello_events())))
    damaged[len(AWS_STREAM) + 120] ^= 1

    error, _, _ = await bedrock_answering(bytes(damaged), request("hello", model=ON_BEDROCK))

    assert isinstance(error, ModelError)
    assert error.failure == "cut_short"


@pytest.mark.parametrize(
    ("exception", "failure"),
    [
        ("throttlingException", "rate_limited"),
        ("serviceUnavailableException", "overloaded"),
        ("modelStreamErrorException", "request_failed"),
        ("internalServerException", "request_failed"),
        ("validationException", "refused_request"),
    ],
)
@pytest.mark.usefixtures("aws_keys")
async def test_an_exception_in_a_bedrock_stream_is_an_error(exception: str, failure: str) -> None:
    frame = aws_frame(
        {"message": "Too much."},
        exception_type=exception,
        content_type="application/json",
        message_type="exception",
    )
    stream = AWS_STREAM + chunk(hello_events()[0]) + frame

    error, _, _ = await bedrock_answering(stream, request("hello", model=ON_BEDROCK))

    assert isinstance(error, ModelError)
    assert (error.failure, error.message) == (failure, "Too much.")


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        ("429 Too Many Requests", "rate_limited"),
        ("400 Bad Request", "refused_request"),
        ("402 Payment Required", "no_access"),
        ("403 Forbidden", "no_access"),
        ("408 Request Timeout", "request_failed"),
        ("424 Failed Dependency", "request_failed"),
        ("500 Internal Server Error", "request_failed"),
        ("503 Service Unavailable", "overloaded"),
    ],
)
@pytest.mark.usefixtures("aws_keys")
async def test_a_status_of_bedrock_is_translated_with_its_words(status: str, failure: str) -> None:
    answer = head(status, "application/json") + b'{"message": "Not now."}'

    error, _, _ = await bedrock_answering(answer, request("hello", model=ON_BEDROCK))

    assert isinstance(error, ModelError)
    assert (error.failure, error.message) == (failure, "Not now.")


async def test_bedrock_without_credentials_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_BEARER_TOKEN_BEDROCK", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("ANTHROPIC_BEDROCK_BASE_URL", await unused_url())
    model = over_bedrock(region="eu-north-1")

    error = await failure_of(model, request("hello", model=ON_BEDROCK))
    await model.close()

    assert (error.failure, error.message) == ("request_failed", "There are no usable AWS credentials.")
