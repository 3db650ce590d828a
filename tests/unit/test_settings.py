"""What the environment may say, and how it is told that it may not."""

from pathlib import Path

import pytest
from parley.settings import SettingsError, load
from parley.wiring import check


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
    assert "sk-hidden" not in repr(load({"ANTHROPIC_API_KEY": "sk-hidden"}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PARLEY_PORT", "web"),
        ("PARLEY_PORT", "70000"),
        ("PARLEY_STORE", "redis"),
        ("PARLEY_LEASE_SECONDS", "0"),
        ("PARLEY_MODEL_PROVIDER", "openai"),
        ("PARLEY_TTL_DAYS", "soon"),
        ("PARLEY_QUEUE_MAX_RECEIVES", "0"),
        ("PARLEY_CORS_ORIGIN", "https://console.example/"),
        ("PARLEY_CORS_ORIGIN", "https://a.example,https://b.example"),
    ],
)
def test_a_value_that_cannot_be_used_is_named(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load({name: value})


@pytest.mark.parametrize("origin", ["", "*", "https://console.example", "http://localhost:5173"])
def test_an_origin_is_what_a_browser_sends(origin: str) -> None:
    assert load({"PARLEY_CORS_ORIGIN": origin}).cors_origin == origin


@pytest.mark.parametrize("name", ["ANTHROPIC_API_KEY", "PARLEY_ANTHROPIC_KEY_SECRET"])
def test_claude_needs_a_key_or_a_secret_that_holds_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    chosen = {"PARLEY_MODEL_PROVIDER": "anthropic", "AWS_REGION": "eu-central-1"}

    with pytest.raises(SettingsError, match="ANTHROPIC_API_KEY"):
        check(load(chosen))
    check(load(chosen | {name: "a key, or the ARN of one"}))


@pytest.mark.parametrize("name", ["PARLEY_QUEUE_URL", "PARLEY_ADMIN_KEY_SECRET"])
def test_what_is_kept_at_aws_needs_a_region(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))

    with pytest.raises(SettingsError, match=f"{name}: set AWS_REGION"):
        check(load({name: "there"}))


def test_a_setting_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(SettingsError, match=r"PARLEY_PROT.*PARLEY_PORT"):
        load({"PARLEY_PROT": "1"})
