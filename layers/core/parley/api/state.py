"""What the routers are given, through `app.state.parley`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Request

from parley.core.agent import Agent
from parley.core.errors import NotFound
from parley.ports import Queue
from parley.store import Ref, Store

if TYPE_CHECKING:
    from parley.runner import Runner


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, and for whom."""

    tenant: str
    owner: str


@dataclass(frozen=True, slots=True)
class State:
    """The parts that requests are answered with; functions that only read have no runner and no queue."""

    store: Store
    agents: Mapping[str, Agent]
    principal: Principal
    runner: Runner | None = None
    queue: Queue | None = None

    def agent(self, agent_id: str) -> Agent:
        """Return a deployed agent.

        Raises:
            NotFound: there is none of that id.
        """
        try:
            return self.agents[agent_id]
        except KeyError:
            raise NotFound("agent", agent_id) from None


def state(request: Request) -> State:
    """Return the state of the app that handles the request."""
    found: State = request.app.state.parley
    return found


def principal(request: Request) -> Principal:
    """Return who is calling."""
    return state(request).principal


States = Annotated[State, Depends(state)]
Principals = Annotated[Principal, Depends(principal)]


def session_ref(principal: Principals, session_id: str) -> Ref:
    """Address the session named in the path, in the caller's tenant."""
    return ref(principal, session_id)


def ref(principal: Principal, session_id: str) -> Ref:
    """Address a session in the caller's tenant.

    Raises:
        NotFound: no session can have that id.
    """
    if not (session_id.isascii() and session_id.replace("_", "").isalnum() and len(session_id) <= 64):
        raise NotFound("session", session_id[:64])
    return Ref(principal.tenant, session_id)


Refs = Annotated[Ref, Depends(session_ref)]
