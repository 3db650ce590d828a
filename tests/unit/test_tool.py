"""Tools: a function's signature becomes a schema, and arguments are held against it."""

from typing import Annotated, Any, Literal

import pytest
from inline_snapshot import snapshot
from parley.core.tool import Tool, ToolContext, tool
from pydantic import BaseModel, Field

from tests import build


@tool
def transfer(
    to: str,
    amount: Annotated[int, Field(ge=1, description="In cents.")],
    currency: Literal["EUR", "USD"] = "EUR",
    notes: list[str] | None = None,
) -> str:
    """Send money.

    At once.
    """
    return f"{amount} {currency} to {to} {notes}"


def test_name_description_and_effect_come_from_the_function() -> None:
    assert (transfer.name, transfer.description) == ("transfer", "Send money.\n\nAt once.")
    assert transfer.effect == "non_idempotent"


def test_the_schema_comes_from_the_signature() -> None:
    assert transfer.input_schema == snapshot(
        {
            "additionalProperties": False,
            "properties": {
                "to": {"type": "string"},
                "amount": {"description": "In cents.", "minimum": 1, "type": "integer"},
                "currency": {"default": "EUR", "enum": ["EUR", "USD"], "type": "string"},
                "notes": {"anyOf": [{"items": {"type": "string"}, "type": "array"}, {"type": "null"}], "default": None},
            },
            "required": ["to", "amount"],
            "type": "object",
        }
    )


def test_a_tool_without_parameters_has_an_empty_object() -> None:
    @tool
    def now() -> str:
        return "noon"

    assert now.input_schema == {"type": "object", "properties": {}, "additionalProperties": False}
    assert (now.description, now.parse({})) == ("", {})


def test_the_schema_is_made_once() -> None:
    assert transfer.input_schema is transfer.input_schema


def test_options_are_given_to_the_decorator() -> None:
    @tool(effect="read", name="look-up", timeout_seconds=3)
    def find(what: str) -> str:
        return what

    assert (find.name, find.effect, find.timeout_seconds) == ("look-up", "read", 3)


def test_a_tool_is_still_a_function() -> None:
    assert transfer("ann", 5) == "5 EUR to ann None"


def test_the_context_is_handed_in_and_not_in_the_schema() -> None:
    @tool
    def who(context: ToolContext, question: str) -> str:
        return context.owner + question

    assert who.context_parameter == "context"
    assert list(who.input_schema["properties"]) == ["question"]


def test_arguments_become_the_functions_own_types() -> None:
    class Address(BaseModel):
        city: str

    def send(address: Address, count: int = 1) -> str:
        return address.city * count

    send.__annotations__["address"] = Address

    parsed = tool(send).parse({"address": {"city": "Bonn"}})

    assert parsed == {"address": Address(city="Bonn"), "count": 1}


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({}, "to: "),
        ({"to": "ann", "amount": 0}, "amount: "),
        ({"to": "ann", "amount": "many"}, "amount: "),
        ({"to": "ann", "amount": 1, "currency": "DM"}, "currency: "),
        ({"to": "ann", "amount": 1, "speed": 9}, "speed: "),
        ({"to": "ann", "amount": 1, "notes": [1]}, "notes.0: "),
        ({"to": None, "amount": 1}, "to: "),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_the_place(arguments: dict[str, Any], where: str) -> None:
    with pytest.raises(ValueError, match=where):
        transfer.parse(arguments)


def test_a_refusal_does_not_repeat_what_was_given() -> None:
    with pytest.raises(ValueError, match="amount") as caught:
        transfer.parse({"to": "ann", "amount": "the secret"})

    assert "the secret" not in str(caught.value)


def test_a_parameter_without_a_type_is_refused_when_the_tool_is_made() -> None:
    def careless(what) -> str:  # type: ignore[no-untyped-def]
        return str(what)

    with pytest.raises(TypeError, match="'what' needs a type hint"):
        tool(careless)


def test_parameters_that_have_no_name_for_the_model_are_refused() -> None:
    def many(*what: str) -> str:
        return "".join(what)

    def named(**what: str) -> str:
        return "".join(what)

    def only_by_place(what: str, /) -> str:
        return what

    for function in (many, named, only_by_place):
        with pytest.raises(TypeError, match="plain named"):
            tool(function)


def named_parameter(name: str) -> Tool:
    """Make a tool with one parameter of this name."""
    names: dict[str, Any] = {}
    exec(f"def act({name}: int = 0) -> str: ...", names)
    return tool(names["act"])


@pytest.mark.parametrize("name", ["schema", "json", "copy", "dict", "validate", "model_name", "self", "model_dump"])
def test_a_parameter_may_have_any_name_that_python_allows(name: str) -> None:
    made = named_parameter(name)

    assert list(made.input_schema["properties"]) == [name]
    assert made.parse({name: 5}) == {name: 5}


@pytest.mark.parametrize("name", ["_hidden", "model_config"])
def test_a_parameter_whose_name_cannot_be_a_field_works_or_is_refused_when_the_tool_is_made(name: str) -> None:
    try:
        made = named_parameter(name)
    except TypeError:
        return
    assert made.parse({name: 5}) == {name: 5}


def test_tools_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        build.PAY.effect = "read"  # type: ignore[misc]
