"""What the README and the command line say works when it is done to the letter."""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from parley import Agent

from tests.e2e.processes import ROOT, Process, client, fake_anthropic, parley, running, with_claude

pytestmark = pytest.mark.xdist_group("processes")

README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the README's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(lambda: parley(tmp_path_factory.mktemp("readme"))) as process:
        yield process


def test_the_readmes_curl_lines_work(server: Process) -> None:
    lines = [block for block in blocks("sh") if "curl" in block]

    for line in lines:
        script = line.replace("http://127.0.0.1:8000", server.url)
        if "appr_…" in script:
            script = script.replace("appr_…", a_donation_that_waits(server))
        answer = subprocess.run(script, shell=True, capture_output=True, text=True, timeout=60)
        assert answer.returncode == 0, answer.stderr
        assert "completed" in answer.stdout or '"status":"approved"' in answer.stdout

    assert len(lines) == 3


def a_donation_that_waits(server: Process) -> str:
    """Say what the README says, and return the id of the approval that waits then."""
    with client(server) as http:
        http.post("/v1/agents/wallet/execute", json={"input": "Donate 5 to alice"})
        [waiting] = http.get("/v1/approvals").json()["data"]
    return str(waiting["id"])


def test_the_readmes_python_works(server: Process) -> None:
    scope: dict[str, object] = {}

    for block in blocks("python"):
        exec(block.replace("http://127.0.0.1:8000", server.url), scope)

    assert isinstance(scope["agent"], Agent)
    assert [tool.effect for tool in scope["agent"].tools] == ["read", "non_idempotent"]


def test_the_pages_about_the_api_load_nothing_from_elsewhere(server: Process) -> None:
    with client(server) as http:
        pages = [http.get("/docs"), http.get("/redoc")]
        assets = [asset for page in pages for asset in re.findall(r'(?:src|href)="(/[^"]+)"', page.text)]
        found = [http.get(asset).status_code for asset in assets]

    assert all("https://" not in page.text for page in pages)
    assert all("script-src 'self'" in page.headers["content-security-policy"] for page in pages)
    assert len(assets) >= 4
    assert set(found) == {200}


def command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command line."""
    return subprocess.run(
        [sys.executable, "-m", "parley.cli", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_smoke_test_makes_one_tool_turn_with_the_model(tmp_path: Path) -> None:
    with running(fake_anthropic) as fake:
        environment = with_claude(fake) | {"WALLET_LEDGER": str(tmp_path)}
        made = command("smoke-live", "--input", "[[tool balance {}]]", **environment)
        idle = command("smoke-live", "--input", "[[say Nothing to do.]]", **environment)

    assert made.returncode == 0, made.stderr
    assert "agent.tool_result" in made.stdout
    assert idle.returncode == 1


def test_a_smoke_test_without_a_key_says_what_to_set() -> None:
    answer = command("smoke-live")

    assert answer.returncode == 2
    assert "ANTHROPIC_API_KEY" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_the_command_line_prints_the_description_of_the_api() -> None:
    assert '"openapi"' in command("openapi").stdout
    assert "smoke-live" in command("--help").stdout


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("x = (", "mine.py, line 1"),
        ("from parley import tool\n@tool\ndef f(x): ...", "parameter 'x' needs a type hint"),
        ("from parley import tool\n@tool(effect='non-idempotent')\ndef f(): ...", "mine.py, line 2"),
        ("import nosuchlibrary", "nosuchlibrary"),
        ("agent = 3", "not an Agent"),
    ],
)
def test_a_mistake_in_the_agents_file_is_told_without_our_own_frames(tmp_path: Path, lines: str, told: str) -> None:
    (tmp_path / "mine.py").write_text(lines)

    with pytest.raises(RuntimeError) as refused:
        parley(tmp_path / "data", PARLEY_AGENT="mine:agent", PYTHONPATH=str(tmp_path))

    assert told in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_what_cannot_be_is_told_in_one_line(tmp_path: Path, server: Process) -> None:
    port = server.url.rsplit(":", 1)[1]
    wrong = {
        "Choose another with PARLEY_PORT": {"PARLEY_PORT": port},
        "set AWS_REGION": {"PARLEY_MODEL_PROVIDER": "bedrock", "AWS_CONFIG_FILE": "/dev/null"},
        "set ANTHROPIC_API_KEY": {"PARLEY_MODEL_PROVIDER": "anthropic"},
        "no module 'nothere'": {"PARLEY_AGENT": "nothere:agent"},
    }

    for told, environment in wrong.items():
        with pytest.raises(RuntimeError) as refused:
            parley(tmp_path, **environment)
        assert told in str(refused.value)
        assert "Traceback" not in str(refused.value)


def test_an_interrupt_stops_the_server_in_peace(tmp_path: Path) -> None:
    server = parley(tmp_path)

    server.popen.send_signal(signal.SIGINT)
    code = server.popen.wait(20)
    server.reader.join()

    assert code == 0
    assert "Traceback" not in "".join(server.output)
