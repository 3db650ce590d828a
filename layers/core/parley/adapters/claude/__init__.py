"""Claude as a `Model`: over the Anthropic API (`api`), and over Amazon Bedrock (`bedrock`).

Decides how a `ModelRequest` is put (`request`) and what each failure of the provider means (`failures`).
Whether an answer is whole is the accumulator's to say.
"""

from parley.adapters.claude.api import ClaudeModel
from parley.adapters.claude.bedrock import BedrockModel

__all__ = ["BedrockModel", "ClaudeModel"]
