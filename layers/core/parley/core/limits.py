"""What one agent may use before Parley stops it. Every limit ends in something visible, never in silence."""

from pydantic import BaseModel, ConfigDict, Field

MAX_INPUT_BYTES = 1_000_000
"""UTF-8 bytes of the text of one user message; more is refused with 413."""

MAX_BLOCKS = 64
"""Blocks of one user message."""

MAX_IMAGES = 20
"""Images of one user message; with more than 20 in a request, Claude takes none of over 2,000 pixels a side.

From "Vision" on platform.claude.com (read 2026-11-28): JPEG, PNG, GIF and WebP; 100 images a request of the API, or 600
where the context is larger than 200,000 tokens (claude.ai: 20 a message); at most 8,000 by 8,000 pixels; a request has
at most 32 MB. Nobody here looks at pixels: an image that Claude refuses leaves the conversation (`core/image.py`).
"""

MAX_IMAGE_BYTES = 5 * 1024 * 1024
"""Base64 bytes of one image, as the API has it; more is refused with 422.

All of them together are bounded by the door. A body has at most 10 MB (API Gateway's limit, and `make dev`'s), but
an invocation of Lambda has at most 6,291,456 bytes ("Lambda quotas", read 2026-11-28), the event around the body
included. API Gateway answers what is larger with 413 by itself (`REQUEST_TOO_LARGE` of template.yaml).
"""

MAX_CONTEXT_IMAGES = 100
"""Images of one request to the model, as many as every model takes; the oldest leave the conversation for new ones."""

MAX_CONTEXT_IMAGE_BYTES = 16 * 1000 * 1000
"""Base64 bytes of the images of one request: half of what the API takes: text is in it, too. Bedrock takes 20 MB."""

MAX_TOOL_OUTPUT_BYTES = 256 * 1024
"""UTF-8 bytes of one tool's output that reach the model; the rest is cut and said to be cut."""

MAX_BLOCKS_PER_ANSWER = 28
"""Blocks of one model answer: an entry holds 64 events, the answer with its plan and an intent for every call."""

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

    compact_at_tokens: int = Field(default=150_000, ge=0, le=10_000_000)
    """Length of a conversation, in tokens, from which on its beginning is replaced by a summary; 0: never."""

    thinking_tokens: int = Field(default=2_000, ge=0, le=100_000)
    """Of these, tokens the model may spend on thinking (at least 1,024); 0 turns thinking off."""

    model_reserve_seconds: float = Field(default=60.0, ge=0, le=800)
    """Time kept for a model's answer: a driver that has less left before its deadline (Lambda's) hands the run over."""

    tool_timeout_seconds: float = Field(default=20.0, gt=0, le=600)
    """Time for one tool call, unless the tool sets its own."""
