"""Something that a model or a tool waits for until the test lets it go on."""

import asyncio
from typing import Any

from parley.core.tool import ToolContext, ToolOutcome


class Gate:
    """Closed at first; `reached` when somebody stands before it."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def __call__(self) -> None:
        self.reached.set()
        await self.opened.wait()

    async def tool(self, arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        await self()
        return ToolOutcome("ok", "done")
