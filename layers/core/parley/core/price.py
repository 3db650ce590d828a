"""What a model's tokens cost: a dated table of list prices, in micro-dollars, rounded up.

Source: "Pricing" on platform.claude.com and the models' own pages there (read 2026-11-28). What is written into the
cache is kept for 5 minutes: Parley asks for no longer. Sonnet 5.5 reads its cache for half of what it cost before
2026-10-07. Haiku 5.5 costs more, on every token, when it is sent more than 100,000. On Bedrock a model counts as here:
what a cloud adds for keeping requests inside a region, or a contract takes off, is in no list price.
"""

import re

from pydantic import BaseModel, ConfigDict, Field

from parley.core.value import Usage

MILLION = 1_000_000


class Price(BaseModel):
    """Micro-dollars for a million tokens: $3 are 3_000_000."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: int = Field(ge=0)
    output: int = Field(ge=0)
    cache_write: int = Field(ge=0)
    cache_read: int = Field(ge=0)
    long_from: int | None = Field(default=None, ge=1)
    """More tokens than this in one request, and the whole of it costs what `long` says."""
    long: "Price | None" = None

    def cost(self, usage: Usage) -> int:
        """Say what one request costs, in micro-dollars."""
        sent = usage.total - usage.output_tokens
        if self.long and self.long_from is not None and sent > self.long_from:
            return self.long.cost(usage)
        parts = (
            usage.input_tokens * self.input,
            usage.output_tokens * self.output,
            usage.cache_creation_input_tokens * self.cache_write,
            usage.cache_read_input_tokens * self.cache_read,
        )
        return -(-sum(parts) // MILLION)


def _price(*dollars: str) -> Price:
    """Read dollars for a million tokens as the list writes them: input, output, cache write, cache read."""
    taken, given, cache_write, cache_read = map(_micro, dollars)
    return Price(input=taken, output=given, cache_write=cache_write, cache_read=cache_read)


def _micro(dollars: str) -> int:
    whole, _, part = dollars.partition(".")
    return int(whole) * MILLION + int(part.ljust(6, "0"))


_OPUS = _price("5", "25", "6.25", "0.50")
_OLD_OPUS = _price("15", "75", "18.75", "1.50")
_SONNET = _price("3", "15", "3.75", "0.30")
_LONG_HAIKU = _price("0.50", "2.50", "0.625", "0.05")

PRICES: dict[str, Price] = {
    "claude-fable-5-1": _price("10", "50", "12.50", "0.25"),
    "claude-mythos-5-1": _price("10", "50", "12.50", "0.25"),
    "claude-fable-5": _price("10", "50", "12.50", "1"),
    "claude-mythos-5": _price("10", "50", "12.50", "1"),
    "claude-opus-5-5": _price("4", "20", "5", "0.20"),
    "claude-opus-5": _OPUS,
    "claude-opus-4-8": _OPUS,
    "claude-opus-4-7": _OPUS,
    "claude-opus-4-6": _OPUS,
    "claude-opus-4-5": _OPUS,
    "claude-opus-4-1": _OLD_OPUS,
    "claude-opus-4": _OLD_OPUS,
    "claude-sonnet-5-5": _price("2", "10", "2.50", "0.10"),
    "claude-sonnet-5": _price("2", "10", "2.50", "0.20"),
    "claude-sonnet-4-6": _SONNET,
    "claude-sonnet-4-5": _SONNET,
    "claude-sonnet-4": _SONNET,
    "claude-haiku-5-5": _price("0.10", "0.50", "0.125", "0.01").model_copy(
        update={"long_from": 100_000, "long": _LONG_HAIKU}
    ),
    "claude-haiku-4-5": _price("1", "5", "1.25", "0.10"),
}
"""By the model's name; a model that is not here has no price, and nobody guesses one."""

_NAME = re.compile(r"(?:[a-z-]+\.)?(?:anthropic\.)?(claude-[a-z0-9-]+?)(?:-20\d{6})?(?:-v\d+(?::\d+)?)?")
"""An id: a region and a provider before the model's name, a date and a version behind it."""


def price_of(model: str) -> Price | None:
    """Find the list price of a model by its id, on the API or on Bedrock."""
    found = _NAME.fullmatch(model)
    return PRICES.get(found[1]) if found else None
