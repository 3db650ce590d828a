"""An agent: a prompt, a model, tools, limits and policy. Its version is the hash of these."""

import hashlib
import json
import re
from functools import cached_property
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from parley.core.budget import Budget
from parley.core.limits import Limits
from parley.core.policy import Policy
from parley.core.price import Price, price_of
from parley.core.tool import NAME_PATTERN, Tool

DEFAULT_MODEL = "claude-sonnet-5-5"


class Agent(BaseModel):
    """What a user writes in a file of `layers/agent`."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    id: str = Field(pattern=r"^[a-z0-9-]{1,64}$")
    """Slug in every URL of this agent."""

    prompt: str = Field(min_length=1)
    """System prompt."""

    name: str = ""
    """Name for people; the id when empty."""

    description: str = ""

    model: str = DEFAULT_MODEL
    """Model id, as the provider spells it."""

    tools: tuple[Tool, ...] = ()

    limits: Limits = Limits()

    policy: Policy = Policy()
    """When it asks a person first."""

    budget: Budget = Budget()
    """Caps of a session that has no budget of its own."""

    daily_budget: int | None = Field(default=None, ge=1)
    """Micro-dollars that all sessions of this agent may cost in a day, of UTC; needs a price."""

    price: Price | None = None
    """What the model costs, when it is not the list price."""

    @field_validator("tools", mode="before")
    @classmethod
    def _are_tools(cls, tools: object) -> object:
        for each in tools if isinstance(tools, list | tuple) else ():
            if callable(each) and not isinstance(each, Tool):
                raise ValueError(f"'{getattr(each, '__name__', each)}' is a plain function: put @tool above it")
        return tools

    @field_validator("tools")
    @classmethod
    def _names_are_unique_and_legal(cls, tools: tuple[Tool, ...]) -> tuple[Tool, ...]:
        names = [tool.name for tool in tools]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two tools have the same name: {', '.join(doubled)}")
        if illegal := [name for name in names if not re.fullmatch(NAME_PATTERN, name)]:
            raise ValueError(f"tool names must match {NAME_PATTERN}: {', '.join(illegal)}")
        return tools

    @model_validator(mode="after")
    def _money_can_be_counted(self) -> Self:
        if (self.daily_budget or self.budget.max_cost) and self.its_price is None:
            raise ValueError(f"'{self.model}' has no list price: give the agent a `price`, or no cap on money")
        return self

    def tool(self, name: str) -> Tool | None:
        """Return the tool of that name, or `None`."""
        return next((tool for tool in self.tools if tool.name == name), None)

    @property
    def its_price(self) -> Price | None:
        """What its model costs, or `None` when nobody knows."""
        return self.price or price_of(self.model)

    @cached_property
    def tools_json(self) -> bytes:
        """The `tools` of a model request: the same bytes in every request keep the model's cache warm."""
        tools: list[dict[str, Any]] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema}
            for tool in self.tools
        ]
        return json.dumps(tools, ensure_ascii=False, separators=(",", ":")).encode()

    @cached_property
    def version(self) -> int:
        """Hash of what the agent is, as a positive integer that JavaScript can hold (48 bits)."""
        parts = [
            self.prompt,
            self.model,
            self.tools_json.decode(),
            json.dumps([(tool.effect, tool.permission) for tool in self.tools]),
            self.limits.model_dump_json(),
            self.policy.model_dump_json(),
        ]
        return int.from_bytes(hashlib.sha256("\0".join(parts).encode()).digest()[:6], "big") or 1
