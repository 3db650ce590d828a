"""Approvals and plans over HTTP, and by the unmodified `anthropic` SDK: the same decisions, whichever way they come."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import httpx2
import pytest
from anthropic import AsyncAnthropic
from anthropic.types.beta.sessions import (
    BetaManagedAgentsSessionRequiresAction,
    BetaManagedAgentsSessionStatusIdleEvent,
    BetaManagedAgentsUserToolConfirmationEvent,
)
from parley import dev
from parley.adapters.inline import InlineQueue
from parley.core import control as c
from parley.core import event as e
from parley.core.approval import DENIED, DENIED_BECAUSE
from parley.core.binding import binding
from parley.settings import load
from parley.state import Principal, State
from parley.store import Ref

from tests.build import Stage, answer, asked, careful, only, said, types
from tests.integration.test_http import Server, client, frames, idle, refused

pytestmark = pytest.mark.anyio

INBOX = "/v1/approvals"
EXECUTE = "/v1/agents/bank/execute"
DAY = 86_400


@pytest.fixture
async def server(stage: Stage) -> AsyncIterator[Server]:
    stage.deploy(careful())
    queue = InlineQueue(lambda tenant, session_id: stage.runner.nudge(Ref(tenant, session_id)))
    state = State(stage.store, {"bank": stage.agent}, Principal("acme", "ann"), stage.runner, queue)
    app = dev.app(load({}), state)
    async with client(app) as http:
        yield Server(stage, state, app, http)


async def ask(server: Server, *names: str, **body: Any) -> dict[str, Any]:
    """Leave a run that waits for decisions on these calls; return what it said."""
    server.stage.plays(answer(*(asked(name, {"amount": n}) for n, name in enumerate(names or ("pay",), 1))))
    return await server.run("Pay", **body)


async def decide(server: Server, approval_id: str, decision: str, **more: Any) -> httpx.Response:
    return await server.http.post(f"{INBOX}/{approval_id}/decision", json={"decision": decision, **more})


async def listed(server: Server, **query: Any) -> list[dict[str, Any]]:
    response = await server.http.get(INBOX, params=query)
    assert response.status_code == 200, response.text
    rows: list[dict[str, Any]] = response.json()["data"]
    return rows


# What a listener hears.


async def test_a_stream_tells_the_plan_and_what_is_required_and_then_that_it_waits(server: Server) -> None:
    server.stage.plays(answer(*(asked("pay", {"amount": n}) for n in (1, 2, 3))))

    response = await server.http.post(EXECUTE, json={"input": "Pay"})

    told = frames(response)
    assert [frame.name for frame in told if frame.name != "tool_call"] == [
        "plan",
        "approval_required",
        "approval_required",
        "approval_required",
        "complete",
    ]
    calls = [frame.data["id"] for frame in told if frame.name == "tool_call"]
    [plan] = [frame.data for frame in told if frame.name == "plan"]
    required = [frame.data for frame in told if frame.name == "approval_required"]
    assert plan["calls"] == [{"id": call, "name": "pay", "input": {"amount": n}} for n, call in enumerate(calls, 1)]
    assert [each["tool_call_id"] for each in required] == calls
    assert {"name": "pay", "input": {"amount": 1}, "expires_at": "2026-12-04T12:00:00.000Z"}.items() <= required[
        0
    ].items()
    assert told[-1].data["status"] == "waiting_approval"
    assert told[-1].data["pending_tool_call_ids"] == calls
    assert told[-1].data["pending_approval_ids"] == [each["approval_id"] for each in required]


# The inbox.


async def test_the_inbox_shows_what_waits_in_all_sessions_the_newest_first(server: Server) -> None:
    first, second = await ask(server), await ask(server)

    rows = await listed(server)
    [only_first] = await listed(server, session_id=first["session_id"])

    assert [row["session_id"] for row in rows] == [second["session_id"], first["session_id"]]
    assert await listed(server, order="asc") == rows[::-1]
    assert only_first == rows[1]
    assert only_first == {
        "id": first["pending_approval_ids"][0],
        "type": "approval",
        "session_id": first["session_id"],
        "run_id": first["run_id"],
        "tool_use_id": first["pending_tool_call_ids"][0],
        "name": "pay",
        "input": {"amount": 1},
        "binding": binding("pay", {"amount": 1}),
        "status": "pending",
        "requested_at": "2026-11-20T12:00:00.000Z",
        "expires_at": "2026-12-04T12:00:00.000Z",
        "on_expire": "deny",
    }
    assert (await server.http.get(f"{INBOX}/{only_first['id']}")).json() == only_first


async def test_the_inbox_is_paged(server: Server) -> None:
    asked_ids = [(await ask(server))["pending_approval_ids"][0] for _ in range(3)]

    first = (await server.http.get(INBOX, params={"limit": 2})).json()
    second = (await server.http.get(INBOX, params={"limit": 2, "page": first["next_page"]})).json()
    other = await server.http.get(INBOX, params={"limit": 2, "status": "denied", "page": first["next_page"]})

    assert [row["id"] for row in [*first["data"], *second["data"]]] == asked_ids[::-1]
    assert (first["has_more"], second["has_more"], "next_page" in second) == (True, False, False)
    refused(other, 400, "malformed")


async def test_somebody_elses_approvals_do_not_exist(server: Server) -> None:
    told = await ask(server)
    [approval_id] = told["pending_approval_ids"]

    for stranger in (server.as_("acme", "bob"), server.as_("other", "ann")):
        async with stranger:
            assert (await stranger.get(INBOX)).json()["data"] == []
            by_session = await stranger.get(INBOX, params={"session_id": told["session_id"]})
            refused(by_session, 404, "session_not_found")
            refused(await stranger.get(f"{INBOX}/{approval_id}"), 404, "approval_not_found")
            word = await stranger.post(f"{INBOX}/{approval_id}/decision", json={"decision": "approve"})
            refused(word, 404, "approval_not_found")
    assert await listed(server, status="pending")


@pytest.mark.parametrize("approval_id", ["appr_1", "appr_1_2", "x" * 2000, "%00", "appr_%F0%9F%98%80_1", "sesn_1"])
async def test_an_unknown_approval_is_not_found(server: Server, approval_id: str) -> None:
    word = await server.http.post(f"{INBOX}/{approval_id}/decision", json={"decision": "approve"})

    refused(await server.http.get(f"{INBOX}/{approval_id}"), 404, "approval_not_found")
    refused(word, 404, "approval_not_found")


async def test_approvals_of_a_deleted_session_are_gone(server: Server) -> None:
    told = await ask(server)
    await server.http.delete(f"/v1/sessions/{told['session_id']}")

    assert await listed(server) == []
    [approval_id] = told["pending_approval_ids"]
    refused(await decide(server, approval_id, "approve"), 404, "approval_not_found")


# Decisions.


@pytest.mark.parametrize(
    ("decision", "more", "status", "read"),
    [
        ("approve", {}, "approved", "done"),
        ("deny", {}, "denied", DENIED),
        ("deny", {"message": "Not now."}, "denied", DENIED_BECAUSE + "Not now."),
        ("edit", {"input": {"amount": 7}}, "edited", "done"),
        ("answer", {"answer": "In cash."}, "answered", "In cash."),
    ],
)
async def test_a_decision_lets_the_run_go_on(
    server: Server, decision: str, more: dict[str, Any], status: str, read: str
) -> None:
    told = await ask(server)
    server.stage.plays(answer(said("Done.")))
    [approval_id] = told["pending_approval_ids"]

    response = await decide(server, approval_id, decision, **more)

    assert response.status_code == 200, response.text
    shown = response.json()["approval"]
    assert (shown["status"], shown["decided_by"]) == (status, "ann")
    assert response.json()["data"][0]["type"] == "approval.decided"
    log = await idle(server, told["session_id"])
    assert types(log)[-2:] == ["run.finished", "session.status_idle"]
    assert server.stage.model.messages[-1]["content"][0]["content"][-1]["text"] == read
    [row] = await listed(server, status=status)
    assert row == shown == (await server.http.get(f"{INBOX}/{approval_id}")).json()
    assert await listed(server) == []


async def test_an_edited_call_is_made_with_the_edited_arguments_and_the_model_learns_it(server: Server) -> None:
    told = await ask(server)
    server.stage.plays(answer(said("Done.")))

    await decide(server, told["pending_approval_ids"][0], "edit", input={"amount": 7})
    await idle(server, told["session_id"])

    [called] = server.stage.tools.called
    assert called.arguments == {"amount": 7}
    told_model = server.stage.model.messages[-1]["content"][0]["content"]
    assert told_model[0]["text"].endswith('{"amount": 7}')


async def test_the_first_decision_counts_the_same_again_is_no_mistake_and_another_is_refused(server: Server) -> None:
    told = await ask(server)
    server.stage.plays(answer(said("Done.")))
    [approval_id] = told["pending_approval_ids"]

    first = await decide(server, approval_id, "deny", message="No.")
    await idle(server, told["session_id"])
    before = server.stage.rows()
    same = await decide(server, approval_id, "deny", message="No.")
    others = [
        await decide(server, approval_id, "deny", message="Never."),
        await decide(server, approval_id, "approve"),
        await decide(server, approval_id, "edit", input={"amount": 1}),
    ]

    assert (same.status_code, same.json()) == (200, first.json())
    for other in others:
        refused(other, 409, "approval_decided")
    assert server.stage.rows() == before


async def test_of_two_decisions_at_once_one_counts(server: Server) -> None:
    told = await ask(server)
    server.stage.plays(answer(said("Done.")))
    [approval_id] = told["pending_approval_ids"]

    both = await asyncio.gather(decide(server, approval_id, "approve"), decide(server, approval_id, "deny"))

    assert sorted(response.status_code for response in both) == [200, 409]
    assert types(await idle(server, told["session_id"])).count("approval.decided") == 1


async def test_the_same_decision_under_one_key_is_replayed(server: Server) -> None:
    told = await ask(server, "a", "b")
    path = f"{INBOX}/{told['pending_approval_ids'][0]}/decision"
    key = {"idempotency-key": "decide-1"}

    first = await server.http.post(path, json={"decision": "approve"}, headers=key)
    again = await server.http.post(path, json={"decision": "approve"}, headers=key)
    other = await server.http.post(path, json={"decision": "deny"}, headers=key)

    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    refused(other, 422, "idempotency_mismatch")


async def test_a_decision_that_comes_too_late_is_refused_before_and_after_it_has_expired(server: Server) -> None:
    told = await ask(server)
    [approval_id] = told["pending_approval_ids"]
    server.stage.clock.advance(15 * DAY)

    before = await decide(server, approval_id, "approve")
    server.stage.plays(answer(said("Nobody decided.")))
    await server.stage.sweeper.sweep()
    await idle(server, told["session_id"])
    after = await decide(server, approval_id, "approve")

    refused(before, 410, "approval_expired")
    refused(after, 410, "approval_expired")
    assert [row["id"] for row in await listed(server, status="expired")] == [approval_id]


async def test_a_decision_on_a_call_of_a_stopped_run_is_refused(server: Server) -> None:
    told = await ask(server)
    [approval_id] = told["pending_approval_ids"]
    ref = Ref("acme", told["session_id"])
    await server.stage.store.words.say(ref, lambda scribe, _: [scribe.write(c.UserInterrupt, requested_by="bob")])

    refused(await decide(server, approval_id, "approve"), 410, "approval_cancelled")

    [row] = await listed(server, status="cancelled")
    assert (row["id"], row["decided_by"]) == (approval_id, "bob")


@pytest.mark.parametrize(
    ("body", "code", "where"),
    [
        ({}, "invalid_input", "body.decision: Field required"),
        ({"decision": "maybe"}, "invalid_input", "maybe"),
        ({"decision": "approve", "message": "Fine"}, "invalid_input", "message"),
        ({"decision": "approve", "input": {}}, "invalid_input", "input"),
        ({"decision": "edit"}, "invalid_input", "input"),
        ({"decision": "edit", "input": [1]}, "invalid_input", "input"),
        ({"decision": "answer"}, "invalid_input", "answer"),
        ({"decision": "deny", "message": "x" * 100_000}, "invalid_input", "message"),
        ({"decision": "edit", "input": {"amount": "much"}}, "input_invalid", "amount"),
        ({"decision": "edit", "input": {"sum": 1}}, "input_invalid", "sum"),
    ],
)
async def test_a_decision_that_makes_no_sense_is_refused_with_its_place_and_not_stored(
    server: Server, body: dict[str, Any], code: str, where: str
) -> None:
    told = await ask(server)
    before = server.stage.rows()

    response = await server.http.post(f"{INBOX}/{told['pending_approval_ids'][0]}/decision", json=body)

    assert where in refused(response, 422, code)["detail"]
    assert server.stage.rows() == before


async def test_edited_arguments_that_are_no_json_are_refused(server: Server) -> None:
    told = await ask(server)
    path = f"{INBOX}/{told['pending_approval_ids'][0]}/decision"
    json_type = {"content-type": "application/json"}

    for edited in ('{"amount": Infinity}', '{"amount": "\\ud800"}', '{"amount": ' + "[" * 300 + "]" * 300 + "}"):
        response = await server.http.post(path, content=f'{{"decision": "edit", "input": {edited}}}', headers=json_type)
        refused(response, 422, "input_invalid")


async def test_a_decision_may_insist_on_the_arguments_that_were_seen(server: Server) -> None:
    told = await ask(server)
    [approval_id] = told["pending_approval_ids"]

    refused(await decide(server, approval_id, "approve", binding="0" * 64), 409, "approval_changed")
    seen = await decide(server, approval_id, "approve", binding=binding("pay", {"amount": 1}))

    assert seen.status_code == 200


async def test_a_call_of_an_agent_that_is_gone_can_be_denied_and_not_edited(server: Server) -> None:
    told = await ask(server, "a", "b")
    server.state.agents.pop("bank")  # type: ignore[attr-defined]

    edited = await decide(server, told["pending_approval_ids"][0], "edit", input={})
    denied = await decide(server, told["pending_approval_ids"][1], "deny")

    refused(edited, 422, "tool_not_found")
    assert denied.status_code == 200


# Plans.


async def plan_of(server: Server, *names: str) -> tuple[str, dict[str, Any]]:
    """Leave a plan that waits; return its path and what the run said."""
    told = await ask(server, *(names or ("a", "b", "c")))
    [proposed] = only(c.PlanProposed, await server.stage.log(Ref("acme", told["session_id"])))
    return f"/v1/sessions/{told['session_id']}/plans/{proposed.plan_id}/decision", told


@pytest.mark.parametrize(
    ("decision", "excepted", "made"),
    [("approve", [], ["a", "b", "c"]), ("approve", [1], ["a", "c"]), ("deny", [1], ["b"]), ("deny", [], [])],
)
async def test_a_plan_is_decided_whole_or_in_part_in_one_append(
    server: Server, decision: str, excepted: list[int], made: list[str]
) -> None:
    path, told = await plan_of(server)
    server.stage.plays(answer(said("Done.")))
    but = [told["pending_tool_call_ids"][n] for n in excepted]

    response = await server.http.post(path, json={"decision": decision, "except": but, "message": "No."})
    log = await idle(server, told["session_id"])
    same = await server.http.post(path, json={"decision": decision, "except": but, "message": "No."})
    other = await server.http.post(path, json={"decision": decision, "except": told["pending_tool_call_ids"][:1]})

    assert response.status_code == 200, response.text
    stored = [event["type"] for event in response.json()["data"]]
    assert stored.count("approval.decided") == 3
    assert stored[-1] == ("plan.approved" if made else "plan.rejected")
    assert sorted(server.stage.tools.names) == made
    assert only(e.RunFinished, log)
    assert (same.status_code, same.json()) == (200, response.json())
    refused(other, 409, "plan_decided")
    statuses = {row["name"] for row in await listed(server, status="approved")}
    assert sorted(statuses) == made


async def test_a_plans_decision_is_about_what_still_waits(server: Server) -> None:
    path, told = await plan_of(server)
    first, second, _ = told["pending_tool_call_ids"]
    await decide(server, told["pending_approval_ids"][0], "deny")

    about_it = await server.http.post(path, json={"decision": "approve", "except": [first]})
    unknown = await server.http.post(path, json={"decision": "approve", "except": [second, "x"]})

    refused(about_it, 422, "not_in_plan")
    refused(unknown, 422, "not_in_plan")


async def test_a_plan_that_is_unknown_or_too_late_is_refused(server: Server) -> None:
    path, told = await plan_of(server)
    unknown = await server.http.post(path.replace("plan_", "plan_9"), json={"decision": "approve"})
    server.stage.clock.advance(15 * DAY)
    before = await server.http.post(path, json={"decision": "approve"})
    server.stage.plays(answer(said("Nobody decided.")))
    await server.stage.sweeper.sweep()
    await idle(server, told["session_id"])
    after = await server.http.post(path, json={"decision": "approve"})

    refused(unknown, 404, "plan_not_found")
    refused(before, 410, "approval_expired")
    refused(after, 410, "approval_expired")


async def test_a_plan_of_a_stopped_run_is_refused(server: Server) -> None:
    path, told = await plan_of(server)
    ref = Ref("acme", told["session_id"])
    await server.stage.store.words.say(ref, lambda scribe, _: [scribe.write(c.UserInterrupt)])

    stopping = await server.http.post(path, json={"decision": "approve"})
    await server.stage.runner.nudge(ref)
    await idle(server, told["session_id"])
    stopped = await server.http.post(path, json={"decision": "approve"})

    refused(stopping, 410, "approval_cancelled")
    refused(stopped, 410, "approval_cancelled")


# The unmodified SDK.


@pytest.fixture
async def sdk(server: Server) -> AsyncIterator[AsyncAnthropic]:
    through = httpx2.AsyncClient(transport=httpx2.ASGITransport(server.app), base_url="http://parley.test")
    async with AsyncAnthropic(
        base_url="http://parley.test", api_key="anything", max_retries=0, http_client=through
    ) as made:
        yield made


def allows(tool_use_id: str) -> Any:
    return {"type": "user.tool_confirmation", "tool_use_id": tool_use_id, "result": "allow"}


def denies(tool_use_id: str, message: str | None = None) -> Any:
    return {"type": "user.tool_confirmation", "tool_use_id": tool_use_id, "result": "deny", "deny_message": message}


async def waits_for(sdk: AsyncAnthropic, session_id: str) -> list[str]:
    """Read the calls that the session's last idle event asks about."""
    events = [event async for event in sdk.beta.sessions.events.list(session_id, types=["session.status_idle"])]
    last = events[-1]
    assert isinstance(last, BetaManagedAgentsSessionStatusIdleEvent)
    reason = last.stop_reason
    return reason.event_ids if isinstance(reason, BetaManagedAgentsSessionRequiresAction) else []


async def test_the_sdk_confirms_in_part_is_asked_for_the_rest_and_the_run_goes_on(
    server: Server, sdk: AsyncAnthropic
) -> None:
    told = await ask(server, "a", "b", "c")
    session_id = told["session_id"]
    first, second, third = calls = await waits_for(sdk, session_id)

    sent = await sdk.beta.sessions.events.send(session_id, events=[denies(second, "No.")])
    await idle(server, session_id)
    rest = await waits_for(sdk, session_id)
    server.stage.plays(answer(said("Done.")))
    await sdk.beta.sessions.events.send(session_id, events=[allows(first), allows(third)])
    log = await idle(server, session_id)

    assert calls == told["pending_tool_call_ids"]
    assert (await sdk.beta.sessions.retrieve(session_id)).status == "idle"
    [confirmed] = sent.data or []
    assert isinstance(confirmed, BetaManagedAgentsUserToolConfirmationEvent)
    assert (confirmed.tool_use_id, confirmed.result, confirmed.deny_message) == (second, "deny", "No.")
    assert rest == [first, third]
    assert await waits_for(sdk, session_id) == []
    assert sorted(server.stage.tools.names) == ["a", "c"]
    assert types(log)[-2:] == ["run.finished", "session.status_idle"]
    confirmations = [n for n, event in enumerate(log) if isinstance(event, c.UserToolConfirmation)]
    assert [log[n + 1].type for n in confirmations] == ["approval.decided"] * 3
    texts = [result["content"][0]["text"] for result in server.stage.model.messages[-1]["content"]]
    assert texts == ["done", DENIED_BECAUSE + "No.", "done"]


async def test_a_confirmation_is_the_decision_and_the_same_again_is_no_mistake(
    server: Server, sdk: AsyncAnthropic
) -> None:
    told = await ask(server, "a", "b")
    first, second = told["pending_tool_call_ids"]
    server.stage.plays(answer(said("Done.")))
    events = sdk.beta.sessions.events

    sent = await events.send(told["session_id"], events=[allows(first)])
    again = await events.send(told["session_id"], events=[allows(first)])
    decided = await decide(server, told["pending_approval_ids"][0], "approve")
    by_decision = await decide(server, told["pending_approval_ids"][1], "deny")
    as_if_sent = await events.send(told["session_id"], events=[denies(second)])
    await idle(server, told["session_id"])

    assert again == sent
    assert decided.status_code == by_decision.status_code == 200
    [told_again] = as_if_sent.data or []
    assert isinstance(told_again, BetaManagedAgentsUserToolConfirmationEvent)
    assert (told_again.tool_use_id, told_again.result) == (second, "deny")


@pytest.mark.parametrize(
    ("events", "status", "code"),
    [
        ([{"result": "allow"}, {"type": "user.message", "content": [{"type": "text", "text": "Hi"}]}], 422, "mixed"),
        ([{"result": "allow", "deny_message": "No"}], 422, "invalid_input"),
        ([{"result": "maybe"}], 422, "invalid_input"),
        ([{"result": "allow"}, {"result": "deny"}], 409, "approval_decided"),
        ([{"result": "allow"}, {"result": "allow", "tool_use_id": "sevt_9"}], 404, "tool_call_not_found"),
        ([{"result": "allow", "tool_use_id": "\0"}], 404, "tool_call_not_found"),
        ([{"result": "allow"}] * 21, 422, "too_many_confirmations"),
    ],
)
async def test_confirmations_that_cannot_all_be_stored_store_nothing(
    server: Server, events: list[dict[str, Any]], status: int, code: str
) -> None:
    told = await ask(server)
    before = server.stage.rows()
    given = {"type": "user.tool_confirmation", "tool_use_id": told["pending_tool_call_ids"][0]}
    body = {"events": [each if each.get("content") else given | each for each in events]}

    response = await server.http.post(f"/v1/sessions/{told['session_id']}/events", json=body)

    refused(response, status, "mixed_events" if code == "mixed" else code)
    assert server.stage.rows() == before


async def test_a_confirmation_under_one_key_is_replayed(server: Server) -> None:
    told = await ask(server, "a", "b")
    path, key = f"/v1/sessions/{told['session_id']}/events", {"idempotency-key": "confirm-1"}
    body = {"events": [allows(told["pending_tool_call_ids"][0])]}

    first = await server.http.post(path, json=body, headers=key)
    again = await server.http.post(path, json=body, headers=key)

    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()


# What is deployed.


async def test_an_agent_tells_of_what_it_asks_and_for_how_long(server: Server) -> None:
    told = (await server.http.get("/v1/agents/bank")).json()

    assert {tool["name"]: tool["permission"] for tool in told["tools"]}["pay"] == "always_ask"
    assert told["policy"] == {"autonomy": "L3", "plan_calls": 3, "approval_seconds": 14 * DAY, "on_expire": "deny"}
