"""`GET /healthz`: is this process able to answer."""

from fastapi import APIRouter

from parley.api.depends import States
from parley.api.shapes import HealthShape
from parley.store import keys
from parley.version import __version__

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="Check health")
async def health(state: States) -> HealthShape:
    """Answer when the store does."""
    await state.store.table.get(keys.secret("cursor"))
    return HealthShape(version=__version__, agents=sorted(state.agents))
