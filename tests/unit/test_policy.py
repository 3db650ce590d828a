"""The table of levels, and what is judged by it; the cases are made from the table itself."""

import itertools
from typing import get_args

import pytest
from parley.core.policy import PRESETS, Autonomy, PlanVerdict, Policy, Preset, Verdict, judge, verdict
from parley.core.tool import Effect, Permission, Tool

from tests import guides
from tests.build import a_tool

EFFECTS: tuple[Effect, ...] = get_args(Effect)
STRICTNESS: dict[Verdict, int] = {"deny": 0, "ask": 1, "allow": 2}

every_level = pytest.mark.parametrize("level", PRESETS)
every_effect = pytest.mark.parametrize("effect", EFFECTS)


def tools(*effects: Effect) -> list[Tool]:
    return [a_tool(f"tool_{n}", effect) for n, effect in enumerate(effects)]


def test_every_level_has_a_row() -> None:
    assert set(PRESETS) == set(get_args(Autonomy))
    assert {preset.plan for preset in PRESETS.values()} == set(get_args(PlanVerdict))


def test_the_guide_shows_the_table() -> None:
    shown = guides.table("control.md", "Levels")
    rows = {f"{level}` {preset.name}": [str(cell) for cell in preset[1:]] for level, preset in PRESETS.items()}

    assert shown == rows


def test_the_guide_shows_the_policys_fields_and_defaults() -> None:
    shown = guides.table("control.md", "Policy")

    assert {name: cells[0] for name, cells in shown.items()} == {
        name: str(value) for name, value in Policy().model_dump().items()
    }


@every_effect
def test_a_level_that_may_do_more_never_asks_more(effect: Effect) -> None:
    verdicts = [STRICTNESS[getattr(preset, effect)] for preset in PRESETS.values()]

    assert verdicts == sorted(verdicts)


@every_level
def test_looking_is_always_allowed_and_what_cannot_be_undone_is_judged_strictest(level: Autonomy) -> None:
    preset = PRESETS[level]

    assert preset.read == "allow"
    assert STRICTNESS[preset.non_idempotent] <= STRICTNESS[preset.idempotent] <= STRICTNESS[preset.read]


# One call.


@every_level
@every_effect
def test_a_tool_without_a_permission_of_its_own_is_judged_by_the_table(level: Autonomy, effect: Effect) -> None:
    assert verdict(level, a_tool("act", effect)) == getattr(PRESETS[level], effect)


@every_level
@every_effect
@pytest.mark.parametrize(("permission", "says"), [("always_allow", "allow"), ("always_ask", "ask")])
def test_a_tools_own_permission_counts_except_against_a_denial(
    level: Autonomy, effect: Effect, permission: Permission, says: Verdict
) -> None:
    by_level = getattr(PRESETS[level], effect)

    judged = verdict(level, a_tool("act", effect, permission=permission))

    assert judged == ("deny" if by_level == "deny" else says)


# Several calls.


@every_level
@pytest.mark.parametrize("calls", [0, 1, 2, 3, 5])
@pytest.mark.parametrize("needed", [0, 2, 3])
def test_so_many_calls_as_the_policy_says_are_a_plan(level: Autonomy, calls: int, needed: int) -> None:
    judged = judge(Policy(plan_calls=needed), level, [a_tool("look", "read")] * calls)

    assert (judged.plan is not None) == (0 < needed <= calls)


@every_level
@pytest.mark.parametrize("effects", [*itertools.combinations_with_replacement(EFFECTS, 3)], ids=",".join)
def test_a_plan_is_judged_by_its_level(level: Autonomy, effects: tuple[Effect, ...]) -> None:
    preset: Preset = PRESETS[level]
    alone = tuple(getattr(preset, effect) for effect in effects)

    judged = judge(Policy(), level, tools(*effects))

    expected: dict[PlanVerdict, tuple[PlanVerdict, tuple[Verdict, ...]]] = {
        "refuse": ("refuse", ("deny",) * 3) if "deny" in alone else ("run", alone),
        "ask_whole": ("ask_whole", ("ask",) * 3),
        "ask_part": ("ask_part", alone),
        "run": ("run", alone),
    }
    assert (judged.plan, judged.calls) == expected[preset.plan]


@every_level
def test_a_call_of_a_tool_that_is_not_there_asks_nobody(level: Autonomy) -> None:
    judged = judge(Policy(), level, [None, None, None])

    assert judged.calls == ("allow",) * 3


@every_level
@every_effect
def test_two_calls_are_no_plan_and_each_is_judged_alone(level: Autonomy, effect: Effect) -> None:
    judged = judge(Policy(), level, tools(effect, "read"))

    assert judged == ((getattr(PRESETS[level], effect), "allow"), None)
