"""`/v1/agents`: what is deployed. Agents are code; they change by deploying."""

from typing import Any

from fastapi import APIRouter

from parley.api.pages import PageOf, page_of
from parley.api.state import States
from parley.core.agent import Agent

router = APIRouter(tags=["agents"])

DEPLOYED_AT = "1970-01-01T00:00:00.000Z"
"""Agents are code and have no birthday of their own; the SDK's type wants one."""


@router.get("/v1/agents", summary="List agents")
async def list_agents(state: States) -> PageOf:
    """List the deployed agents."""
    return page_of([agent_shape(agent) for agent in state.agents.values()], None)


@router.get("/v1/agents/{agent_id}", summary="Get an agent")
async def get_agent(agent_id: str, state: States) -> dict[str, Any]:
    """Return one deployed agent with its tools."""
    return agent_shape(state.agent(agent_id))


def agent_shape(agent: Agent) -> dict[str, Any]:
    """Write an agent as `anthropic.types.beta.BetaManagedAgentsAgent` has it (2.11, read 2026-11-20), and more."""
    return {
        "id": agent.id,
        "type": "agent",
        "name": agent.name or agent.id,
        "description": agent.description,
        "version": agent.version,
        "model": {"id": agent.model},
        "system": agent.prompt,
        "tools": [
            {
                "type": "custom",
                "name": tool.name,
                "description": tool.description,
                "input_schema": tool.input_schema,
                "effect": tool.effect,
            }
            for tool in agent.tools
        ],
        "limits": agent.limits.model_dump(),
        "mcp_servers": [],
        "skills": [],
        "metadata": {},
        "created_at": DEPLOYED_AT,
        "updated_at": DEPLOYED_AT,
        "archived_at": None,
    }
