"""When the SDK is imported: not at a cold start, not before a stream has begun, and never on the event loop."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contract.provider import fake_anthropic

ROOT = Path(__file__).parents[2]
MODULES = "import app, json, sys; print(json.dumps(sorted(sys.modules)))"


def printed(command: list[str], folder: Path, **environment: str) -> Any:
    """Run Python in a process and an environment of its own; return what it printed."""
    surroundings = {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    settings = {"PARLEY_DATA": str(folder), "PARLEY_MODEL_PROVIDER": "anthropic", "PATH": os.defpath}
    found = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=surroundings | settings | environment | {"PYTHONDONTWRITEBYTECODE": "1"},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(found.stdout)


@pytest.mark.parametrize("provider", ["anthropic", "bedrock"])
def test_a_cold_start_of_execute_does_not_import_the_sdk(tmp_path: Path, provider: str) -> None:
    secrets = {"PARLEY_ADMIN_KEY_SECRET": "arn:admin", "PARLEY_ANTHROPIC_KEY_SECRET": "arn:anthropic"}
    handlers = str(ROOT / "functions" / "execute")

    loaded = set(printed(["-c", MODULES], tmp_path, PYTHONPATH=handlers, PARLEY_MODEL_PROVIDER=provider, **secrets))

    assert {"parley.engine", "parley.adapters.claude"} <= loaded
    assert not loaded & {"anthropic", "httpx2"}


def test_the_first_bytes_of_a_stream_leave_before_a_thread_imports_the_sdk(tmp_path: Path) -> None:
    script = ["-m", "tests.integration.first_bytes"]
    with fake_anthropic() as url:
        told = printed(script, tmp_path, ANTHROPIC_API_KEY="test-key", ANTHROPIC_BASE_URL=url)

    assert told["said"].startswith("retry: 1000\n\n")
    assert "event: complete" in told["said"]
    assert (told["imported"][0], told["imported"][-1]) == (False, True)
    assert told["on_the_loop"] == [False]
