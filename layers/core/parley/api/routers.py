"""Every router of the API."""

from fastapi import APIRouter

from parley.api import (
    agents,
    approvals,
    audit,
    checkpoints,
    events,
    execute,
    health,
    lives,
    messages,
    outcomes,
    plans,
    queued,
    runs,
    send,
    sessions,
    stream,
)

ROUTERS: tuple[APIRouter, ...] = (
    execute.router,
    sessions.router,
    lives.router,
    checkpoints.router,
    events.router,
    send.router,
    stream.router,
    queued.router,
    messages.router,
    runs.router,
    outcomes.router,
    approvals.router,
    plans.router,
    audit.router,
    agents.router,
    health.router,
)
