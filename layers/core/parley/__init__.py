"""A session server for AI agents, deployed into your own AWS account. These names are for an agent's file."""

from parley.core.agent import Agent
from parley.core.limits import Limits
from parley.core.tool import ToolContext, tool
from parley.version import __version__

__all__ = ["Agent", "Limits", "ToolContext", "__version__", "tool"]
