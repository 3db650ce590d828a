"""Agents: what is refused when one is made, and what its version depends on."""

import json
from typing import Any

import pytest
from parley.core.agent import Agent
from parley.core.limits import Limits
from pydantic import ValidationError

from tests import build
from tests.build import a_tool


def an_agent(**changes: Any) -> Agent:
    return Agent(**{"id": "bank", "prompt": "Be brief.", "tools": (a_tool("pay"),)} | changes)


def test_the_version_is_the_same_for_the_same_agent_in_every_process() -> None:
    assert an_agent().version == an_agent().version
    assert an_agent(tools=()).version == Agent(id="other", prompt="Be brief.").version


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "Be briefer."},
        {"model": "claude-haiku-4-5"},
        {"tools": ()},
        {"tools": (a_tool("pay", "idempotent"),)},
        {"tools": (a_tool("pay"), a_tool("look"))},
        {"limits": Limits(max_steps=3)},
    ],
    ids=["prompt", "model", "no tools", "effect", "another tool", "limits"],
)
def test_the_version_changes_with_what_the_agent_is(change: dict[str, Any]) -> None:
    assert an_agent(**change).version != an_agent().version


def test_names_for_people_do_not_change_the_version() -> None:
    assert an_agent(name="Bank", description="Pays.").version == an_agent().version


def test_a_version_is_a_positive_integer_that_javascript_can_hold() -> None:
    assert 0 < an_agent().version < 2**53


@pytest.mark.parametrize("id", ["", "Bank", "bank_1", "a" * 65, "bänk", "a b", "bank\n"])
def test_an_id_is_a_slug(id: str) -> None:
    with pytest.raises(ValidationError):
        an_agent(id=id)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": ""},
        {"tools": (a_tool("pay"), a_tool("pay"))},
        {"tools": (a_tool("pay me"),)},
        {"tools": (a_tool("x" * 65),)},
        {"tools": (a_tool("pay\n"),)},
        {"colour": "red"},
    ],
    ids=["no prompt", "two of a name", "illegal name", "name too long", "name with a newline", "unknown field"],
)
def test_an_agent_that_cannot_work_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        an_agent(**change)


@pytest.mark.parametrize(
    "limits",
    [{"max_steps": 0}, {"max_claims": 1}, {"max_model_retries": -1}, {"tool_timeout_seconds": 0}, {"speed": 1}],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Limits(**limits)


def test_a_tool_is_found_by_its_name() -> None:
    assert build.agent().tool("pay") is build.PAY
    assert build.agent().tool("stranger") is None


def test_tools_are_told_to_the_model_as_the_same_bytes_each_time() -> None:
    agent = an_agent()

    assert agent.tools_json is agent.tools_json
    assert json.loads(agent.tools_json) == [
        {"name": "pay", "description": "Act.", "input_schema": a_tool("pay").input_schema}
    ]


def test_a_function_without_the_decorator_is_told_what_it_lacks() -> None:
    def pay() -> str:
        """Pay."""
        return "paid"

    with pytest.raises(ValueError, match="'pay' is a plain function: put @tool above it"):
        Agent.model_validate({"id": "bank", "prompt": "-", "tools": [pay]})
