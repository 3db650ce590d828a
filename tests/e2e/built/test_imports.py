"""What a built function imports, and when."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.contract.provider import fake_anthropic
from tests.e2e.built import artifacts

pytestmark = [pytest.mark.xdist_group("processes"), pytest.mark.timeout(180)]  # the first one builds


def test_the_first_bytes_of_a_stream_leave_before_a_thread_imports_the_built_sdk(tmp_path: Path) -> None:
    environment = {
        "PYTHONPATH": os.pathsep.join(map(str, artifacts.layers())),
        "PARLEY_DATA": str(tmp_path),
        "PARLEY_MODEL_PROVIDER": "anthropic",
        "ANTHROPIC_API_KEY": "test-key",
    }
    command = [*artifacts.interpreter(), "tests/integration/first_bytes.py"]
    with fake_anthropic() as url:
        surroundings = environment | {"ANTHROPIC_BASE_URL": url}
        done = subprocess.run(command, cwd=artifacts.ROOT, env=surroundings, check=True, capture_output=True, text=True)

    told = json.loads(done.stdout)
    assert told["said"].startswith("retry: 1000\n\n")
    assert "event: complete" in told["said"]
    assert (told["imported"][0], told["imported"][-1]) == (False, True)
    assert told["on_the_loop"] == [False]
