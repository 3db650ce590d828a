"""Tools that do what the test says, and remember that they were called."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from parley.core.agent import Agent
from parley.core.tool import ToolContext, ToolOutcome

Play = ToolOutcome | BaseException | Callable[[dict[str, Any], ToolContext], Awaitable[ToolOutcome]]


@dataclass(frozen=True, slots=True)
class Called:
    """One call of a tool."""

    name: str
    arguments: dict[str, Any]
    context: ToolContext


class PlayedTools:
    """Plays one outcome per tool name, as often as it is called; an exception is a process that dies there."""

    def __init__(self, **plays: Play) -> None:
        self.plays: dict[str, Play] = dict(plays)
        self.called: list[Called] = []

    @property
    def names(self) -> list[str]:
        """The tools in the order they were called."""
        return [called.name for called in self.called]

    async def call(self, agent: Agent, name: str, arguments: dict[str, Any], context: ToolContext) -> ToolOutcome:
        self.called.append(Called(name, arguments, context))
        play = self.plays.get(name, ToolOutcome("ok", "done"))
        if isinstance(play, BaseException):
            raise play
        return play if isinstance(play, ToolOutcome) else await play(arguments, context)
