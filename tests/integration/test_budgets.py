"""Budgets over HTTP: given with a session, reached, raised, and in the words of the `anthropic` SDK."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from anthropic.types.beta import BetaManagedAgentsSession
from anthropic.types.beta.sessions import BetaManagedAgentsSessionEvent
from parley.core import control as c
from parley.core import event as e
from parley.core.budget import Budget
from parley.core.tool import ToolOutcome
from parley.store import Ref
from pydantic import TypeAdapter

from tests.build import answer, asked, only, said
from tests.integration.test_http import EXECUTE, Server, frames, idle, refused, server

__all__ = ["server"]

pytestmark = pytest.mark.anyio

SDK_EVENT: TypeAdapter[Any] = TypeAdapter(BetaManagedAgentsSessionEvent)
FIVE_DOLLARS = {"type": "limit", "max_list_cost": {"amount": "500", "currency": "USD"}}
COST = 10 * 2 + 5 * 10
"""Micro-dollars of one answer here: 10 tokens in and 5 out, of Sonnet 5.5."""


async def created(server: Server, **budget: Any) -> str:
    """Create a session with a budget."""
    response = await server.http.post("/v1/sessions", json={"agent": "bank", "budget": budget})
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


async def update(server: Server, session_id: str, budget: Any, **headers: str) -> Any:
    """Give a session another budget."""
    return await server.http.post(f"/v1/sessions/{session_id}", json={"budget": budget}, headers=headers)


async def paused(server: Server, **budget: Any) -> str:
    """Leave a run that waits because its budget is reached, before its second answer."""
    session_id = await created(server, **budget or {"max_steps": 1})
    server.stage.plays(answer(asked("look")))
    told = await server.run("Look", session_id=session_id)
    assert (told["status"], told["stop_reason"]) == ("waiting_approval", "budget_reached")
    return session_id


async def ended(server: Server, session_id: str) -> Sequence[e.Event]:
    """Wait until nothing waits in the session any more; return its log."""
    async with asyncio.timeout(3):
        while True:
            log = await idle(server, session_id)
            if isinstance(log[-1], e.StatusIdle) and not log[-1].stop_reason.parks:
                return log
            await asyncio.sleep(0.005)


# Given.


async def test_a_session_takes_the_budget_of_the_sdk_and_shows_it(server: Server) -> None:
    response = await server.http.post("/v1/sessions", json={"agent": "bank", "budget": FIVE_DOLLARS})

    session = BetaManagedAgentsSession.model_validate(response.json())
    assert session.budget is not None
    assert session.budget.max_list_cost.amount == "500"
    assert response.json()["budget"]["max_cost"] == 5_000_000
    [stored] = await server.stage.log(Ref("acme", session.id))
    assert SDK_EVENT.validate_json(e.to_json(stored)).budget.max_list_cost.amount == "500"
    assert isinstance(stored, c.SessionUpdated)
    assert stored.budget == Budget(max_cost=5_000_000)
    assert stored.updated_by == "ann"


async def test_of_two_caps_on_money_the_smaller_counts(server: Server) -> None:
    session_id = await created(server, **FIVE_DOLLARS, max_cost=7)

    shown = (await server.http.get(f"/v1/sessions/{session_id}")).json()
    assert shown["budget"]["max_cost"] == 7
    assert shown["state"] == "created"


async def test_a_session_without_a_budget_has_none_and_no_event(server: Server) -> None:
    response = await server.http.post("/v1/sessions", json={"agent": "bank"})

    assert response.json()["budget"] is None
    assert await server.stage.log(Ref("acme", response.json()["id"])) == []


async def test_the_same_request_again_makes_one_session(server: Server) -> None:
    body, key = {"agent": "bank", "budget": {"max_steps": 3}}, {"idempotency-key": "once"}

    first = await server.http.post("/v1/sessions", json=body, headers=key)
    again = await server.http.post("/v1/sessions", json=body, headers=key)

    assert again.headers["idempotent-replayed"] == "true"
    assert again.json() == first.json()
    assert again.json()["budget"]["max_steps"] == 3


async def test_what_a_run_cost_is_told_everywhere(server: Server) -> None:
    server.stage.plays(answer(asked("look")), answer(said()))

    told = await server.run("Look")

    path = f"/v1/sessions/{told['session_id']}"
    session = (await server.http.get(path)).json()
    [run] = (await server.http.get(f"{path}/runs")).json()["data"]
    assert told["cost"] == run["cost"] == session["cost"] == 2 * COST
    usage = BetaManagedAgentsSession.model_validate(session).usage
    assert usage.list_cost is not None
    assert (usage.list_cost.amount, usage.list_cost.currency) == ("1", "USD")


async def test_money_cannot_be_capped_for_a_model_without_a_price(server: Server) -> None:
    session_id = await created(server, max_steps=5)
    unpriced = server.stage.agent.model_copy(update={"model": "a-model-of-tomorrow"})
    server.state.agents["bank"] = unpriced  # type: ignore[index]

    made = await server.http.post("/v1/sessions", json={"agent": "bank", "budget": FIVE_DOLLARS})
    changed = await update(server, session_id, FIVE_DOLLARS)

    assert "max_tokens" in refused(made, 422, "model_not_priced")["detail"]
    refused(changed, 422, "model_not_priced")
    assert (await update(server, session_id, {"max_tokens": 5})).status_code == 200


# Reached.


async def test_a_run_that_reaches_its_budget_stops_and_says_so(server: Server) -> None:
    session_id = await created(server, max_cost=COST)
    server.stage.plays(answer(asked("look")))

    response = await server.http.post(EXECUTE, json={"input": "Look", "session_id": session_id})

    last = frames(response)[-1]
    assert (last.name, last.data["stop_reason"], last.data["cost"]) == ("complete", "budget_reached", COST)
    log = await server.stage.log(Ref("acme", session_id))
    [reached] = only(c.BudgetReached, log)
    assert (reached.which, reached.cap, reached.spent) == ("max_cost", COST, COST)
    parsed = SDK_EVENT.validate_json(e.to_json(log[-1], with_seq=True))
    assert parsed.stop_reason.type == "budget_reached"
    shown = (await server.http.get(f"/v1/sessions/{session_id}")).json()
    assert (shown["status"], shown["run_status"], shown["cost"]) == ("idle", "waiting_approval", COST)


async def test_another_message_is_told_to_raise_the_budget(server: Server) -> None:
    session_id = await paused(server)

    response = await server.http.post(EXECUTE, json={"input": "Go on", "session_id": session_id})

    assert "raise that with POST /v1/sessions/{id}" in refused(response, 409, "session_busy")["detail"]


async def test_a_run_that_begins_without_a_budget_left_stops_at_once_and_is_seen(server: Server) -> None:
    session_id = await created(server, max_steps=1)
    server.stage.plays(answer(said()))
    await server.run("Hi", session_id=session_id)

    told = await server.run("Hi again", session_id=session_id)

    assert (told["status"], told["stop_reason"], told["cost"]) == ("waiting_approval", "budget_reached", 0)
    assert server.stage.model.plays == []


async def test_calls_beyond_the_cap_are_not_made(server: Server) -> None:
    session_id = await created(server, max_calls=1)
    server.stage.plays(answer(asked("pay"), asked("pay")), pay=ToolOutcome("ok", "paid"))

    told = await server.run("Pay twice", session_id=session_id)

    assert told["stop_reason"] == "budget_reached"
    log = await server.stage.log(Ref("acme", session_id))
    assert len(only(e.ToolIntended, log)) == len(only(e.AgentToolResult, log)) == 1


# Raised.


@pytest.mark.parametrize("budget", [{"max_steps": 2}, FIVE_DOLLARS, None], ids=["raised", "another", "taken away"])
async def test_a_run_goes_on_when_its_budget_is_raised(server: Server, budget: Any) -> None:
    session_id = await paused(server)
    server.stage.plays(answer(said("Seen.")))

    response = await update(server, session_id, budget)

    assert response.status_code == 200, response.text
    shown = response.json()["budget"]
    assert (shown and shown["type"]) == (budget and "limit")
    log = await ended(server, session_id)
    assert len(only(e.RunStarted, log)) == len(only(e.RunFinished, log)) == 1


async def test_a_budget_that_is_not_enough_asks_again(server: Server) -> None:
    session_id = await paused(server)

    await update(server, session_id, {"max_steps": 1, "max_tokens": 1000})

    async with asyncio.timeout(3):
        while True:
            reached = only(c.BudgetReached, await idle(server, session_id))
            if len(reached) > 1:
                break
            await asyncio.sleep(0.005)
    assert [each.which for each in reached] == ["max_steps", "max_steps"]
    shown = (await server.http.get(f"/v1/sessions/{session_id}")).json()
    assert shown["run_status"] == "waiting_approval"


async def test_the_same_update_again_changes_nothing(server: Server) -> None:
    session_id = await created(server, max_steps=1)

    first = await update(server, session_id, {"max_steps": 9}, **{"idempotency-key": "once"})
    again = await update(server, session_id, {"max_steps": 9}, **{"idempotency-key": "once"})
    other = await update(server, session_id, {"max_steps": 8}, **{"idempotency-key": "once"})

    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["budget"] == first.json()["budget"]
    refused(other, 422, "idempotency_mismatch")
    assert len(await server.stage.log(Ref("acme", session_id))) == 2


async def test_an_update_of_nothing_is_none(server: Server) -> None:
    session_id = await created(server, max_steps=1)

    response = await server.http.post(f"/v1/sessions/{session_id}", json={})

    assert response.json()["budget"]["max_steps"] == 1
    assert len(await server.stage.log(Ref("acme", session_id))) == 1


async def test_a_budget_may_be_changed_while_a_run_is_under_way(server: Server) -> None:
    session_id = await created(server, max_steps=9)

    async def lower(*_: Any) -> ToolOutcome:
        assert (await update(server, session_id, {"max_steps": 1})).status_code == 200
        return ToolOutcome("ok", "Seen.")

    server.stage.plays(answer(asked("look")), look=lower)
    told = await server.run("Look", session_id=session_id)

    assert told["stop_reason"] == "budget_reached"


async def test_a_foreign_session_has_no_budget_to_change(server: Server) -> None:
    session_id = await created(server, max_steps=1)

    for stranger in (server.as_("acme", "bob"), server.as_("evil", "ann")):
        response = await stranger.post(f"/v1/sessions/{session_id}", json={"budget": None})
        refused(response, 404, "session_not_found")
    refused(await update(server, "sesn_9", None), 404, "session_not_found")
