"""Images in messages, through every door and every answer."""

import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from anthropic.types.beta.sessions import BetaManagedAgentsSendSessionEvents, BetaManagedAgentsSessionEvent
from parley.core import event as e
from parley.core import image
from parley.core.limits import MAX_IMAGES
from pydantic import TypeAdapter

from tests.build import Stage, answer, event, fails, linked, picture, said
from tests.integration.gateway import EVENTS
from tests.integration.test_http import EXECUTE, SLOT, Server, frames, idle, refused
from tests.integration.test_stream import created, followed, path_of, serve

pytestmark = pytest.mark.anyio

SDK_EVENT: TypeAdapter[Any] = TypeAdapter(BetaManagedAgentsSessionEvent)
Blocks = list[dict[str, Any]]

TEXT = {"type": "text", "text": "What are these?"}
TWO: Blocks = [picture().model_dump(), linked().model_dump(), TEXT]
TWENTY: Blocks = [*(picture(200_000, seed).model_dump() for seed in range(MAX_IMAGES)), TEXT]
"""4 MB of base64."""


@pytest.fixture
async def server(stage: Stage) -> AsyncIterator[Server]:
    made = serve(stage)
    async with made.http:
        yield made


def sending(*contents: Blocks) -> dict[str, Any]:
    return {"events": [{"type": "user.message", "content": content} for content in contents]}


async def test_the_model_sees_the_images_of_an_execute(server: Server) -> None:
    server.stage.plays(answer(said("Cats.")))

    response = await server.http.post(EXECUTE, json={"input": TWO})

    assert [frame.name for frame in frames(response)][-1] == "complete"
    assert server.stage.model.messages[0] == {"role": "user", "content": TWO}


async def test_twenty_images_wait_for_their_turn_and_are_seen(server: Server) -> None:
    server.stage.plays(answer(said("Cats.")))
    session_id = await created(server)

    response = await server.http.post(path_of(session_id), json=sending(TWENTY))

    sent = BetaManagedAgentsSendSessionEvents.model_validate(response.json(), strict=True)
    assert sent.data is not None
    assert response.json()["data"][0]["content"] == TWENTY
    await idle(server, session_id)
    assert server.stage.model.messages[0] == {"role": "user", "content": TWENTY}


async def test_a_message_with_images_waits_in_its_blob_and_not_in_the_table(server: Server) -> None:
    server.stage.model.plays = []
    session_id = await created(server)
    before = len(str(server.stage.rows()))
    server.stage.runner.agents = {}

    await server.http.post(path_of(session_id), json=sending(TWENTY))

    assert len(str(server.stage.rows())) - before < 10_000


async def test_images_are_shown_wherever_the_message_is(server: Server) -> None:
    server.stage.plays(answer(said("Cats.")))
    told = await server.run("", input=TWO)
    path = f"/v1/sessions/{told['session_id']}"

    events = (await server.http.get(f"{path}/events")).json()["data"]
    messages = (await server.http.get(f"{path}/messages")).json()["data"]
    [run] = (await server.http.get(f"{path}/runs")).json()["data"]

    assert events[0]["content"] == messages[0]["content"] == told["messages"][0]["content"] == TWO
    assert SDK_EVENT.validate_json(json.dumps(events[0]), strict=True).content[1].source.type == "url"
    assert run["input"] == "What are these?"


async def test_a_run_of_images_alone_is_listed_as_such(server: Server) -> None:
    server.stage.plays(answer(said("Cats.")))
    told = await server.run("", input=TWO[:2])

    [run] = (await server.http.get(f"/v1/sessions/{told['session_id']}/runs")).json()["data"]

    assert run["input"] == "[image]"


@pytest.mark.parametrize("vocab", ["native", "simple"])
async def test_a_stream_tells_a_message_with_images_as_its_words_have_it(server: Server, vocab: str) -> None:
    server.stage.plays(answer(said("Cats.")))
    told = await server.run("", input=TWO)

    response = await followed(server, told["session_id"], vocab=vocab, until="idle", **{"from": "start"})

    said_by_people = [frame.data["content"] for frame in frames(response) if frame.name == "user.message"]
    assert said_by_people == ([TWO] if vocab == "native" else [])
    assert frames(response)[-1].name == ("session.status_idle" if vocab == "native" else "complete")


async def test_the_same_images_twice_under_one_key_are_one_message(server: Server) -> None:
    server.stage.plays(answer(said("Cats.")))
    session_id = await created(server)

    first = await server.http.post(path_of(session_id), json=sending(TWO), headers=SLOT)
    log = await idle(server, session_id)
    again = await server.http.post(path_of(session_id), json=sending(TWO), headers=SLOT)
    other = await server.http.post(path_of(session_id), json=sending(TWO[:1]), headers=SLOT)

    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    refused(other, 422, "idempotency_mismatch")
    assert len([each for each in log if isinstance(each, e.UserMessage)]) == 1


async def test_an_execute_with_images_is_replayed(server: Server) -> None:
    server.stage.plays(answer(said("Cats.")))

    first = await server.http.post(EXECUTE, json={"input": TWO, "stream": False}, headers=SLOT)
    again = await server.http.post(EXECUTE, json={"input": TWO, "stream": False}, headers=SLOT)

    assert again.json() == first.json()
    assert len(server.stage.model.requests) == 1


async def test_what_is_not_an_image_is_refused_with_its_place_and_stores_nothing(server: Server) -> None:
    session_id = await created(server)
    before = server.stage.rows()
    gif = base64.b64encode(b"GIF89a").decode()
    wrong = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": gif}}
    file = {"type": "image", "source": {"type": "file", "file_id": "file_1"}}

    for bad, why in ((wrong, "does not begin as image/png"), (file, "files cannot be uploaded")):
        executed = refused(await server.http.post(EXECUTE, json={"input": [TEXT, bad]}), 422, "invalid_input")
        sent = refused(
            await server.http.post(path_of(session_id), json=sending(TWO, [TEXT, TEXT, bad])), 422, "invalid_input"
        )

        assert executed["errors"][0]["field"].startswith("body.input.blocks.1.image.source")
        assert sent["errors"][0]["field"].startswith("body.events.1.user.message.content.2.image.source")
        assert why in executed["detail"]
        assert why in sent["detail"]
    assert server.stage.rows() == before


async def test_text_beside_images_has_the_limit_of_text(server: Server) -> None:
    session_id = await created(server)
    half = {"type": "text", "text": "x" * 500_001}
    before = server.stage.rows()

    refused(await server.http.post(EXECUTE, json={"input": [half, *TWO, half]}), 413, "too_large")
    refused(await server.http.post(path_of(session_id), json=sending(TWO, [half, half])), 413, "too_large")

    assert server.stage.rows() == before


async def test_images_that_are_more_than_a_body_may_have_are_too_large(server: Server) -> None:
    before = server.stage.rows()

    response = await server.http.post(EXECUTE, json={"input": [picture(4_000_000).model_dump()] * 3})

    refused(response, 413, "too_large")
    assert server.stage.rows() == before


async def test_an_image_that_the_model_refuses_ends_its_run_and_not_its_session(server: Server) -> None:
    server.stage.plays(fails("refused_request"), answer(said("A pity.")))
    failed = await server.run("", input=TWO)

    then = await server.run("Never mind", session_id=failed["session_id"])

    assert (failed["status"], failed["error"]["code"]) == ("error", "model_refused_request")
    assert then["status"] == "completed"
    assert [block.get("text") for block in server.stage.model.messages[0]["content"]] == [
        image.REFUSED,
        image.REFUSED,
        "What are these?",
    ]
    shown = (await server.http.get(f"/v1/sessions/{failed['session_id']}/messages")).json()["data"]
    assert shown[0]["content"] == TWO, "the log keeps what was sent"


# More than one answer may have.

LAMBDA_BYTES = 6_291_456
"""Of an invocation, and of its answer."""


@pytest.mark.parametrize(("what", "order"), [("events", "asc"), ("messages", "desc")])
@pytest.mark.parametrize(
    "content",
    [
        [picture(2_000_000).model_dump()],
        [{"type": "text", "text": "\U0001f600" * 250_000}],
        [{"type": "text", "text": '"' * 500_000}],
    ],
    ids=["images", "emoji", "quotes"],
)
async def test_a_long_list_is_cut_into_pages_that_lambda_may_answer(
    server: Server, content: Blocks, what: str, order: str
) -> None:
    ref = await server.stage.create()
    for place in range(8):
        message = event(e.UserMessage, content=content)
        await server.stage.store.log.append(ref, place, [message])

    found: Blocks = []
    sizes: list[int] = []
    more: dict[str, str] = {}
    while more or not sizes:
        params: dict[str, Any] = {"limit": 100, "order": order} | more
        response = await server.http.get(f"/v1/sessions/{ref.id}/{what}", params=params)
        sizes.append(len(json.dumps({"body": response.text}, ensure_ascii=False).encode()))
        found += response.json()["data"]
        more = {"page": page} if (page := response.json().get("next_page")) else {}

    assert max(sizes) < LAMBDA_BYTES
    assert sorted(each["seq"] for each in found) == list(range(1, 9))
    assert all(each["content"] == content for each in found)


async def test_what_came_in_through_lambda_can_be_answered_through_lambda(server: Server) -> None:
    """An image message is one row, and a page has at least one: it must be no larger than what it was sent in."""
    server.stage.plays(answer(said("Cats.")))
    session_id = await created(server)
    invocation = json.loads((EVENTS / "send_events.json").read_text())
    body = json.dumps(sending([picture(3_000_000).model_dump(), TEXT]))
    spare = LAMBDA_BYTES - len(json.dumps(invocation | {"body": body})) - 150
    body = json.dumps(sending([picture(3_000_000).model_dump(), picture(spare).model_dump(), TEXT]))
    size = len(json.dumps(invocation | {"body": body}))
    assert LAMBDA_BYTES - 1000 < size <= LAMBDA_BYTES

    sent = await server.http.post(path_of(session_id), content=body, headers={"content-type": "application/json"})
    await idle(server, session_id)
    listed = [await server.http.get(f"/v1/sessions/{session_id}/{what}") for what in ("events", "messages")]

    for response in (sent, *listed):
        answered = {"statusCode": 200, "headers": dict(response.headers), "body": response.text}
        assert response.status_code == 200
        assert len(json.dumps(answered)) < LAMBDA_BYTES


@pytest.mark.parametrize("stream", [True, False])
async def test_images_that_cannot_be_stored_are_refused_and_nothing_is_half_stored(
    server: Server, *, stream: bool
) -> None:
    session_id = await created(server)
    before = server.stage.rows()
    server.stage.blobs.broken = True

    executed = await server.http.post(EXECUTE, json={"input": TWENTY, "stream": stream}, headers=SLOT)
    sent = await server.http.post(path_of(session_id), json=sending(TWO, TWENTY), headers=SLOT)

    assert refused(executed, 503, "store_unavailable")["error"]["type"] == "overloaded_error"
    refused(sent, 503, "store_unavailable")
    assert server.stage.rows() == before
    server.stage.blobs.broken = False
    server.stage.plays(answer(said("Cats.")))
    again = await server.http.post(EXECUTE, json={"input": TWENTY, "stream": False}, headers=SLOT)
    assert again.json()["status"] == "completed"
