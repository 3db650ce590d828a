"""A session server for AI agents, deployed into your own AWS account. These names are for an agent's file."""

from parley.core.agent import Agent
from parley.core.budget import Budget
from parley.core.limits import Limits
from parley.core.policy import Policy
from parley.core.price import Price
from parley.core.tool import ToolContext, tool
from parley.version import __version__

__all__ = ["Agent", "Budget", "Limits", "Policy", "Price", "ToolContext", "__version__", "tool"]
