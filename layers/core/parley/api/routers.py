"""Every router of the API."""

from fastapi import APIRouter

from parley.api import agents, events, execute, health, messages, outcomes, runs, send, sessions, stream

ROUTERS: tuple[APIRouter, ...] = (
    execute.router,
    sessions.router,
    events.router,
    send.router,
    stream.router,
    messages.router,
    runs.router,
    outcomes.router,
    agents.router,
    health.router,
)
