"""What the guides say works when it is done to the letter, as far as one machine goes."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import guides, template
from tests.contract.backends import emulator
from tests.e2e.processes import ROOT, Process, client, parley, running, start
from tests.e2e.streams import execute
from tests.integration.gateway import EVENTS, SURROUNDINGS

pytestmark = pytest.mark.xdist_group("processes")

HANDLE = """
import json, sys
from app import handler
from tests.integration.gateway import Context
print(json.dumps(handler(json.load(open(sys.argv[1])), Context("local", "arn:aws:lambda:local"))))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with running(lambda: parley(tmp_path_factory.mktemp("guides"))) as process:
        yield process


@pytest.fixture(scope="module")
def donor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server with a wallet of its own, which others need not find full."""
    with running(lambda: parley(tmp_path_factory.mktemp("donor"))) as process:
        yield process


def test_the_lines_that_the_server_prints_work_and_lead_to_a_donation_that_waits(donor: Process) -> None:
    lines = [line for line in donor.output if line.startswith("  curl ")]

    said = [run(line, donor) for line in lines]

    assert len(said) == 5
    assert "event: approval_required" in said[2]
    assert '"name":"donate"' in said[-1]


def test_the_lines_that_send_now_and_watch_later_work(server: Process) -> None:
    said = shell("server", server)

    assert '"processed_at":null' in said
    assert "event: complete" in said


def test_the_lines_that_hold_set_back_and_fork_a_session_work(server: Process) -> None:
    said = walk(server, "Suspend, checkpoints, forks", "Audit")

    assert '"code"' not in said
    assert said.index('"state":"suspended"') < said.index('"processed_at":null') < said.index('"state":"active"')
    assert said.index('"state":"active"') < said.index("event: complete") < said.index('"title":"Rent of May"')
    assert '"type":"checkpoint"' in said
    assert '"title":"Another try"' in said
    assert '"output":"Before this you said “What is my balance?”."' in said
    assert '"archived_at":"20' in said
    assert said.count('"action":"session.archived"') == 2


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server whose model takes its time, so that a run is still open at the next line."""
    folder = tmp_path_factory.mktemp("slow")
    with running(lambda: parley(folder, PARLEY_SCRIPTED_DELAY_SECONDS="0.06")) as process:
        yield process


def test_the_lines_that_stop_a_run_work(slow: Process) -> None:
    said = walk(slow, "Stop")

    assert '"type":"user.interrupt"' in said
    assert '"status":"interrupted"' in said
    assert "event: tool_call" not in said


def test_the_lines_that_speak_to_a_busy_session_work(slow: Process) -> None:
    said = walk(slow, "Sending while it works")

    assert '"text":"Pay 5 to alice"' in said
    assert '"type":"event_removed"' in said
    assert re.findall(r'event: tool_call\ndata: .*?"name":"(\w+)"', said) == ["balance", "quote"]
    assert said.count("event: complete") == 1


def test_the_lines_about_budgets_work(server: Process) -> None:
    said = walk(server, "Budgets")

    assert '"stop_reason":"budget_reached"' in said
    assert '"max_cost":5000000' in said
    assert said.index("event: budget.reached") < said.index("event: run.finished")
    assert re.search(r'^"cost":2\d{3}$', said, re.MULTILINE)
    assert '"list_cost":{"amount":"1","currency":"USD"' in said


def test_the_lines_for_the_sdk_work(server: Process, capsys: pytest.CaptureFixture[str]) -> None:
    exec(guides.marked("python").text.replace("http://127.0.0.1:8000", server.url), {})

    said = capsys.readouterr().out
    assert "[balance]" in said
    assert "100.00" in said
    assert said.endswith("\nend_turn\n")


def test_the_lines_for_images_work(server: Process, capsys: pytest.CaptureFixture[str]) -> None:
    exec(guides.marked("images").text.replace("http://127.0.0.1:8000", server.url), {})

    assert capsys.readouterr().out.startswith("I see 1 image.")


def test_the_lines_that_decide_on_an_approval_work_beside_older_ones(donor: Process) -> None:
    with client(donor) as http:
        execute(http, "wallet", "Donate 1 to dan")

    said = walk(donor, "Approvals")

    assert '"status":"waiting_approval"' in said
    assert '"status":"pending"' in said
    assert '"edited_input":{"amount":3,"to":"alice"}' in said
    assert "the donated is 3.00" in said


def test_the_lines_about_levels_work(donor: Process) -> None:
    said = walk(donor, "Levels")

    assert '"status":"waiting_approval"' in said
    assert '"autonomy":"L3"' in said
    assert re.findall(r'"name":"(\w+)".*"status":"pending"', said[said.index('"autonomy":"L3"') :]) == ["pay"]


def test_the_lines_that_decide_on_a_plan_work(donor: Process) -> None:
    said = walk(donor, "Plans")

    assert '"type":"plan.approved"' in said
    assert said.count("event: approval_required") == 3
    assert said.count("event: tool_result") == 3
    assert "it was not made: Not to bob." in said
    assert '"status":"completed_with_errors"' in said


def test_the_lines_that_confirm_by_the_sdk_work(donor: Process, capsys: pytest.CaptureFixture[str]) -> None:
    exec(guides.marked("confirmations").text.replace("http://127.0.0.1:8000", donor.url), {})

    said = capsys.readouterr().out
    assert "5.00" in said
    assert "One is enough." in said


def shell(mark: str, server: Process) -> str:
    """Run the lines of a guide that have a mark, and return what they print."""
    return run(guides.marked(mark).text, server)


def walk(server: Process, *headings: str) -> str:
    """Run what the shell is told under these headings of control.md, and return what it prints."""
    return run(guides.script("control.md", *headings), server)


def run(script: str, server: Process) -> str:
    script = script.replace("http://127.0.0.1:8000", server.url)
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("cut", [False, True])
def test_the_client_of_the_guide_tells_the_answer_once(
    server: Process, capsys: pytest.CaptureFixture[str], *, cut: bool
) -> None:
    script = guides.marked("client").text.replace("http://127.0.0.1:8000", server.url)
    if cut:  # as if the first connection had ended within the answer
        script = script.replace("over = is_over(response)\nwhile", "over = is_over(up_to_a_piece(response))\nwhile")
        assert "up_to_a_piece(response)" in script

    exec(script, {"up_to_a_piece": up_to_a_piece})

    assert capsys.readouterr().out == "Your balance is 100.00.\n"


def up_to_a_piece(response: Iterable[bytes]) -> Iterator[bytes]:
    """Yield lines up to the end of the first frame with a piece of the answer."""
    answering = False
    for line in response:
        yield line
        answering = answering or line == b"event: text\n"
        if answering and line == b"\n":
            return


def test_the_dev_server_runs_on_an_emulator_with_the_settings_of_the_guide(tmp_path: Path) -> None:
    settings = dict(re.findall(r"(\w+)=(\S+)", guides.marked("settings").text))

    with emulator("ministack", tmp_path) as endpoint:
        settings["AWS_ENDPOINT_URL"] = endpoint
        with running(lambda: parley(tmp_path, **settings)) as server, client(server) as http:
            said = execute(http, "wallet", "What is my balance?")

    assert said[-1].data["status"] == "completed"
    assert f"table '{settings['PARLEY_TABLE']}'" in "".join(server.output)
    assert not (tmp_path / "parley.db").exists()


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, str]]:
    """What the functions are told, with moto and what the guide puts into it in the place of a container's host."""
    with running(lambda: start(["-m", "moto.server", "-H", "127.0.0.1", "-p", "0"], r"(http://127\S+)", {})) as moto:
        seed = guides.marked("seed").text.replace("http://127.0.0.1:5000", moto.url)
        subprocess.run([sys.executable, "-c", seed], cwd=ROOT, check=True, timeout=30)
        variables: dict[str, str] = json.loads(guides.marked("env").text)["Parameters"]
        yield {name: value.replace("http://host.docker.internal:5000", moto.url) for name, value in variables.items()}


@pytest.mark.parametrize(
    ("function", "event"), [("api", "create_session"), ("list_sessions", "list_sessions"), ("worker", "queue_jobs")]
)
def test_a_function_works_with_what_the_guide_tells_it(told: dict[str, str], function: str, event: str) -> None:
    declared = template.functions()[function].environment
    scripted = {"PARLEY_MODEL_PROVIDER": "scripted"}  # the fake's own tests are elsewhere
    paths = [ROOT, *(ROOT / "layers" / name for name in ("core", "agent"))]
    given = SURROUNDINGS | declared | told | scripted | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    kept = {name: value for name, value in given.items() if name in declared or not name.startswith("PARLEY_")}

    done = subprocess.run(
        [sys.executable, "-c", HANDLE, str(EVENTS / f"{event}.json")],
        cwd=ROOT / "functions" / function,
        env=kept | {"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=40,
    )

    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert answer.get("statusCode", 200) == 200, answer
    assert answer.get("batchItemFailures", []) == []


def test_the_copy_of_the_template_declares_the_two_addresses_for_every_function(tmp_path: Path) -> None:
    (tmp_path / ".aws-sam/build").mkdir(parents=True)
    (tmp_path / ".aws-sam/build/template.yaml").write_text(template.PATH.read_text())
    script = guides.marked("declare").text.removeprefix("make build\n")

    subprocess.run(["sh", "-euc", script], cwd=tmp_path, check=True, timeout=10)

    variables = template.whole(tmp_path / ".aws-sam/build/local.yaml")["Globals"]["Function"]["Environment"][
        "Variables"
    ]
    added = set(variables) - set(template.whole()["Globals"]["Function"]["Environment"]["Variables"])
    assert added == {"AWS_ENDPOINT_URL", "ANTHROPIC_BASE_URL"}
    assert added <= set(json.loads(guides.marked("env").text)["Parameters"])
