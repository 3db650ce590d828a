"""The Anthropic key when it is kept as a secret."""

from typing import Protocol

from parley.core.errors import ModelError, Unavailable

PLACEHOLDER = "not-set"
"""What template.yaml puts into the secret; `make set-key` replaces it."""


class Secret(Protocol):
    """A text that may change while the process lives."""

    async def read(self, *, fresh: bool = False) -> str:
        """Return the text; `fresh` when what was read before this call will not do."""
        ...


async def read_key(secret: Secret, *, fresh: bool = False) -> str:
    """Read the key; a placeholder is looked at twice, because somebody may have set the key a moment ago.

    Raises:
        ModelError: there is none yet, or the secret cannot be read.
    """
    try:
        key = await secret.read(fresh=fresh)
        if key in ("", PLACEHOLDER) and not fresh:
            key = await secret.read(fresh=True)
    except Unavailable as error:
        raise ModelError("request_failed", f"The Anthropic key cannot be read. {error.message}") from error
    if key in ("", PLACEHOLDER):
        raise ModelError("no_access", "No Anthropic key is set. Run `make set-key`.")
    return key
