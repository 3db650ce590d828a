"""What the guides name exists: commands, parameters, routes, files, metrics, log lines, AWS's operations."""

import ast
import asyncio
import dataclasses
import inspect
import json
import re
import shlex
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

import botocore.session
import pytest
from botocore import xform_name
from parley import Agent, Limits, ToolContext, tool, watch
from parley.api import sse
from parley.api.vocabulary import Vocabulary, speaker
from parley.broadcast import FLUSH_SECONDS
from parley.core import control as c
from parley.core import event as e
from parley.core.delta import DraftDiscarded, DraftGrew, DraftStarted, Output, Rotated
from parley.core.errors import ModelFailure, Unavailable
from parley.core.value import StopReason
from parley.lambda_app import metrics
from parley.store.drafts import MARK_SECONDS
from parley.worker import Envelope, Job

from tests import guides, template
from tests.build import SMALLEST, event
from tests.fakes.clock import NOON
from tests.guides import GUIDES, ROOT

every_guide = pytest.mark.parametrize("guide", GUIDES, ids=lambda path: path.name)

SOURCES = [*sorted((ROOT / "layers").rglob("*.py")), ROOT / "template.yaml"]
EVENT_NAME = re.compile(r"[a-z]+(?:_[a-z]+)+|swept")
CUSTOM_COMMANDS = {("s3", "rb"), ("logs", "tail")}
"""Of the AWS command line, without an operation of the same name."""

GLOBAL_OPTIONS = {"query", "output", "region", "endpoint-url", "cli-binary-format"}


@cache
def document() -> dict[str, Any]:
    return template.whole()


@cache
def log_lines() -> frozenset[str]:
    """Every name that the package or the runtime gives a log line."""
    calls = [
        node
        for path in SOURCES[:-1]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args
        if node.func.attr in {"info", "warning", "error", "exception", "log"}
    ]
    said = [call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant)]
    return frozenset(name for name in said if isinstance(name, str) and EVENT_NAME.fullmatch(name))


def default_of(parameter: dict[str, Any]) -> str:
    return str(parameter.get("Default", ""))


def test_there_are_seven_guides() -> None:
    names = [guide.name for guide in GUIDES]

    assert names == ["agents.md", "control.md", "deploy.md", "local.md", "operate.md", "queue.md", "streams.md"]


@every_guide
def test_every_json_block_is_json(guide: Path) -> None:
    for block in guides.blocks(guide):
        if block.language == "json":
            json.loads(block.text)


@every_guide
def test_every_block_says_its_language_unless_it_is_output(guide: Path) -> None:
    found = guides.blocks(guide)

    assert {block.language for block in found} <= {"sh", "json", "python", ""}
    assert guide.read_text().count("```") == 2 * len(found)


@every_guide
def test_every_make_target_exists(guide: Path) -> None:
    text = "\n".join([*(block.text for block in guides.blocks(guide)), *guides.spans(guide)])

    named = set(re.findall(r"\bmake ([a-z-]+)", text))

    assert named <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@every_guide
def test_every_parameter_resource_output_and_metric_exists(guide: Path) -> None:
    known = {name for part in ("Parameters", "Resources", "Outputs") for name in document()[part]}
    known |= {"Parley", "EventSource", "ConcurrentExecutions", "ToolContext", *metric_names()}
    text = "\n".join(block.text for block in guides.blocks(guide) if block.language == "sh")
    given = re.findall(r"(?:resource|arn|output|invoke|--function-name) ([A-Z]\w+)", text)
    given += re.findall(r"\b([A-Z][a-z]\w+)=(?!=)", "\n".join([text, *guides.spans(guide)]))

    named = {span for span in guides.spans(guide) if re.fullmatch(r"(?:[A-Z][a-z]+)+", span)} | set(given)

    assert named
    assert named <= known


@every_guide
def test_every_file_exists_and_every_link_leads_somewhere(guide: Path) -> None:
    made = {".parley/", ".parley/blobs/", ".aws-sam/env.json", "layers/agent/requirements.txt", "layers/agent/mine.py"}
    paths = {span for span in guides.spans(guide) if re.fullmatch(r"\.?\w[\w.-]*/[\w./-]*|\w+\.(?:md|yaml|toml)", span)}
    given = set(re.findall(r"(?:-e |file://|pytest -q |python )((?:events|tests)/\S+)", guide.read_text()))

    missing = {path for path in (paths - made) | given if not (ROOT / path).exists()}

    assert missing <= {"event-bus/default"}
    for link in guides.links(guide):
        if not link.startswith("https://"):
            name, _, anchor = link.partition("#")
            page = (guide.parent / name).resolve() if name else guide
            assert page.exists(), link
            assert not anchor or anchor in guides.anchors(page), link


@every_guide
def test_every_route_exists(guide: Path) -> None:
    described = json.loads((ROOT / "docs/openapi.json").read_text())["paths"]
    routes = {re.sub(r"{\w+}", "*", path) for path in described} | {"/openapi.json", "/docs", "/redoc"}

    found = re.findall(r"(?<!/)/(?:v1|healthz|docs|redoc|openapi)\b[^\s`\"'?)|]*", guide.read_text())
    named = {re.sub(r"{\w+}|\$\w+|(?<=agents/)wallet", "*", path) for path in found}

    assert named
    assert named <= routes


@every_guide
def test_every_code_word_occurs_in_the_code(guide: Path) -> None:
    code = "\n".join(path.read_text() for path in SOURCES)
    words = {span for span in guides.spans(guide) if re.fullmatch(r"[a-z]+(?:_[a-z]+)+", span)}
    made = {f"{noun}_not_found" for noun in re.findall(r'NotFound\("(\w+)"', code)}
    made |= {f"model_{failure}" for failure in get_args(ModelFailure)}

    unknown = {word for word in words if word not in code} - made

    assert not unknown


def test_every_block_about_control_is_run_by_a_test() -> None:
    control = ROOT / "docs/guide/control.md"
    tests = (ROOT / "tests/e2e/test_guides.py").read_text()
    walked = {name for found in re.findall(r"walk\(\w+, (.*)\)", tests) for name in ast.literal_eval(f"({found},)")}
    headings = re.findall(r"^## (.+)$", control.read_text(), re.MULTILINE)

    assert walked == {heading for heading in headings if guides.script("control.md", heading)}
    for block in guides.blocks(control):
        assert block.language == "sh" or f'guides.marked("{block.mark}")' in tests


def test_every_aws_command_is_one_that_aws_has() -> None:
    session = botocore.session.get_session()
    found = [command for guide in GUIDES for command in guides.commands(guide, "aws")]

    assert len(found) > 30
    for command in found:
        service, operation, *words = shlex.split(command, posix=False)[1:]
        if (service, operation) in CUSTOM_COMMANDS:
            continue
        model = session.get_service_model(service)
        shapes = {xform_name(name, "-"): model.operation_model(name).input_shape for name in model.operation_names}
        shape = shapes[operation]
        members = {xform_name(name, "-") for name in shape.members} if shape else set()
        options = {word[2:] for word in words if word.startswith("--")} - GLOBAL_OPTIONS
        assert {option.removeprefix("no-") for option in options} <= members, command


def test_the_jobs_of_the_guide_are_jobs() -> None:
    queue = ROOT / "docs/guide/queue.md"
    table = guides.table("queue.md", "A job")
    [whole] = [block.text for block in guides.blocks(queue) if block.language == "json"]
    sent = [re.search(r"--message-body '(.*)'", command) for command in guides.commands(queue, "aws sqs send-message")]
    put = [re.search(r"--entries '\[(.*)\]'", command) for command in guides.commands(queue, "aws events put-events")]

    entries = [json.loads(found[1]) for found in put if found]
    events = [
        {"id": "1", "detail-type": entry["DetailType"], "detail": json.loads(entry["Detail"])} for entry in entries
    ]

    assert set(Job.model_fields) == set(table) == set(json.loads(whole))
    assert {name for name, cells in table.items() if cells[0]} == {"agent_id", "input"}
    assert {name for name, field in Job.model_fields.items() if field.is_required()} == {"agent_id", "input"}
    assert [Job.model_validate_json(found[1]).agent_id for found in sent if found] == ["wallet"]
    [pattern] = [rule["EventPattern"] for rule in template.resources("AWS::Events::Rule").values()]
    assert [Envelope.model_validate(event).detail_type for event in events] == pattern["detail-type"]
    assert [Job.model_validate(event["detail"]).agent_id for event in events] == ["wallet"]


def test_the_table_of_parameters_is_the_templates() -> None:
    table = guides.table("deploy.md", "The second deploy")

    assert {name: cells[0] for name, cells in table.items()} == {
        name: default_of(each) for name, each in document()["Parameters"].items()
    }


def test_the_table_of_agent_fields_is_the_codes() -> None:
    table = guides.table("agents.md", "Agent")

    assert set(table) == set(Agent.model_fields)
    assert {name for name, cells in table.items() if cells[0] == "required"} == {
        name for name, field in Agent.model_fields.items() if field.is_required()
    }
    assert table["model"][0] == Agent(id="any", prompt="Any.").model


def test_the_table_of_limits_is_the_codes() -> None:
    table = guides.table("agents.md", "Limits")

    assert {name: float(cells[0]) for name, cells in table.items()} == Limits().model_dump()


def test_the_agent_of_the_guide_is_an_agent() -> None:
    [block] = [block for block in guides.blocks(ROOT / "docs/guide/agents.md") if block.language == "python"]
    scope: dict[str, Any] = {}

    exec(block.text, scope)

    assert isinstance(scope["agent"], Agent)
    assert [each.context_parameter for each in scope["agent"].tools] == ["context"]


def test_the_tables_about_tools_are_the_codes() -> None:
    table = guides.table("agents.md", "Tools")
    options = {
        name: each for name, each in inspect.signature(tool).parameters.items() if each.kind is each.KEYWORD_ONLY
    }
    attributes = {field.name for field in dataclasses.fields(ToolContext)}

    about = set(table) - {"@tool(…)", "read"}

    assert about == options.keys() | attributes
    assert table["effect"][0] == options["effect"].default


@pytest.mark.parametrize(("heading", "vocabulary"), [("Simple words", "simple"), ("Native events", "native")])
def test_the_tables_of_frames_are_what_is_said(heading: str, vocabulary: Vocabulary) -> None:
    table = guides.table("streams.md", heading)
    passing: list[Output] = [
        DraftStarted("sevt_1", "agent.message"),
        DraftGrew("sevt_1", "agent.message", "Hello"),
        DraftDiscarded("sevt_1"),
        Rotated(1, "idle"),
    ]
    waiting = event(e.StatusIdle, stop_reason=StopReason(type="requires_action", event_ids=("call",)))
    stored: list[Any] = [*map(event, SMALLEST), event(c.ApprovalRequested), waiting] if vocabulary == "simple" else []

    said = [*map(speaker(vocabulary, "sesn_1", "run_1").say, [*passing, *stored])]
    said += asyncio.run(a_stream_that_breaks()) if vocabulary == "native" else []

    told = {name: set(re.findall(r"`([a-z_]+)`", cells[0])) for name, cells in table.items()}
    assert told == fields_of(said)


async def a_stream_that_breaks() -> list[bytes]:
    async def batches() -> AsyncIterator[Sequence[Output]]:
        raise Unavailable("Gone.")
        yield ()

    return [frame async for frame in sse.frames(batches(), lambda _: b"", lambda: NOON)]


def fields_of(frames: Iterable[bytes]) -> dict[str, set[str]]:
    """Gather the fields of all frames of a name, but for those that every frame of a run has."""
    found: dict[str, set[str]] = {}
    for each in frames:
        name, data = re.search(rb"^event: (.*)$", each, re.MULTILINE), re.search(rb"^data: (.*)$", each, re.MULTILINE)
        if name and data:
            found.setdefault(name[1].decode(), set()).update(json.loads(data[1]).keys() - {"session_id", "run_id"})
    return found


def test_the_table_of_list_parameters_is_the_apis() -> None:
    table = guides.table("streams.md", "Lists")
    paths = json.loads((ROOT / "docs/openapi.json").read_text())["paths"]
    lists = {"sessions": "", "events": "/{session_id}/events", "messages": "/{session_id}/messages"}
    lists |= {"runs": "/{session_id}/runs"}

    for name, path in lists.items():
        parameters = paths[f"/v1/sessions{path}"]["get"]["parameters"]
        taken = {
            each["name"].replace("[gte]", "[gt]").replace("[lte]", "[gt]").replace("[lt]", "[gt]")
            for each in parameters
            if each["in"] == "query"
        }
        assert {row for row, cells in table.items() if cells[0] == "all" or name in cells[0].split(", ")} == taken


def test_the_table_of_alarms_is_the_templates() -> None:
    assert set(guides.table("operate.md", "Alarms")) == set(template.resources("AWS::CloudWatch::Alarm"))


def metric_names() -> set[str]:
    return set(re.findall(r'_add\("(\w+)"', Path(metrics.__file__).read_text()))


def test_the_table_of_metrics_is_the_codes() -> None:
    assert set(guides.table("operate.md", "Metrics")) == metric_names()


def test_the_table_of_log_lines_is_the_codes() -> None:
    assert set(guides.table("operate.md", "Log lines")) == log_lines()


def test_the_sum_of_what_it_costs_is_the_one_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    operate = ROOT / "docs/guide/operate.md"
    found = guides.blocks(operate)
    block = guides.marked("cost")
    shown = found[found.index(block) + 1].text
    scope: dict[str, Any] = {}

    exec(block.text, scope)

    assert capsys.readouterr().out == shown
    month = re.search(r"About \$([\d.]+) a month", (ROOT / "docs/guide/deploy.md").read_text())
    assert month is not None
    assert float(month[1]) == pytest.approx(scope["month"], abs=0.1)


def test_the_sum_is_made_of_what_the_code_and_the_template_say() -> None:
    scope: dict[str, Any] = {}
    exec(guides.marked("cost").text, scope | {"print": lambda _: None})
    exec(guides.marked("cost").text.split("\n\n")[0], scope)
    functions = template.functions()

    polls = (scope["IDLE_POLL"], scope["POLL"], scope["FLUSH"], scope["MARK"])
    memory = (scope["MEMORY_MB"], scope["STREAM_MB"])

    assert polls == (watch.IDLE_POLL_SECONDS, watch.POLL_SECONDS, FLUSH_SECONDS, MARK_SECONDS / 3)
    assert memory == (
        document()["Parameters"]["MemorySize"]["Default"],
        functions["stream_events"].properties["MemorySize"],
    )
    assert len(template.resources("AWS::CloudWatch::Alarm")) == 7


def test_the_settings_for_sam_stand_for_all_that_the_template_would_have_made() -> None:
    told = set(json.loads(guides.marked("env").text)["Parameters"])
    declared = [pair for function in template.functions().values() for pair in function.environment.items()]

    assert {name for name, value in declared if value in document()["Resources"]} <= told
    assert told - {"AWS_ENDPOINT_URL", "ANTHROPIC_BASE_URL"} <= {name for name, _ in declared}
