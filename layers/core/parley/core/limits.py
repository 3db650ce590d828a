"""What one agent may use before Parley stops it. Every limit ends in something visible, never in silence."""

from pydantic import BaseModel, ConfigDict, Field

MAX_INPUT_BYTES = 1_000_000
"""UTF-8 bytes of one user message; more is refused with 413."""

MAX_TOOL_OUTPUT_BYTES = 256 * 1024
"""UTF-8 bytes of one tool's output that reach the model; the rest is cut and said to be cut."""

MAX_BLOCKS_PER_ANSWER = 31
"""Blocks of one model answer: an entry holds 64 events, and has room for the answer with an intent for every call."""

MAX_INPUT_DEPTH = 100
"""Levels of nesting in a call's arguments."""

MAX_RETRY_SECONDS = 60
"""A provider may ask for a longer pause before the next try; nobody waits in front of a screen for longer."""


class Limits(BaseModel):
    """Limits of one run; an `Agent` may set its own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_steps: int = Field(default=25, ge=1, le=1000)
    """Model answers in one run; then `run.failed` with code `step_limit`."""

    max_model_retries: int = Field(default=4, ge=0, le=20)
    """Failed model calls in a row that are tried again; then `run.failed` with the last failure's code."""

    max_claims: int = Field(default=5, ge=2, le=50)
    """Drivers in a row that may die without a step of progress; then `run.failed` with code `poisoned`."""

    max_tokens: int = Field(default=16_000, ge=1, le=200_000)
    """Output tokens of one model answer, thinking included."""

    thinking_tokens: int = Field(default=2_000, ge=0, le=100_000)
    """Of these, tokens the model may spend on thinking (at least 1,024); 0 turns thinking off."""

    model_reserve_seconds: float = Field(default=60.0, ge=0, le=800)
    """Time kept for a model's answer: a driver that has less left before its deadline (Lambda's) hands the run over."""

    tool_timeout_seconds: float = Field(default=20.0, gt=0, le=600)
    """Time for one tool call, unless the tool sets its own."""
