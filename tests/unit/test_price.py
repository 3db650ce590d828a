"""What tokens cost: a table of list prices, integers, rounded up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parley.core.agent import DEFAULT_MODEL, Agent
from parley.core.price import PRICES, Price, price_of
from parley.core.value import Usage
from pydantic import ValidationError

CHEAP = Price(input=1_000_000, output=5_000_000, cache_write=1_250_000, cache_read=100_000)

TOKENS = st.integers(0, 2_000_000)
USAGES = st.builds(Usage, **dict.fromkeys(Usage.model_fields, TOKENS))


def test_every_kind_of_token_has_its_price() -> None:
    million = 1_000_000

    assert CHEAP.cost(Usage(input_tokens=million)) == 1_000_000
    assert CHEAP.cost(Usage(output_tokens=million)) == 5_000_000
    assert CHEAP.cost(Usage(cache_creation_input_tokens=million)) == 1_250_000
    assert CHEAP.cost(Usage(cache_read_input_tokens=million)) == 100_000


def test_a_part_of_a_micro_dollar_is_a_whole_one_once_per_request() -> None:
    assert CHEAP.cost(Usage(cache_read_input_tokens=1)) == 1
    assert CHEAP.cost(Usage(cache_read_input_tokens=11, cache_creation_input_tokens=1)) == 3
    assert CHEAP.cost(Usage()) == 0


@given(USAGES, st.sampled_from(sorted(PRICES)))
def test_a_cost_is_exact_and_never_rounded_down(usage: Usage, model: str) -> None:
    price = PRICES[model]
    price = price.long if price.long and usage.total - usage.output_tokens > (price.long_from or 0) else price

    exact = (
        usage.input_tokens * price.input
        + usage.output_tokens * price.output
        + usage.cache_creation_input_tokens * price.cache_write
        + usage.cache_read_input_tokens * price.cache_read
    )

    assert 0 <= PRICES[model].cost(usage) * 1_000_000 - exact < 1_000_000


def test_a_long_request_may_cost_more_on_every_token() -> None:
    haiku = PRICES["claude-haiku-5-5"]

    at_most = haiku.cost(Usage(input_tokens=60_000, cache_read_input_tokens=40_000, output_tokens=1000))
    longer = haiku.cost(Usage(input_tokens=60_001, cache_read_input_tokens=40_000, output_tokens=1000))

    assert at_most == 6_000 + 400 + 500
    assert longer == 30_001 + 2_000 + 2_500


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("claude-sonnet-5-5", "claude-sonnet-5-5"),
        ("anthropic.claude-sonnet-5-5", "claude-sonnet-5-5"),
        ("us.anthropic.claude-sonnet-5-5", "claude-sonnet-5-5"),
        ("claude-sonnet-5-20260630", "claude-sonnet-5"),
        ("global.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5"),
        ("anthropic.claude-opus-4-20250514-v1:0", "claude-opus-4"),
        ("claude-opus-5-5", "claude-opus-5-5"),
    ],
)
def test_a_model_has_one_price_however_its_provider_spells_it(model: str, name: str) -> None:
    assert price_of(model) is PRICES[name]


@pytest.mark.parametrize("model", ["a-model-of-tomorrow", "claude-sonnet-9", "scripted", "", "x-claude-opus-5-5-fast"])
def test_a_model_that_is_not_in_the_table_has_no_price(model: str) -> None:
    assert price_of(model) is None


def test_the_model_of_an_agent_that_names_none_has_a_price() -> None:
    assert price_of(DEFAULT_MODEL)


def test_an_agent_may_bring_its_own_price() -> None:
    agent = Agent(id="any", prompt="Any.", model="a-model-of-tomorrow", price=CHEAP, daily_budget=5_000_000)

    assert agent.its_price is CHEAP


def test_an_agent_cannot_cap_money_that_nobody_can_count() -> None:
    with pytest.raises(ValidationError, match="'a-model-of-tomorrow' has no list price: give the agent a `price`"):
        Agent(id="any", prompt="Any.", model="a-model-of-tomorrow", daily_budget=5_000_000)


def test_what_an_agent_may_cost_is_no_part_of_what_it_is() -> None:
    assert Agent(id="any", prompt="Any.", daily_budget=5).version == Agent(id="any", prompt="Any.").version
