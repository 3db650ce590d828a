"""What people say to a session: whose request it is, and who has to hear of it."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import Depends

from parley.api.depends import Actors, Principals
from parley.api.idempotency import Onces
from parley.core.control import UserInterrupt
from parley.core.event import Event
from parley.state import State
from parley.store import Ref
from parley.store.audit import By


async def by(principal: Principals, actor: Actors, once: Onces) -> By:
    """Return whose request it is."""
    return By(actor, principal.sees, once)


Bys = Annotated[By, Depends(by)]


async def tell(state: State, session: Ref, events: Iterable[Event] = ()) -> None:
    """Let whoever drives the session know that something was said, and a stop be heard here at once."""
    for event in events:
        if state.runner and isinstance(event, UserInterrupt) and event.run_id:
            state.runner.stop(event.run_id)
    if state.queue:
        await state.queue.send(session.tenant, session.id)
