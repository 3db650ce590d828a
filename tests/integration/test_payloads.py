"""Payloads at the edges, for every operation that takes one: kept as they are, or refused and nothing of them stored.

And the other way: no answer is larger than Lambda can give, however large what it tells of.
"""

import json
from dataclasses import replace
from typing import Any

import pytest
from parley import dev
from parley.api.app import bare_app
from parley.api.problems import MAX_ERRORS
from parley.api.routers import ROUTERS
from parley.api.size import NO_IMAGE
from parley.core import event as e
from parley.core.approval import DENIED_BECAUSE
from parley.core.tool import ToolOutcome
from parley.core.value import TextBlock, text_of
from parley.settings import load
from parley.store import Ref

from tests import build
from tests.build import agent, answer, asked, linked, message, picture, said
from tests.integration.test_http import EXECUTE, Server, client, refused, server
from tests.integration.test_stream import messages, path_of, send

__all__ = ["server"]

pytestmark = pytest.mark.anyio

LAMBDA_BYTES = 6 * 1024 * 1024
JSON = {"content-type": "application/json", "idempotency-key": "key-1"}

POSTS: dict[str, bytes] = {
    EXECUTE: b'{"input": "%b"}',
    "/v1/sessions": b'{"agent": "bank", "title": "%b"}',
    "/v1/sessions/{session_id}/events": (
        b'{"events": [{"type": "user.message", "content": [{"type": "text", "text": "%b"}]}]}'
    ),
    "/v1/sessions/{session_id}": b'{"title": "%b"}',
    "/v1/sessions/{session_id}/checkpoints": b'{"name": "%b"}',
    "/v1/sessions/{session_id}/restore": b'{"checkpoint": "%b"}',
    "/v1/sessions/{session_id}/fork": b'{"title": "%b"}',
    "/v1/sessions/{session_id}/tool_calls/{event_id}/outcome": b'{"outcome": "happened", "result": "%b"}',
    "/v1/sessions/{session_id}/events/{event_id}": b'{"content": [{"type": "text", "text": "%b"}]}',
    "/v1/sessions/{session_id}/plans/{plan_id}/decision": b'{"decision": "deny", "message": "%b"}',
    "/v1/approvals/{approval_id}/decision": b'{"decision": "answer", "answer": "%b"}',
}
"""Every operation that takes a body, and a body with room for a text."""

TITLES = {"/v1/sessions", "/v1/sessions/{session_id}", "/v1/sessions/{session_id}/fork"}
NAMES = {"/v1/sessions/{session_id}/checkpoints", "/v1/sessions/{session_id}/restore"}
"""What their text is: kept as the title of a session, or a name, which has no room for any text."""


async def posted(server: Server, path: str, body: bytes) -> Any:
    """Send a body to an operation; the session is one that waits for a person's word on what the path names."""
    names = await waiting(server, path)
    server.stage.plays(answer(said()), answer(said()))
    before = server.stage.rows()
    return await server.http.post(path.format(**names), content=body, headers=JSON), before


async def waiting(server: Server, path: str) -> dict[str, str]:
    """Leave a session that waits; return the names in the path. An approval is one of a plan."""
    if "/decision" not in path:
        session_id, call_id = await server.parked()
        if path.endswith("/events/{event_id}"):
            [sent] = (await send(server, session_id, "Hi")).json()["data"]
            return {"session_id": session_id, "event_id": sent["id"]}
        return {"session_id": session_id, "event_id": call_id}
    made = await server.http.post("/v1/sessions", json={"agent": "bank", "autonomy": "L1"})
    server.stage.plays(answer(*(asked("pay", {"amount": n}) for n in (1, 2, 3))))
    told = await server.run("Pay", session_id=made.json()["id"])
    [approval_id, *_] = told["pending_approval_ids"]
    shown = (await server.http.get(f"/v1/approvals/{approval_id}")).json()
    return {"session_id": told["session_id"], "plan_id": shown["plan_id"], "approval_id": approval_id}


def test_no_operation_that_takes_a_body_is_left_out() -> None:
    taking = {
        path for path, item in bare_app(ROUTERS).openapi()["paths"].items() if "requestBody" in item.get("post", {})
    }

    assert {path.replace("bank", "{agent_id}") for path in POSTS} == taking


BAD: list[tuple[str, bytes, int, str]] = [
    ("nothing", b"", 422, "invalid_input"),
    ("half of it", b'{"', 400, "malformed"),
    ("no UTF-8", b'{"a": "\xff\xfe"}', 400, "malformed"),
    ("a list", b"[]", 422, "invalid_input"),
    ("null", b"null", 422, "invalid_input"),
    ("deep lists", b"[" * 100_000 + b"]" * 100_000, 400, "malformed"),
    ("deep objects", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400, "malformed"),
    ("more than the gateway takes", b'"' + b"x" * (10 * 1024 * 1024) + b'"', 413, "too_large"),
    ("a name by half a character", b'{"\\ud800": 1}', 422, "invalid_input"),
    ("ten thousand names", json.dumps({f"n{n}": n for n in range(10_000)}).encode(), 422, "invalid_input"),
    ("a name of a megabyte", b'{"%b": 1}' % (b"x" * 1_000_000), 422, "invalid_input"),
]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(("body", "status", "code"), [each[1:] for each in BAD], ids=[each[0] for each in BAD])
async def test_a_body_that_is_none_is_refused_in_few_words_and_leaves_no_trace(
    server: Server, path: str, body: bytes, status: int, code: str
) -> None:
    response, before = await posted(server, path, body)

    problem = refused(response, status, code)
    assert server.stage.rows() == before
    assert len(response.content) < 20_000
    assert len(problem["errors"]) <= MAX_ERRORS


TEXTS: dict[str, bytes] = {
    "NUL": b"a\\u0000b",
    "half a character": b"\\ud83d",
    "the other half": b"\\ude00",
    "a megabyte of emoji": "😀".encode() * 250_000,
    "a megabyte of NUL": b"\\u0000" * 1_000_000,
    "more than a megabyte": b"x" * 1_000_001,
    "frames": b"\\n\\nid: 9\\ndata: {}\\r\\r\\u2028",
}


@pytest.mark.parametrize("path", [path for path in POSTS if path not in NAMES])
@pytest.mark.parametrize("text", TEXTS)
async def test_any_text_is_kept_as_it_is_or_refused_without_a_trace(server: Server, path: str, text: str) -> None:
    body = POSTS[path] % TEXTS[text]

    response, before = await posted(server, path, body)
    after = server.stage.rows()

    if "half" not in text and fits_in(path, json.loads(b'"%b"' % TEXTS[text])):
        assert response.status_code == 200, response.text[:1000]
        assert after != before
        assert await is_kept(server, path, json.loads(b'"%b"' % TEXTS[text]))
    else:
        assert response.status_code in (413, 422)
        refused(response, response.status_code, response.json()["code"])
        assert len(response.content) < 20_000
        assert after == before


def fits_in(path: str, text: str) -> bool:
    """Say whether a text is short enough for an operation."""
    if path in TITLES:
        return len(text) <= 500
    return len(text) <= 64 * 1024 if path.endswith(("/outcome", "/decision")) else len(text.encode()) <= 1_000_000


async def is_kept(server: Server, path: str, text: str) -> bool:
    """Look for a text where it has to be."""
    sessions = (await server.http.get("/v1/sessions")).json()["data"]
    if path in TITLES:
        return text in [row["title"] for row in sessions]
    logs = [await server.stage.log(Ref("acme", row["id"])) for row in sessions]
    queued = [await server.stage.store.inputs.all(Ref("acme", row["id"])) for row in sessions]
    stored = [event for log in logs for event in log] + [each.message for rows in queued for each in rows]
    told = [text_of(event.content) for event in stored if isinstance(event, e.UserMessage | e.AgentToolResult)]
    return text in told or DENIED_BECAUSE + text in told


# Answers.

HEAVY = {"x": 1, "😀": 4, '"': 4, "\0": 7}
"""Characters, and the bytes that each weighs in an answer of Lambda's."""


def fits(response: Any) -> dict[str, Any]:
    """Hold an answer to what Lambda gives out: JSON with the body as a string."""
    assert response.status_code == 200, response.text[:1000]
    assert len(json.dumps(response.text, ensure_ascii=False).encode()) < LAMBDA_BYTES
    told: dict[str, Any] = response.json()
    return told


async def all_of(server: Server, path: str) -> list[dict[str, Any]]:
    """Follow a list to its end."""
    rows: list[dict[str, Any]] = []
    params: dict[str, Any] = {"limit": 100}
    while True:
        found = fits(await server.http.get(path, params=params))
        rows += found["data"]
        if not found["has_more"]:
            return rows
        params["page"] = found["next_page"]


@pytest.mark.parametrize("letter", HEAVY)
async def test_however_large_its_events_a_page_fits_and_none_is_left_out(server: Server, letter: str) -> None:
    text = letter * (1_000_000 // len(letter.encode()))
    ref = await server.stage.create(Ref("acme", "sesn_large"))
    for seq in range(5):
        await server.stage.store.log.append(ref, seq, [message(text)])

    rows = await all_of(server, path_of(ref.id))
    conversation = await all_of(server, f"/v1/sessions/{ref.id}/messages")

    assert [row["seq"] for row in rows] == [row["seq"] for row in conversation] == list(range(1, 6))
    for row in rows + conversation:
        told = row["content"][0]["text"]
        assert told == text or ("[cut: " in told and letter == "\0")


@pytest.mark.parametrize("letter", HEAVY)
async def test_one_event_that_no_answer_could_carry_is_cut_and_says_so(server: Server, letter: str) -> None:
    ref = await server.stage.create(Ref("acme", "sesn_larger"))
    await server.stage.store.log.append(ref, 0, [message(letter * (7_000_000 // HEAVY[letter])), message("small")])

    for path in (path_of(ref.id), f"/v1/sessions/{ref.id}/messages"):
        large, small = await all_of(server, path)
        assert "[cut: " in large["content"][0]["text"]
        assert len(large["content"][0]["text"]) > 100_000
        assert small["content"][0]["text"] == "small"
    streamed = await server.http.get(f"{path_of(ref.id)}/stream", params={"from": "start", "until": "idle"})
    assert "[cut: " not in streamed.text


async def test_messages_that_wait_fit_beside_a_full_page(server: Server) -> None:
    session_id, _ = await server.parked()
    text = "x" * 900_000
    ref, log = Ref("acme", session_id), server.stage.store.log
    for _ in range(8):
        await log.append(ref, await log.last_seq(ref), [message(text)])
    sent = await server.http.post(path_of(session_id), json=messages(*[text] * 8))
    more = await server.http.post(path_of(session_id), json=messages(*["\0" * 900_000]))

    assert len(fits(sent)["data"]) == 8
    assert len(fits(more)["data"]) == 1
    rows = await all_of(server, path_of(session_id))
    waiting = [row for row in rows if "seq" not in row or row["seq"] is None]
    assert len(waiting) == 9
    assert all("[cut: " in row["content"][0]["text"] for row in waiting)


async def test_an_image_that_no_answer_could_carry_is_left_out_whole_and_the_others_stay(server: Server) -> None:
    ref = await server.stage.create(Ref("acme", "sesn_seen"))
    small, text = picture(900), TextBlock(text="x" * 9_000)
    large = build.event(e.UserMessage, content=(picture(7_000_000), small, linked(), text))
    await server.stage.store.log.append(ref, 0, [large])

    for path in (path_of(ref.id), f"/v1/sessions/{ref.id}/messages"):
        [row] = await all_of(server, path)
        assert row["content"] == [
            {"type": "text", "text": NO_IMAGE},
            *(each.model_dump() for each in (small, linked(), text)),
        ]
    streamed = await server.http.get(f"{path_of(ref.id)}/stream", params={"from": "start", "until": "idle"})
    assert NO_IMAGE not in streamed.text


async def test_one_answer_of_a_run_that_said_too_much_fits(server: Server) -> None:
    many = [answer(*(asked("look") for _ in range(10))) for _ in range(3)]
    server.stage.plays(*many, answer(said('"' * 900_000)), look=ToolOutcome("ok", "\0" * 200_000))

    response = await server.http.post(EXECUTE, json={"input": "x" * 1_000_000, "stream": False})

    told = fits(response)
    assert told["status"] == "completed"
    assert len(told["messages"]) == 1 + 3 * 20 + 1
    assert "[cut: " in told["output"]


async def test_lists_of_sessions_and_runs_fit_whatever_their_agent_and_their_input(server: Server) -> None:
    verbose = agent(prompt='"' * 100_000)
    server.stage.agent = verbose
    here = client(dev.app(load({}), replace(server.state, agents={"bank": verbose})))
    heavy = {"agent": "bank", "title": "\0" * 500, "metadata": {f"{n:064}": "\0" * 512 for n in range(16)}}
    for _ in range(100):
        assert (await here.post("/v1/sessions", json=heavy)).status_code == 200

    page = fits(await here.get("/v1/sessions", params={"limit": 100}))

    assert len(page["data"]) == 100
    fits(await here.get("/v1/agents"))
