"""How routers reach their parts: the state of the app, who is calling, which session is meant.

Asynchronous although they wait for nothing: FastAPI sends what is not through a thread pool.
"""

from typing import Annotated

from fastapi import Depends, Request

from parley.core.errors import NotFound
from parley.state import Principal, State
from parley.store import Ref
from parley.store.audit import Actor


async def state(request: Request) -> State:
    """Return the state of the app that handles the request."""
    found: State = request.app.state.parley
    return found


async def principal(request: Request) -> Principal:
    """Return who is calling."""
    return (await state(request)).principal


States = Annotated[State, Depends(state)]
Principals = Annotated[Principal, Depends(principal)]


async def actor(request: Request, principal: Principals) -> Actor:
    """Return who is calling, as the audit keeps it."""
    return Actor(principal.owner, principal.how, request.scope.get("request_id", ""))


Actors = Annotated[Actor, Depends(actor)]


async def session_ref(principal: Principals, session_id: str) -> Ref:
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
