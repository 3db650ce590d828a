"""What a tool is: a Python function, its schema, and what repeating it would do.

Decides how a signature becomes a schema and whether arguments fit it. It does not run anything: adapters do.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

Effect = Literal["read", "idempotent", "non_idempotent"]
"""What doing it twice means: nothing at all; the same as once, given the same key; or twice the effect."""

Permission = Literal["always_allow", "always_ask", "auto"]
"""Whether a person is asked before a call: never, always, or as the level of autonomy has it for the tool's effect."""

NAME_PATTERN = r"^[a-zA-Z0-9_-]{1,64}$"


@dataclass(frozen=True, slots=True)
class ToolContext:
    """Who is asking, handed to a tool that declares a parameter of this type.

    `idempotency_key` is the same for every attempt at the same call: pass it on to whatever you call.
    """

    tenant: str
    owner: str
    session_id: str
    run_id: str
    tool_use_id: str
    idempotency_key: str
    task_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


OutcomeStatus = Literal["ok", "error", "unknown"]


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """What came of a call: `ok`, `error` (the model reads why), or `unknown` (it may have happened: ask)."""

    status: OutcomeStatus
    text: str


@dataclass(frozen=True)
class Tool:
    """One tool of an agent, made by `@tool`."""

    name: str
    description: str
    effect: Effect
    function: Callable[..., Any]
    arguments: type[BaseModel]
    context_parameter: str | None
    timeout_seconds: float | None = None
    permission: Permission = "auto"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the function returns
        """Call the plain function, as in a test of yours."""
        return self.function(*args, **kwargs)

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        """JSON Schema of the arguments, always of type `object`; made once, for every session that is shown has it."""
        schema = self.arguments.model_json_schema()
        for name in ("title", "description"):
            schema.pop(name, None)
        for parameter in schema.get("properties", {}).values():
            parameter.pop("title", None)
        schema.setdefault("properties", {})
        return schema

    def parse(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments as the function's own types.

        Raises:
            ValueError: they do not fit; the message says where, without repeating the values.
        """
        try:
            parsed = self.arguments.model_validate(arguments)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(str(part) for part in problem['loc']) or 'input'}: {problem['msg']}"
                for problem in error.errors(include_input=False, include_url=False)
            )
            raise ValueError(problems) from error
        return {field.alias or name: getattr(parsed, name) for name, field in type(parsed).model_fields.items()}


@overload
def tool(function: Callable[..., Any], /) -> Tool: ...
@overload
def tool(
    *, effect: Effect = ..., permission: Permission = ..., name: str | None = ..., timeout_seconds: float | None = ...
) -> Callable[[Callable[..., Any]], Tool]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    effect: Effect = "non_idempotent",
    permission: Permission = "auto",
    name: str | None = None,
    timeout_seconds: float | None = None,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a function: schema from its type hints, description from its docstring.

    `effect` is what Parley may do after a crash: `read` and `idempotent` calls are made again, a
    `non_idempotent` one (the default) never without a person's word. `permission` is whether a person is asked first.

    Raises:
        TypeError: effect or permission is none of the three; a parameter has no type hint, or is not a plain named one.
    """
    for said, value, words in (("effect", effect, Effect), ("permission", permission, Permission)):
        if value not in typing.get_args(words):
            raise TypeError(f"{said}='{value}' is not one of {', '.join(typing.get_args(words))}.")

    def make(function: Callable[..., Any]) -> Tool:
        arguments, context_parameter = _arguments(function)
        return Tool(
            name=name or function.__name__,
            description=inspect.getdoc(function) or "",
            effect=effect,
            function=function,
            arguments=arguments,
            context_parameter=context_parameter,
            timeout_seconds=timeout_seconds,
            permission=permission,
        )

    return make if function is None else make(function)


def _arguments(function: Callable[..., Any]) -> tuple[type[BaseModel], str | None]:
    hints = typing.get_type_hints(function, include_extras=True)
    fields: dict[str, Any] = {}
    context_parameter = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise TypeError(f"Tool '{function.__name__}': parameter '{parameter.name}' must be a plain named one.")
        if parameter.name not in hints:
            raise TypeError(f"Tool '{function.__name__}': parameter '{parameter.name}' needs a type hint.")
        if hints[parameter.name] is ToolContext:
            context_parameter = parameter.name
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        # Python's name is the alias: as a field's own name, `schema` or `_x` would mean something to pydantic.
        fields[f"argument_{len(fields)}"] = (hints[parameter.name], Field(default, alias=parameter.name))
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
    return create_model(function.__name__, __config__=config, **fields), context_parameter
