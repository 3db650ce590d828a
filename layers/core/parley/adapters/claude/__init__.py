"""Claude as a `Model`: over the Anthropic API (`api`), and over Amazon Bedrock (`bedrock`).

Decides how a `ModelRequest` is put (`request`) and what each failure of the provider means (`failures`).
Whether an answer is whole is the accumulator's to say. Importing this does not import the SDK (`deferred`).
"""

from parley.adapters.claude.deferred import over_api, over_bedrock

__all__ = ["over_api", "over_bedrock"]
