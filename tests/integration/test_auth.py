"""Who gets in, and whose sessions they see; what a web page of another origin may do."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from parley import wiring
from parley.adapters.inline import InlineQueue
from parley.api.app import create_app
from parley.api.depends import States
from parley.api.problems import Problem
from parley.api.routers import ROUTERS
from parley.core.errors import Unavailable
from parley.lambda_app import http
from parley.settings import Settings, SettingsError, load
from parley.state import Principal, State
from parley.store import Ref

from tests.build import Stage, answer, said

pytestmark = pytest.mark.anyio

KEY = "k3y-of-this-deployment"
WITH_KEY = {"x-api-key": KEY}
EXECUTE = "/v1/agents/bank/execute"
PAGE = "https://console.example"
ADMIN = Principal("acme", "admin", admin=True)

Headers = dict[str, str]

broken = APIRouter()


@broken.get("/broken")
async def break_down(state: States) -> None:
    """Fail as nobody expects."""
    raise RuntimeError


@dataclass
class Deployment:
    """The whole API behind a key."""

    stage: Stage
    state: State
    asked: list[str]
    """How often the secret was read."""

    def client(self, headers: Headers | None = None, **changes: Any) -> httpx.AsyncClient:
        """Call with these headers; `changes` are other parts of the state."""
        app = create_app(replace(self.state, **changes), [*ROUTERS, broken], keyless=True)
        return client(app, headers)


def client(app: FastAPI, headers: Headers | None = None) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://parley.test", headers=headers)


@pytest.fixture
def deployment(stage: Stage) -> Deployment:
    asked: list[str] = []

    async def key() -> str:
        asked.append(KEY)
        return KEY

    queue = InlineQueue(lambda tenant, session_id: stage.runner.nudge(Ref(tenant, session_id)))
    agents = {"bank": stage.agent}
    return Deployment(stage, State(stage.store, agents, ADMIN, stage.runner, queue, admin_key=key), asked)


def routes() -> list[tuple[str, str]]:
    """Every route, and what is none: method and path."""
    mounted = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    known = [
        (method, route.path.replace("{", "").replace("}", "")) for route in mounted for method in route.methods or ()
    ]
    return [*known, ("GET", "/openapi.json"), ("GET", "/nowhere"), ("PATCH", "/v1/sessions"), ("OPTIONS", "/healthz")]


def refused(response: httpx.Response) -> str:
    """Hold a refusal to what clients read; return its words."""
    assert response.status_code == 401, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["www-authenticate"].startswith("Bearer ")
    problem = Problem.model_validate_json(response.content)
    assert (problem.status, problem.code, problem.error.type) == (401, "unauthorized", "authentication_error")
    assert response.headers["request-id"] == problem.request_id
    return problem.detail


# The key


@pytest.mark.parametrize(("method", "path"), routes())
async def test_no_route_answers_without_the_key_not_even_one_that_does_not_exist(
    deployment: Deployment, method: str, path: str
) -> None:
    told = refused(await deployment.client().request(method, path))

    assert "`x-api-key: <key>`" in told
    assert "`Authorization: Bearer <key>`" in told
    assert deployment.asked == [], "what shows no key costs nothing"


@pytest.mark.parametrize(
    "headers",
    [
        {"x-api-key": ""},
        {"x-api-key": KEY[:-1]},
        {"x-api-key": f"{KEY}."},
        {"x-api-key": KEY.upper()},
        {"authorization": KEY},
        {"authorization": f"Basic {KEY}"},
        {"authorization": "Bearer"},
        {"authorization": f"Bearer {KEY} {KEY}"},
        {"x-api-key": "wrong", "authorization": f"Bearer {KEY}"},
        {"cookie": f"x-api-key={KEY}"},
    ],
    ids=str,
)
async def test_nothing_but_the_key_opens(deployment: Deployment, headers: Headers) -> None:
    told = refused(await deployment.client(headers).get("/healthz"))

    assert KEY not in told


async def test_bytes_that_are_no_text_do_not_open(deployment: Deployment) -> None:
    response = await deployment.client().get("/healthz", headers={b"x-api-key": b"\xff\xfe"})

    refused(response)


@pytest.mark.parametrize(
    "headers",
    [
        WITH_KEY,
        {"X-Api-Key": f" {KEY} "},
        {"authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer  {KEY}"},
        {"x-api-key": "", "authorization": f"Bearer {KEY}"},
    ],
    ids=str,
)
async def test_the_key_opens_in_either_header(deployment: Deployment, headers: Headers) -> None:
    response = await deployment.client(headers).get("/healthz")

    assert response.status_code == 200


async def test_with_the_key_every_other_mistake_is_told_again(deployment: Deployment) -> None:
    caller = deployment.client(WITH_KEY)

    unknown = await caller.get("/nowhere")
    method = await caller.patch("/v1/sessions")
    body = await caller.post(EXECUTE, json={"input": ""})

    assert (unknown.status_code, method.status_code, body.status_code) == (404, 405, 422)


@pytest.mark.parametrize(
    "changes",
    [
        {"content": b"{"},
        {"content": b"{}", "headers": {"content-length": "99999999999"}},
        {"json": {"input": ""}},
        {"json": {"input": "Hi"}, "headers": {"idempotency-key": "x" * 999}},
    ],
    ids=["no JSON", "too large", "no input", "a bad header"],
)
async def test_who_has_no_key_hears_of_nothing_else(deployment: Deployment, changes: dict[str, Any]) -> None:
    refused(await deployment.client().post(EXECUTE, **changes))


@pytest.mark.parametrize("headers", [{"x-api-key": ""}, {"x-api-key": "anything"}], ids=str)
async def test_a_secret_without_a_key_opens_to_nobody(deployment: Deployment, headers: Headers) -> None:
    response = await deployment.client(headers, admin_key=failing_or("")).get("/healthz")

    refused(response)


async def test_when_the_key_cannot_be_read_nobody_gets_in_and_may_try_again(deployment: Deployment) -> None:
    caller = deployment.client(WITH_KEY, admin_key=failing_or(Unavailable("A secret cannot be read: Throttling")))

    response = await caller.get("/healthz")

    assert (response.status_code, response.json()["error"]["type"]) == (503, "overloaded_error")
    assert response.headers["retry-after"] == "1"


def failing_or(outcome: str | Unavailable) -> Callable[[], Awaitable[str]]:
    """Make a key that is read with this outcome."""

    async def key() -> str:
        if isinstance(outcome, Unavailable):
            raise outcome
        return outcome

    return key


async def test_an_app_without_a_key_is_not_built_unless_somebody_says_so(deployment: Deployment) -> None:
    keyless = replace(deployment.state, admin_key=None)

    with pytest.raises(SettingsError, match="PARLEY_ADMIN_KEY_SECRET"):
        create_app(keyless, ROUTERS)
    open_to_all = client(create_app(keyless, ROUTERS, keyless=True))

    assert (await open_to_all.get("/healthz")).status_code == 200


@pytest.mark.parametrize("wired", [wiring.reading, wiring.running])
def test_no_function_is_built_without_a_key(tmp_path: Path, wired: Callable[[Settings], State]) -> None:
    state = wired(load({"PARLEY_DATA": str(tmp_path)}))

    with pytest.raises(SettingsError, match="PARLEY_ADMIN_KEY_SECRET"):
        http.streamed(state, *ROUTERS)


# Whose sessions


async def test_an_admin_sees_everybodys_sessions_and_begins_its_own(deployment: Deployment) -> None:
    deployment.stage.plays(*(answer(said("Hello.")) for _ in range(3)))
    ann = deployment.client(WITH_KEY, principal=Principal("acme", "ann"))
    bob = deployment.client(WITH_KEY, principal=Principal("acme", "bob"))
    admin = deployment.client(WITH_KEY)

    hers = (await ann.post(EXECUTE, json={"input": "Hi", "stream": False})).json()["session_id"]
    goes_on = await admin.post(EXECUTE, json={"input": "And?", "stream": False, "session_id": hers})
    own = (await admin.post(EXECUTE, json={"input": "Hi", "stream": False})).json()["session_id"]

    assert goes_on.status_code == 200, goes_on.text
    listed = {row["id"]: row["owner"] for row in (await admin.get("/v1/sessions")).json()["data"]}
    assert listed == {hers: "ann", own: "admin"}
    for path in ("", "/events", "/messages", "/runs", f"/runs/{goes_on.json()['run_id']}"):
        assert (await admin.get(f"/v1/sessions/{hers}{path}")).status_code == 200
        assert (await bob.get(f"/v1/sessions/{hers}{path}")).status_code == 404
    assert [row["id"] for row in (await ann.get("/v1/sessions")).json()["data"]] == [hers]
    assert (await ann.get(f"/v1/sessions/{own}")).status_code == 404
    assert (await admin.delete(f"/v1/sessions/{hers}")).status_code == 200


async def test_an_admin_sees_no_other_tenant(deployment: Deployment) -> None:
    admin = deployment.client(WITH_KEY)
    stranger = deployment.client(WITH_KEY, principal=Principal("other", "admin", admin=True))
    session_id = (await admin.post("/v1/sessions", json={"agent": "bank"})).json()["id"]

    found = await stranger.get(f"/v1/sessions/{session_id}")

    assert found.status_code == 404
    assert (await stranger.get("/v1/sessions")).json()["data"] == []


# Web pages


PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type,idempotency-key,x-api-key",
}


async def test_a_browser_asks_without_a_key_and_learns_what_it_may_send(deployment: Deployment) -> None:
    caller = deployment.client(cors_origin=PAGE)

    response = await caller.options(EXECUTE, headers=PREFLIGHT)

    assert response.status_code == 200
    assert response.headers["access-control-allow-origin"] == PAGE
    assert "POST" in response.headers["access-control-allow-methods"]
    assert {"x-api-key", "idempotency-key"} <= set(response.headers["access-control-allow-headers"].split(","))
    assert deployment.asked == []


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/healthz", WITH_KEY, 200),
        ("/healthz", {}, 401),
        ("/nowhere", WITH_KEY, 404),
        ("/v1/sessions?limit=0", WITH_KEY, 422),
        ("/broken", WITH_KEY, 500),
    ],
    ids=str,
)
@pytest.mark.parametrize(("setting", "told"), [(PAGE, PAGE), ("*", "*")])
async def test_a_page_can_read_every_answer_mistakes_too(
    deployment: Deployment, path: str, headers: Headers, status: int, setting: str, told: str
) -> None:
    caller = deployment.client(headers, cors_origin=setting)

    response = await caller.get(path, headers={"origin": PAGE})

    assert response.status_code == status
    assert response.headers["access-control-allow-origin"] == told
    exposed = response.headers["access-control-expose-headers"].split(", ")
    assert {"request-id", "location", "content-location", "idempotent-replayed", "retry-after"} <= set(exposed)
    assert response.headers.get_list("request-id") == [response.headers["x-request-id"]]


async def test_a_page_of_another_origin_can_read_nothing(deployment: Deployment) -> None:
    caller = deployment.client(WITH_KEY, cors_origin=PAGE)

    asked = await caller.options(EXECUTE, headers=PREFLIGHT | {"origin": "https://elsewhere.example"})
    got = await caller.get("/healthz", headers={"origin": "https://elsewhere.example"})

    assert asked.status_code == 400
    assert got.headers.get("access-control-allow-origin") in (None, PAGE)


async def test_without_a_word_about_origins_no_page_is_let_in(deployment: Deployment) -> None:
    caller = deployment.client(WITH_KEY)

    asked = await caller.options(EXECUTE, headers=PREFLIGHT)
    got = await caller.get("/healthz", headers={"origin": PAGE})

    assert asked.status_code == 405
    assert not [name for name in (*asked.headers, *got.headers) if name.startswith("access-control-")]


# The description


async def test_the_description_tells_how_the_key_is_sent(deployment: Deployment) -> None:
    described = json.loads((await deployment.client(WITH_KEY).get("/openapi.json")).text)

    schemes = described["components"]["securitySchemes"]
    assert [next(iter(way)) for way in described["security"]] == list(schemes)
    assert {scheme["type"]: scheme.get("name", scheme.get("scheme")) for scheme in schemes.values()} == {
        "apiKey": "x-api-key",
        "http": "bearer",
    }
