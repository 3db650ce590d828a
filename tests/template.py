"""Reads `template.yaml`: a test that needs a resource takes it from there, so that it cannot drift."""

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

PATH = Path(__file__).resolve().parents[1] / "template.yaml"

SAM = PATH.parent / ".tools/sam/bin/python"
"""Where `make sam` puts the SAM command line; it cannot share an environment with ours."""


@dataclass(frozen=True, slots=True)
class Route:
    """What one event of a function asks the API for."""

    method: str
    path: str


@dataclass(frozen=True, slots=True)
class Function:
    """One Lambda function, with what Globals say of all of them."""

    name: str
    """Logical id."""
    folder: Path
    handler: str
    """`module.attribute` in the folder."""
    routes: tuple[Route, ...]
    environment: dict[str, str]
    statements: tuple[dict[str, Any], ...]
    """What its role allows, without what AWS's own policies for logs and traces add; resources are spelled like
    `Table.Arn`, `Bucket.Arn/*` and `AdminKey`."""
    properties: dict[str, Any]


def whole(path: Path = PATH) -> dict[str, Any]:
    """Return the whole document."""
    document: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    return document


def resources(kind: str, path: Path = PATH) -> dict[str, dict[str, Any]]:
    """Return the properties of every resource of a type, by logical id."""
    found = whole(path)["Resources"].items()
    return {name: entry.get("Properties", {}) for name, entry in found if entry["Type"] == kind}


def table_properties(path: Path = PATH) -> dict[str, Any]:
    """Return the properties of the one table."""
    [properties] = resources("AWS::DynamoDB::Table", path).values()
    return properties


def functions(refs: Mapping[str, str] | None = None, path: Path = PATH) -> dict[str, Function]:
    """Return every function by the name of its folder; `refs` names resources and sets parameters."""
    document = whole(path)
    names = {name: str(each.get("Default", "")) for name, each in document["Parameters"].items()}
    names |= {name: name for name in document["Resources"]} | dict(refs or {})
    document["Resources"] = _decided(document["Resources"], document["Conditions"], names)
    every = [
        _read_function(name, document, entry["Properties"], names, path.parent)
        for name, entry in document["Resources"].items()
        if entry["Type"] == "AWS::Serverless::Function"
    ]
    return {function.folder.name: function for function in every}


@cache
def translated() -> dict[str, Any]:
    """Return what CloudFormation gets."""
    return translate(whole())


def translate(document: dict[str, Any]) -> dict[str, Any]:
    """Run SAM's transform with the parameters' defaults; skip the test where SAM is not installed."""
    if not SAM.exists():
        pytest.skip("needs the SAM command line: make sam")
    command = [SAM, PATH.parent / "scripts/translate.py"]
    done = subprocess.run(command, input=json.dumps(document), check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _read_function(
    name: str, document: dict[str, Any], own: dict[str, Any], names: Mapping[str, str], root: Path
) -> Function:
    shared = document["Globals"]["Function"]
    variables = {k: v for level in (shared, own) for k, v in _variables(level).items()}
    events = own.get("Events", {}).values()
    referred = [document["Resources"][each["Ref"]]["Properties"] for each in own["Policies"] if "Ref" in each]
    policies = [each for each in own["Policies"] if "Statement" in each] + [each["PolicyDocument"] for each in referred]
    return Function(
        name=name,
        folder=root / own["CodeUri"],
        handler=(shared | own)["Handler"],
        routes=tuple(
            Route(event["Properties"]["Method"].upper(), event["Properties"]["Path"])
            for event in events
            if event["Type"] == "Api"
        ),
        environment={k: names[v["Ref"]] if isinstance(v, dict) else str(v) for k, v in variables.items()},
        statements=tuple(
            statement | {"Resource": _spelled(statement["Resource"])}
            for policy in policies
            for statement in policy["Statement"]
        ),
        properties=shared | own,
    )


def _decided(value: Any, conditions: Mapping[str, Any], names: Mapping[str, str]) -> Any:
    """Take the branch of every `Fn::If` that holds, and leave out what is `AWS::NoValue`."""

    def decide(part: Any) -> Any:
        match part:
            case {"Fn::If": [condition, yes, no]}:
                return decide(yes if _holds(conditions[condition], names) else no)
            case dict():
                found = {key: decide(each) for key, each in part.items()}
                return {key: each for key, each in found.items() if each != _NO_VALUE}
            case list():
                return [found for found in map(decide, part) if found != _NO_VALUE]
            case _:
                return part

    return decide(value)


_NO_VALUE = {"Ref": "AWS::NoValue"}


def _holds(condition: Any, names: Mapping[str, str]) -> bool:
    match condition:
        case {"Fn::Not": [inner]}:
            return not _holds(inner, names)
        case {"Fn::Equals": [{"Ref": name}, value]}:
            return names[name] == str(value)
        case _:
            raise NotImplementedError(f"a condition that no test has needed: {condition}")


def _spelled(resource: Any) -> Any:
    match resource:
        case {"Ref": str(name)}:
            return name
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            return f"{name}.{attribute}"
        case {"Fn::Sub": str(text)}:
            return re.sub(r"\$\{([\w.]+)\}", r"\1", text)
        case list():
            return [_spelled(each) for each in resource]
        case _:
            return resource


def _variables(level: dict[str, Any]) -> dict[str, Any]:
    variables: dict[str, Any] = level.get("Environment", {}).get("Variables", {})
    return variables


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short functions, written out: `!Ref Table` is `{"Ref": "Table"}`."""


def _function(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    name = suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}"
    if isinstance(node, yaml.ScalarNode):
        text = loader.construct_scalar(node)
        return {name: text.split(".", 1) if suffix == "GetAtt" else text}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {name: loader.construct_mapping(node, deep=True)}


_Loader.add_multi_constructor("!", _function)
