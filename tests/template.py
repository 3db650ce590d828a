"""Reads `template.yaml`: a test that needs a resource takes it from there, so that it cannot drift."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PATH = Path(__file__).resolve().parents[1] / "template.yaml"


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
    """What its role allows, without what AWS's own policies for logs and traces add."""
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
    """Return every function by the name of its folder; `refs` says what the template's resources are called."""
    document = whole(path)
    parameters = document.get("Parameters", {})
    names = {name: str(each.get("Default", "")) for name, each in parameters.items()}
    names |= {name: name for name in document["Resources"]} | dict(refs or {})
    shared = document["Globals"]["Function"]
    found = resources("AWS::Serverless::Function", path).items()
    every = [_read_function(name, shared, properties, names, path.parent) for name, properties in found]
    return {function.folder.name: function for function in every}


def _read_function(
    name: str, shared: dict[str, Any], own: dict[str, Any], names: Mapping[str, str], root: Path
) -> Function:
    variables = {k: v for level in (shared, own) for k, v in _variables(level).items()}
    events = own.get("Events", {}).values()
    policies = [policy for policy in own.get("Policies", []) if "Statement" in policy]
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
        statements=tuple(statement for policy in policies for statement in policy["Statement"]),
        properties=shared | own,
    )


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
