"""The parts that requests are answered with, as one value: `wiring` makes it, the routers find it in `app.state`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from parley.core.agent import Agent
from parley.core.errors import NotFound
from parley.deadline import Deadline
from parley.ports import Queue
from parley.store import Store
from parley.store.audit import How

if TYPE_CHECKING:  # functions that only read must not load the engine
    from parley.runner import Runner


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, and for whom."""

    tenant: str
    owner: str
    """Whose the sessions are that it begins."""
    admin: bool = False
    how: How = "dev"
    """By what it is known."""

    @property
    def sees(self) -> str | None:
        """Whose sessions it may see: its own, or with `None` everybody's."""
        return None if self.admin else self.owner


@dataclass(frozen=True, slots=True)
class State:
    """The parts that requests are answered with; functions that only read have no runner and no queue."""

    store: Store
    agents: Mapping[str, Agent]
    principal: Principal
    runner: Runner | None = None
    queue: Queue | None = None
    deadline: Deadline = field(default_factory=Deadline)
    admin_key: Callable[[], Awaitable[str]] | None = None
    """What every request must show; without it, whoever can connect is the principal."""
    cors_origin: str = ""

    def agent(self, agent_id: str) -> Agent:
        """Return a deployed agent.

        Raises:
            NotFound: there is none of that id.
        """
        try:
            return self.agents[agent_id]
        except KeyError:
            raise NotFound("agent", agent_id, f"Deployed: {', '.join(self.agents)}.") from None
