"""Every router of the API."""

from fastapi import APIRouter

from parley.api import agents, events, execute, health, messages, outcomes, runs, sessions

ROUTERS: tuple[APIRouter, ...] = (
    execute.router,
    sessions.router,
    events.router,
    messages.router,
    runs.router,
    outcomes.router,
    agents.router,
    health.router,
)
