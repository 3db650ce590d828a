"""The agents that are measured: as much as the floor has, and one whose tool gives prose."""

from parley import Agent, Limits, ToolContext, tool

from benchmarks.prose import Prose

TOOL_OUTPUT_CHARS = 4_000


@tool(effect="idempotent")
async def lookup(key: str) -> str:
    """Look something up."""
    return f"The value of {key} is 42."


@tool
async def search(query: str, context: ToolContext) -> str:
    """Search the library; what is found is as long as it usually is."""
    return Prose(f"{query} {context.tool_use_id}").text(TOOL_OUTPUT_CHARS)


agent = Agent(id="bench", prompt="You answer briefly.", tools=(lookup,))
"""The floor's prompt, model and tool."""

librarian = Agent(id="librarian", prompt="You answer briefly.", tools=(search,), limits=Limits(compact_at_tokens=0))
"""Its sessions are never compacted."""

forgetful_librarian = librarian.model_copy(update={"limits": Limits(compact_at_tokens=50_000)})

untouched = agent.model_copy(update={"limits": Limits(compact_at_tokens=0)})
forgetful = agent.model_copy(update={"limits": Limits(compact_at_tokens=20_000)})
"""The same as the first, whose sessions are never or often compacted."""
