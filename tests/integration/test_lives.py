"""Suspend, archive, update, checkpoints, forks and the audit, over HTTP."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from anthropic.types.beta import BetaManagedAgentsSession
from parley import dev
from parley.adapters.inline import InlineQueue
from parley.core import control as c
from parley.core import event as e
from parley.core.policy import Policy
from parley.core.restore import SET_BACK
from parley.core.tool import ToolContext, ToolOutcome
from parley.settings import load
from parley.state import Principal, State
from parley.store import Ref

from tests.build import Stage, answer, asked, only, said, types
from tests.fakes.toolbox import Play
from tests.integration.test_http import EXECUTE, SLOT, Server, client, frames, idle, refused
from tests.integration.test_stream import eventually, serve

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server(stage: Stage) -> AsyncIterator[Server]:
    queue = InlineQueue(lambda tenant, session_id: stage.runner.nudge(Ref(tenant, session_id)))
    state = State(stage.store, {"bank": stage.agent}, Principal("acme", "ann"), stage.runner, queue)
    app = dev.app(load({}), state)
    async with client(app) as http:
        yield Server(stage, state, app, http)


async def make(server: Server, **body: Any) -> str:
    made = await server.http.post("/v1/sessions", json={"agent": "bank"} | body)
    assert made.status_code == 200, made.text
    return str(made.json()["id"])


async def post(server: Server, session_id: str, what: str = "", **body: Any) -> dict[str, Any]:
    answered = await server.http.post(f"/v1/sessions/{session_id}{what}", json=body)
    assert answered.status_code == 200, answered.text
    told: dict[str, Any] = answered.json()
    return told


async def get(server: Server, path: str, **params: Any) -> dict[str, Any]:
    answered = await server.http.get(path, params=params)
    assert answered.status_code == 200, answered.text
    told: dict[str, Any] = answered.json()
    return told


async def talked(server: Server, *texts: str) -> str:
    """Leave a session with these messages and an answer to each."""
    session_id = await make(server, title="Rent")
    for text in texts:
        server.stage.plays(answer(said(f"{text}!")))
        await server.run(text, session_id=session_id)
    return session_id


def suspending(server: Server, session_id: str) -> Play:
    """Make a tool while which works its session is suspended."""

    async def work(arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        await post(server, session_id, "/suspend")
        return ToolOutcome("ok", "seen")

    return work


# Suspend and resume.


async def test_a_suspended_session_lets_messages_wait_and_goes_on_when_it_is_resumed(server: Server) -> None:
    session_id = await make(server)
    hello = {"type": "user.message", "content": [{"type": "text", "text": "Hi"}]}

    held = await post(server, session_id, "/suspend")
    executed = await server.http.post(EXECUTE, json={"input": "Hi", "session_id": session_id})
    await post(server, session_id, "/events", events=[hello])
    waiting = await get(server, f"/v1/sessions/{session_id}")
    server.stage.plays(answer(said("Hello")))
    resumed = await post(server, session_id, "/resume")
    log = await idle(server, session_id)

    assert (held["state"], held["status"], held["run_status"]) == ("suspended", "idle", None)
    assert "…/resume" in refused(executed, 409, "session_suspended")["detail"]
    assert (waiting["state"], waiting["status"]) == ("suspended", "idle")
    assert resumed["state"] != "suspended"
    assert types(log)[:3] == ["session.suspended", "session.resumed", "user.message"]


async def test_again_is_the_same_answer_and_stores_nothing(server: Server) -> None:
    session_id = await make(server)

    first = await post(server, session_id, "/suspend")
    again = await post(server, session_id, "/suspend")
    await post(server, session_id, "/resume")
    await post(server, session_id, "/resume")

    assert first == again
    assert types(await server.stage.log(Ref("acme", session_id))) == ["session.suspended", "session.resumed"]


async def test_a_paused_run_is_told_as_suspended_and_names_no_call(server: Server) -> None:
    session_id = await make(server)
    server.stage.plays(answer(asked("look")), look=suspending(server, session_id))

    told = await server.run("Look", session_id=session_id)

    assert (told["status"], told["stop_reason"]) == ("suspended", "requires_action")
    assert "pending_tool_call_ids" not in told
    shown = await get(server, f"/v1/sessions/{session_id}")
    assert (shown["state"], shown["run_status"]) == ("suspended", None)
    server.stage.plays(answer(said("Seen.")))
    await post(server, session_id, "/resume")
    [done] = only(e.RunFinished, await idle(server, session_id))
    assert done.status == "completed"


# Archive.


async def test_an_archived_session_is_read_and_not_written(server: Server) -> None:
    session_id = await talked(server, "One")
    path = f"/v1/sessions/{session_id}"

    archived = await post(server, session_id, "/archive")
    again = await post(server, session_id, "/archive")

    assert archived == again
    assert (archived["status"], archived["state"]) == ("terminated", "completed")
    assert archived["archived_at"] == archived["updated_at"]
    BetaManagedAgentsSession.model_validate(archived)
    hello = {"type": "user.message", "content": [{"type": "text", "text": "Hi"}]}
    for what, body in {
        "/events": {"events": [hello]},
        "/suspend": {},
        "/resume": {},
        "": {"title": "More"},
        "/checkpoints": {"name": "late"},
        "/restore": {"seq": 1},
        "/tool_calls/sevt_1/outcome": {"outcome": "retry"},
    }.items():
        refused(await server.http.post(path + what, json=body), 409, "session_archived")
    refused(await server.http.post(EXECUTE, json={"input": "Hi", "session_id": session_id}), 409, "session_archived")
    for read in ("", "/events", "/messages", "/runs", "/checkpoints"):
        await get(server, path + read)
    assert (await server.http.delete(path)).status_code == 200


async def test_a_message_that_comes_while_a_session_is_archived_is_refused_as_behind_it(server: Server) -> None:
    session_id = await make(server)
    hello = {"type": "user.message", "content": [{"type": "text", "text": "Hi"}]}
    other = serve(server.stage.another())
    server.stage.table.before_next(lambda: other.http.post(f"/v1/sessions/{session_id}/archive"))

    response = await server.http.post(f"/v1/sessions/{session_id}/events", json={"events": [hello]})

    refused(response, 409, "session_archived")


async def test_lists_leave_archived_sessions_out_unless_they_are_asked_for(server: Server) -> None:
    kept, archived = await make(server), await make(server)
    await post(server, archived, "/archive")

    listed = await get(server, "/v1/sessions")
    all_of_them = await get(server, "/v1/sessions", include_archived="true")
    ended = await get(server, "/v1/sessions", include_archived="true", status="terminated")

    assert [each["id"] for each in listed["data"]] == [kept]
    assert {each["id"] for each in all_of_them["data"]} == {kept, archived}
    assert [each["id"] for each in ended["data"]] == [archived]


async def test_a_session_that_is_busy_is_not_archived(server: Server) -> None:
    session_id, _ = await server.parked()

    problem = refused(await server.http.post(f"/v1/sessions/{session_id}/archive"), 409, "session_busy")

    assert "waits for a person" in problem["detail"]


# Update.


async def test_title_metadata_and_autonomy_are_changed_and_told(server: Server) -> None:
    session_id = await make(server, title="Rent", metadata={"of": "May", "due": "soon"})

    changed = await post(server, session_id, title="Rent of May", metadata={"due": None, "paid": "no"}, autonomy="L1")
    cleared = await post(server, session_id, title=None)

    assert (changed["title"], changed["metadata"]) == ("Rent of May", {"of": "May", "paid": "no"})
    assert changed["autonomy"] == "L1"
    assert (cleared["title"], cleared["metadata"], cleared["autonomy"]) == (None, changed["metadata"], "L1")
    assert cleared == await get(server, f"/v1/sessions/{session_id}")
    events = (await get(server, f"/v1/sessions/{session_id}/events"))["data"]
    assert [each["type"] for each in events] == ["session.updated"] * 2
    assert [{"title", "metadata", "autonomy"} & each.keys() for each in events] == [
        {"title", "metadata", "autonomy"},
        {"title"},
    ]
    assert events[1]["title"] == ""


@pytest.mark.parametrize(
    "body",
    [{"titel": "x"}, {"metadata": {"n": 1}}, {"autonomy": "L9"}, {"title": "x" * 501}, {"metadata": {"": "x"}}],
    ids=str,
)
async def test_what_is_no_change_is_refused(server: Server, body: dict[str, Any]) -> None:
    session_id = await make(server)

    refused(await server.http.post(f"/v1/sessions/{session_id}", json=body), 422, "invalid_input")


async def test_a_session_shows_the_level_that_counts(server: Server) -> None:
    careful = replace(server.state, agents={"bank": replace_policy(server)})
    own, agents = await make(server, autonomy="L0"), await make(server)

    async with client(dev.app(load({}), careful)) as http:
        shown = [(await http.get(f"/v1/sessions/{each}")).json()["autonomy"] for each in (own, agents)]

    assert shown == ["L0", "L2"]
    assert types(await server.stage.log(Ref("acme", own))) == ["session.updated"]
    assert (await server.stage.session(Ref("acme", own))).autonomy == "L0"
    assert await server.stage.log(Ref("acme", agents)) == []


def replace_policy(server: Server) -> Any:
    return server.stage.agent.model_copy(update={"policy": Policy(autonomy="L2")})


# Checkpoints, restore, fork.


async def test_a_conversation_is_set_back_to_a_checkpoint(server: Server) -> None:
    session_id = await talked(server, "One")
    made = await post(server, session_id, "/checkpoints", name="after-one")
    server.stage.plays(answer(said("Two!")))
    await server.run("Two", session_id=session_id)

    await post(server, session_id, "/restore", checkpoint="after-one")
    server.stage.plays(answer(said("Three!")))
    await server.run("Three", session_id=session_id)

    listed = await get(server, f"/v1/sessions/{session_id}/checkpoints")
    asked_last = b"".join(server.stage.model.requests[-1].messages).decode()
    assert listed["data"] == [made]
    assert types(await server.stage.log(Ref("acme", session_id)))[made["seq"] - 1] == "checkpoint.created"
    assert SET_BACK in asked_last
    assert "Two" not in asked_last


async def test_a_name_belongs_to_one_place(server: Server) -> None:
    session_id = await make(server)

    first = await post(server, session_id, "/checkpoints", name="here")
    again = await post(server, session_id, "/checkpoints", name="here")
    await post(server, session_id, title="Moved on")
    later = await server.http.post(f"/v1/sessions/{session_id}/checkpoints", json={"name": "here"})

    assert first == again
    refused(later, 409, "name_taken")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"checkpoint": "nowhere"}, 404, "checkpoint_not_found"),
        ({"seq": 99}, 404, "event_not_found"),
        ({}, 422, "invalid_input"),
        ({"seq": 1, "checkpoint": "here"}, 422, "invalid_input"),
        ({"seq": 0}, 422, "invalid_input"),
    ],
    ids=str,
)
async def test_there_is_no_way_back_to_what_never_was(
    server: Server, body: dict[str, Any], status: int, code: str
) -> None:
    session_id = await make(server, autonomy="L1")

    refused(await server.http.post(f"/v1/sessions/{session_id}/restore", json=body), status, code)


async def test_a_fork_shows_the_conversation_that_it_has_begun_with_page_by_page(server: Server) -> None:
    session_id = await make(server, title="Rent")
    server.stage.plays(answer(said("I look."), asked("look")), answer(said("Seen.")))
    await server.run("Look", session_id=session_id)
    server.stage.plays(answer(said("Two!")))

    fork = await post(server, session_id, "/fork", metadata={"try": "2"})
    await server.run("Two", session_id=fork["id"])

    path = f"/v1/sessions/{fork['id']}/messages"
    whole = await get(server, path, include_total="true")
    told = [(each["role"], [block["type"] for block in each["content"]]) for each in whole["data"]]
    assert (fork["title"], fork["metadata"], fork["owner"]) == ("Rent", {"try": "2"}, "ann")
    assert told == [
        ("user", ["text"]),
        ("assistant", ["text", "tool_use"]),
        ("tool", ["tool_result"]),
        ("assistant", ["text"]),
        ("user", ["text"]),
        ("assistant", ["text"]),
    ]
    assert whole["data"][2]["content"][0]["name"] == "look"
    assert whole["total"] == 6
    assert len({each["id"] for each in whole["data"]}) == 6
    for order in ("asc", "desc"):
        for limit in (1, 2, 3, 4):
            assert await paged(server, path, limit=limit, order=order) == whole["data"][:: 1 if order == "asc" else -1]


async def paged(server: Server, path: str, **params: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    page: dict[str, Any] = {}
    while True:
        found = await get(server, path, **params, **page)
        assert len(found["data"]) <= params["limit"]
        rows += found["data"]
        page = {"page": found["next_page"]}
        if not found["has_more"]:
            return rows


async def test_the_same_fork_twice_with_one_key_is_one_session(server: Server) -> None:
    session_id = await talked(server, "One")
    path = f"/v1/sessions/{session_id}/fork"

    first = await server.http.post(path, json={"seq": 1}, headers=SLOT)
    again = await server.http.post(path, json={"seq": 1}, headers=SLOT)
    other = await server.http.post(path, json={}, headers=SLOT)

    assert first.json()["id"] == again.json()["id"] != session_id
    assert first.headers["location"] == f"/v1/sessions/{first.json()['id']}"
    assert again.headers["idempotent-replayed"] == "true"
    refused(other, 422, "idempotency_mismatch")


@pytest.mark.parametrize(
    ("what", "body"),
    [
        ("", {"title": "x"}),
        ("/suspend", {}),
        ("/archive", {}),
        ("/checkpoints", {"name": "x"}),
        ("/restore", {"seq": 1}),
    ],
    ids=lambda value: str(value),
)
async def test_the_same_key_twice_has_one_effect(server: Server, what: str, body: dict[str, Any]) -> None:
    session_id = await talked(server, "One")
    path = f"/v1/sessions/{session_id}{what}"

    first = await server.http.post(path, json=body, headers=SLOT)
    events = len(await server.stage.log(Ref("acme", session_id)))
    again = await server.http.post(path, json=body, headers=SLOT)

    assert (first.status_code, first.json()) == (200, again.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert len(await server.stage.log(Ref("acme", session_id))) == events


# Walls.


async def test_a_stranger_sees_no_session_to_do_anything_with(server: Server) -> None:
    session_id = await talked(server, "One")
    events = len(await server.stage.log(Ref("acme", session_id)))
    bodies: dict[str, dict[str, Any]] = {
        "": {"title": "Mine"},
        "/suspend": {},
        "/resume": {},
        "/archive": {},
        "/checkpoints": {"name": "x"},
        "/restore": {"seq": 1},
        "/fork": {},
    }

    for stranger in (server.as_("acme", "bob"), server.as_("other", "ann")):
        async with stranger:
            for what, body in bodies.items():
                answered = await stranger.post(f"/v1/sessions/{session_id}{what}", json=body)
                refused(answered, 404, "session_not_found")
            refused(await stranger.get(f"/v1/sessions/{session_id}/checkpoints"), 404, "session_not_found")
            assert (await stranger.get("/v1/audit")).json()["data"] == []
    assert len(await server.stage.log(Ref("acme", session_id))) == events


# Audit.


async def test_the_audit_tells_who_did_what_with_which_request(server: Server) -> None:
    session_id, call_id = await server.parked()
    server.stage.plays(answer(said("Paid.")))
    word = {"outcome": "happened", "result": "a secret receipt"}
    decided = await server.http.post(f"/v1/sessions/{session_id}/tool_calls/{call_id}/outcome", json=word)
    await idle(server, session_id)
    await post(server, session_id, title="A secret title")
    await server.http.delete(f"/v1/sessions/{session_id}")

    acts = (await get(server, "/v1/audit", session_id=session_id, order="asc"))["data"]
    deletes = (await get(server, "/v1/audit", action="session.deleted"))["data"]

    assert sorted(each["action"] for each in acts) == ["outcome.decided", "session.deleted", "session.updated"]
    [told] = [each for each in acts if each["action"] == "outcome.decided"]
    assert told["request_id"] == decided.headers["request-id"]
    assert (told["target"], told["detail"]) == (call_id, {"outcome": "happened", "attempt": 1})
    assert (told["actor"], told["run_id"]) == ({"id": "ann", "how": "dev"}, decided.json()["data"][0]["run_id"])
    assert "secret" not in repr(acts)
    assert [each["session_id"] for each in deletes] == [session_id]


async def audited(server: Server, action: str) -> list[tuple[str, str | None, dict[str, Any]]]:
    """Return who did it to what, the first first."""
    acts = (await get(server, "/v1/audit", action=action, order="asc"))["data"]
    assert "secret" not in repr(acts)
    return [(each["actor"]["id"], each["target"], each["detail"]) for each in acts]


async def test_the_audit_has_each_decision_on_a_call_whichever_way_it_came(server: Server) -> None:
    session_id = await make(server, autonomy="L1")
    pays = [asked("pay", {"amount": n}) for n in (1, 2, 3)]
    server.stage.plays(answer(*pays[:2]), answer(*pays), answer(said("Done.")))
    told = await server.run("Pay", session_id=session_id)
    approvals = list(told["pending_approval_ids"])
    allow = {"type": "user.tool_confirmation", "tool_use_id": told["pending_tool_call_ids"][1], "result": "allow"}
    denied = {"decision": "deny", "message": "A secret reason"}

    for _ in range(2):
        assert (await server.http.post(f"/v1/approvals/{approvals[0]}/decision", json=denied)).status_code == 200
    await post(server, session_id, "/events", events=[allow])
    log = await idle(server, session_id)
    waiting = (await get(server, "/v1/approvals", order="asc"))["data"]
    plan = f"/plans/{only(c.PlanProposed, log)[-1].plan_id}/decision"
    await post(server, session_id, plan, decision="approve", **{"except": [waiting[1]["tool_use_id"]]})

    decided = ["deny", "approve", "approve", "deny", "approve"]
    approvals += [each["id"] for each in waiting]
    assert await audited(server, "approval.decided") == [
        ("ann", approval, {"decision": word}) for approval, word in zip(approvals, decided, strict=True)
    ]


async def asks_again(server: Server, session_id: str, before: str) -> str:
    """Wait until the run behind another one waits for a person; return its id."""

    async def asks() -> bool:
        newest = (await get(server, path))["data"][0]
        return bool(newest["id"] != before and newest["status"] == "waiting_approval")

    path = f"/v1/sessions/{session_id}/runs"
    await eventually(asks)
    return str((await get(server, path))["data"][0]["id"])


async def test_the_audit_has_stops_and_second_thoughts_about_what_waits(server: Server) -> None:
    session_id = await make(server, autonomy="L1")
    assert server.state.queue
    server.stage.runner.queue = server.state.queue  # what a run's end hints at is done here
    server.stage.plays(*(answer(asked("pay", {"amount": n})) for n in (1, 2, 3)))
    first = (await server.run("Pay", session_id=session_id))["run_id"]
    path, content = f"/v1/sessions/{session_id}/events", [{"type": "text", "text": "A secret"}]
    message, stop = {"type": "user.message", "content": content}, {"type": "user.interrupt"}
    edited, removed = (await post(server, session_id, "/events", events=[message, message]))["data"]

    for _ in range(2):
        assert (await server.http.post(f"{path}/{edited['id']}", json={"content": content}, headers=SLOT)).is_success
    await server.http.delete(f"{path}/{removed['id']}")
    await post(server, session_id, f"/runs/{first}/cancel")
    second = await asks_again(server, session_id, first)
    await post(server, session_id, "/events?on_busy=interrupt", events=[message])
    third = await asks_again(server, session_id, second)
    await post(server, session_id, "/events", events=[stop, stop])
    await idle(server, session_id)
    await post(server, session_id, "/events", events=[stop])

    assert await audited(server, "input.edited") == [("ann", edited["id"], {})]
    assert await audited(server, "input.removed") == [("ann", removed["id"], {})]
    stopped = [target for _, target, _ in await audited(server, "run.interrupted")]
    assert stopped == [first, second, third, third, None]


async def test_the_audit_is_paged_and_filtered(server: Server) -> None:
    session_id = await make(server)
    for number in range(5):
        await post(server, session_id, title=f"Title {number}")
    other = await make(server)
    await post(server, other, "/suspend")

    rows = await paged(server, "/v1/audit", limit=2)
    late = await get(server, "/v1/audit", **{"created_at[gt]": "2026-11-20T12:00:00Z"})
    nobody = await get(server, "/v1/audit", actor="bob")

    assert len({each["id"] for each in rows}) == 6
    assert late["data"] == nobody["data"] == []
    assert [each["session_id"] for each in (await get(server, "/v1/audit", action="session.suspended"))["data"]] == [
        other
    ]
    refused(await server.http.get("/v1/audit", params={"action": "unheard.of"}), 422, "invalid_input")


async def test_who_sees_everything_sees_what_everybody_did(server: Server) -> None:
    await post(server, await make(server), "/suspend")
    boss = dev.app(load({}), replace(server.state, principal=Principal("acme", "boss", admin=True, how="admin_key")))

    async with client(boss) as http:
        acts = (await http.get("/v1/audit")).json()["data"]

    assert [each["actor"]["id"] for each in acts] == ["ann"]


async def test_a_stream_of_a_run_that_is_paused_ends_with_complete(server: Server) -> None:
    session_id = await make(server)
    server.stage.plays(answer(asked("look")), look=suspending(server, session_id))

    response: httpx.Response = await server.http.post(EXECUTE, json={"input": "Look", "session_id": session_id})

    last = frames(response)[-1]
    assert (last.name, last.data["status"]) == ("complete", "suspended")
