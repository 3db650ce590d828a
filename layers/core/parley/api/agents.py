"""`/v1/agents`: what is deployed. Agents are code; they change by deploying."""

from fastapi import APIRouter

from parley.api.depends import States
from parley.api.pages import page_of
from parley.api.shapes import AgentShape, ModelShape, PageOf, ToolShape
from parley.core.agent import Agent
from parley.core.budget import Budget

router = APIRouter(tags=["agents"])

DEPLOYED_AT = "1970-01-01T00:00:00.000Z"
"""Agents are code and have no birthday of their own; the SDK's type wants one."""


@router.get("/v1/agents", summary="List agents")
async def list_agents(state: States) -> PageOf[AgentShape]:
    """List the deployed agents."""
    return page_of([agent_shape(agent) for agent in state.agents.values()], None)


@router.get("/v1/agents/{agent_id}", summary="Get an agent")
async def get_agent(agent_id: str, state: States) -> AgentShape:
    """Return one deployed agent with its tools."""
    return agent_shape(state.agent(agent_id))


def agent_shape(agent: Agent) -> AgentShape:
    """Write an agent."""
    return AgentShape(
        id=agent.id,
        name=agent.name or agent.id,
        description=agent.description,
        version=agent.version,
        model=ModelShape(id=agent.model),
        system=agent.prompt,
        tools=[
            ToolShape(
                name=tool.name,
                description=tool.description,
                input_schema=tool.input_schema,
                effect=tool.effect,
                permission=tool.permission,
            )
            for tool in agent.tools
        ],
        limits=agent.limits.model_dump(),
        policy=agent.policy,
        budget=agent.budget if agent.budget != Budget() else None,
        daily_budget=agent.daily_budget,
        price=agent.its_price,
        created_at=DEPLOYED_AT,
        updated_at=DEPLOYED_AT,
    )
