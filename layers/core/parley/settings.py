"""Every setting, read from the environment once, here and nowhere else."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class SettingsError(Exception):
    """An environment variable has a value that cannot be used; the message names it."""


class Settings(BaseModel):
    """What the environment says; each field names its variable."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agent: str = Field(default="agent:agent", alias="PARLEY_AGENT")
    """`module:attribute`, several parted by commas."""
    port: int = Field(default=8000, ge=0, le=65535, alias="PARLEY_PORT")
    data: Path = Field(default=Path(".parley"), alias="PARLEY_DATA")
    """Folder of the embedded store."""
    store: Literal["sqlite", "dynamodb"] = Field(default="sqlite", alias="PARLEY_STORE")
    table: str = Field(default="parley", min_length=1, alias="PARLEY_TABLE")
    bucket: str = Field(default="", alias="PARLEY_BUCKET")
    """S3 bucket for blobs; with DynamoDB on a laptop and no bucket, files under `data`."""
    model_provider: Literal["", "scripted", "anthropic", "bedrock"] = Field(default="", alias="PARLEY_MODEL_PROVIDER")
    """Empty: `anthropic` when there is a key, else `scripted`."""
    scripted_delay_seconds: float = Field(default=0.02, ge=0, le=10, alias="PARLEY_SCRIPTED_DELAY_SECONDS")
    lease_seconds: float = Field(default=30.0, ge=1, le=900, alias="PARLEY_LEASE_SECONDS")
    ttl_days: int = Field(default=30, ge=1, le=3650, alias="PARLEY_TTL_DAYS")
    """Days after which a session without activity expires."""
    recover_seconds: float = Field(default=5.0, gt=0, le=3600, alias="PARLEY_RECOVER_SECONDS")
    """How often the dev server looks for runs whose driver is gone."""
    queue_url: str = Field(default="", alias="PARLEY_QUEUE_URL")
    """SQS queue for hints; without one, the process that gives a hint follows it."""
    queue_max_receives: int = Field(default=4, ge=1, le=1000, alias="PARLEY_QUEUE_MAX_RECEIVES")
    """How often the queue gives out a message before it goes to the dead letters."""
    admin_key_secret: str = Field(default="", alias="PARLEY_ADMIN_KEY_SECRET")
    """ARN of the secret that holds the admin key; a deployment has one, a dev server needs none."""
    anthropic_key_secret: str = Field(default="", alias="PARLEY_ANTHROPIC_KEY_SECRET")
    """ARN of the secret that holds the Anthropic key; `ANTHROPIC_API_KEY` goes before it."""
    cors_origin: str = Field(default="", pattern=r"^(\*|https?://[^\s/,]+)?$", alias="PARLEY_CORS_ORIGIN")
    """The web origin that may call from a browser, or `*`; empty: none."""
    anthropic_api_key: str = Field(default="", alias="ANTHROPIC_API_KEY", repr=False)
    anthropic_base_url: str = Field(default="", alias="ANTHROPIC_BASE_URL")
    aws_endpoint_url: str = Field(default="", alias="AWS_ENDPOINT_URL")
    aws_region: str = Field(default="", alias="AWS_REGION")

    @property
    def provider(self) -> Literal["scripted", "anthropic", "bedrock"]:
        """The model provider in force."""
        return self.model_provider or ("anthropic" if self.anthropic_api_key else "scripted")


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings.

    Raises:
        SettingsError: a value cannot be used, or a `PARLEY_` variable is not known.
    """
    environment = os.environ if environment is None else environment
    names = {field.alias for field in Settings.model_fields.values() if field.alias}
    unknown = sorted(name for name in environment if name.startswith("PARLEY_") and name not in names)
    if unknown:
        known = ", ".join(sorted(name for name in names if name.startswith("PARLEY_")))
        raise SettingsError(f"{', '.join(unknown)} is not a setting of Parley. Known: {known}.")
    try:
        return Settings.model_validate({name: environment[name] for name in names if name in environment})
    except ValidationError as error:
        problems = "; ".join(f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors(include_input=False))
        raise SettingsError(problems) from error
