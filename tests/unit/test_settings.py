"""What the environment may say, and how it is told that it may not."""

import pytest
from parley.settings import SettingsError, load


def test_without_a_word_everything_has_a_default() -> None:
    settings = load({})

    assert (settings.port, str(settings.data), settings.store, settings.provider) == (
        8000,
        ".parley",
        "sqlite",
        "scripted",
    )


def test_a_key_chooses_claude_and_a_provider_chooses_over_a_key() -> None:
    assert load({"ANTHROPIC_API_KEY": "k"}).provider == "anthropic"
    assert load({"ANTHROPIC_API_KEY": "k", "PARLEY_MODEL_PROVIDER": "bedrock"}).provider == "bedrock"


def test_a_key_is_not_shown() -> None:
    assert "secret" not in repr(load({"ANTHROPIC_API_KEY": "secret"}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PARLEY_PORT", "web"),
        ("PARLEY_PORT", "70000"),
        ("PARLEY_STORE", "redis"),
        ("PARLEY_LEASE_SECONDS", "0"),
        ("PARLEY_MODEL_PROVIDER", "openai"),
        ("PARLEY_TTL_DAYS", "soon"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load({name: value})


def test_a_setting_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(SettingsError, match=r"PARLEY_PROT.*PARLEY_PORT"):
        load({"PARLEY_PROT": "1"})
