"""The shape that ARCHITECTURE.md promises and import-linter cannot see, checked on the files themselves."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Hashable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "layers/core/parley"
# layers/agent is the user's: how long it gets and what it reads is not ours to say.
OURS = (PACKAGE, ROOT / "layers/runtime")

MAX_HANDLER_LINES = 30
MAX_MODULE_LINES = 250
MAX_FUNCTION_LINES = 40

BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.Match)
SAYS_NOTHING = {"utils", "helpers", "common", "manager", "base", "types", "models"}
IMPURE_MODULES = {
    *(
        "asyncio",
        "concurrent",
        "contextvars",
        "io",
        "logging",
        "os",
        "pathlib",
        "random",
        "secrets",
        "select",
    ),
    *("shutil", "signal", "socket", "sqlite3", "subprocess", "sys", "tempfile", "threading", "time", "uuid"),
}
IMPURE_CALLS = {"open", "print", "input", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
CORE_MAY_USE = {"annotated_types", "parley", "pydantic", "pydantic_core", "typing_extensions"}
# Declarations only: there is nothing in them that a test could call.
WITHOUT_CONTRACT = {"__init__", "__pycache__", "inline", "python_tools", "system"}


# The template and the functions


def test_every_function_folder_is_in_the_template_and_the_reverse() -> None:
    folders = {path.parent.name for path in (ROOT / "functions").glob("*/app.py")}

    deployed = {Path(function["CodeUri"]).name for function in functions_in_the_template()}

    assert folders
    assert deployed == folders


def test_a_function_is_wiring_of_thirty_lines_without_a_branch() -> None:
    handlers = trees_of([ROOT / "functions"])

    assert not [path for path in handlers if number_of_lines(path) > MAX_HANDLER_LINES]
    assert not [where(path, node) for path, node in nodes_in(handlers) if isinstance(node, BRANCHES)]


@pytest.mark.parametrize("name", ["list_sessions", "get_session", "delete_session"])
def test_what_only_reads_or_deletes_loads_neither_the_sdk_nor_the_engine(name: str, tmp_path: Path) -> None:
    loaded = modules_loaded_by_handler(name, tmp_path)

    assert "parley" in loaded
    assert not loaded & {"anthropic", "parley.engine", "parley.runner", "parley.adapters.claude"}


# The package


def test_only_settings_reads_the_environment() -> None:
    readers = {
        path
        for path, node in nodes_in(trees_of([PACKAGE, ROOT / "functions"]))
        if names_touched_by(node) & {"environ", "environb", "getenv"}
    }

    assert readers == {PACKAGE / "settings.py"}


def test_the_core_is_pure() -> None:
    core = trees_of([PACKAGE / "core"])
    impure = [where(path, node) for path, node in nodes_in(core) if is_impure(node)]

    assert not impure


def test_no_module_is_longer_than_can_be_read_in_five_minutes() -> None:
    too_long = [
        f"{path} has {number_of_lines(path)}" for path in trees_of(OURS) if number_of_lines(path) > MAX_MODULE_LINES
    ]

    assert not too_long


def test_no_function_is_longer_than_a_screen() -> None:
    too_long = [
        f"{where(path, node)} {node.name} has {lines_without_docstring(node)}"
        for path, node in nodes_in(trees_of(OURS))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and lines_without_docstring(node) > MAX_FUNCTION_LINES
    ]

    assert not too_long


def test_every_module_has_a_name_that_says_something() -> None:
    modules = trees_of([*OURS, ROOT / "functions", ROOT / "tests"])
    words = {path: set("_".join(path.relative_to(ROOT).with_suffix("").parts).split("_")) for path in modules}

    assert not [path for path, said in words.items() if said & SAYS_NOTHING]


def test_every_adapter_is_run_by_a_contract_suite() -> None:
    suites = "\n".join(path.read_text() for path in trees_of([ROOT / "tests" / "contract"]))
    adapters = [path for path in (PACKAGE / "adapters").iterdir() if path.stem not in WITHOUT_CONTRACT]

    unproved = [path.stem for path in adapters if f"parley.adapters.{path.stem} import" not in suites]

    assert len(adapters) > 5
    assert not unproved


# The repository


def test_the_tree_in_architecture_names_every_module_and_every_folder_of_tests() -> None:
    tree = (ROOT / "ARCHITECTURE.md").read_text().split("```")[1]
    modules = [path for folder in (PACKAGE, PACKAGE / "core", PACKAGE / "store") for path in folder.glob("[!_]*.py")]
    folders = [path for parent in (PACKAGE, ROOT / "tests") for path in parent.glob("[!_]*/")]

    named = set(re.findall(r"[a-z0-9_]+(?:\.py|/)", tree))

    assert len(modules) > 40
    assert {path.name for path in modules} | {f"{path.name}/" for path in folders} <= named
    assert {name for name in named if name.endswith(".py")} <= {path.name for path in ROOT.glob("[!.]*/**/*.py")}


@pytest.mark.parametrize(
    ("export", "groups"),
    [
        ("layers/deps/requirements.txt", ()),
        ("requirements-server.txt", ("server",)),
        ("requirements-dev.txt", ("dev",)),
    ],
)
def test_an_export_has_the_packages_of_the_lock_and_their_hashes(export: str, groups: tuple[str, ...]) -> None:
    exported = packages_in_export(ROOT / export)

    assert exported == packages_in_lock(groups)
    assert all(exported.values())


def test_a_lambda_carries_no_server() -> None:
    carried = {name for name, _ in packages_in_export(ROOT / "layers/deps/requirements.txt")}

    assert "boto3" in carried
    assert not carried & {"fastapi-offline", "pytest", "uvicorn"}


def test_no_recipe_of_the_makefile_hides_logic() -> None:
    targets = re.findall(r"^([a-z-]+):.*\n((?:\t.*\n)*)", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert len(targets) > 10
    assert not [target for target, recipe in targets if recipe.count("\n") >= 3]


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    texts = texts_kept_in_git()
    telltale = re.compile(r"(?<![\w.~-])/(work|root|tmp/lab)\b|files\.pythonhosted\.org|pypi\.org/simple")

    assert "pyproject.toml" in texts
    assert not [f"{name}: {found[0]}" for name, text in texts.items() if (found := telltale.search(text))]


# How it is found out


def trees_of(folders: Iterable[Path]) -> dict[Path, ast.Module]:
    """The parsed modules below these folders; there must be some, or the test that asks proves nothing."""
    paths = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    assert paths, f"no Python below {folders}"
    return {path: ast.parse(path.read_text(), str(path)) for path in paths}


def nodes_in(trees: dict[Path, ast.Module]) -> Iterator[tuple[Path, ast.AST]]:
    return ((path, node) for path, tree in trees.items() for node in ast.walk(tree))


def where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def number_of_lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def lines_without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """From `def` to the last line; a docstring is not code, so explaining more is never punished."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    docstring = (first.end_lineno or first.lineno) - first.lineno + 1 if documented else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - docstring


def names_touched_by(node: ast.AST) -> set[str]:
    match node:
        case ast.Attribute(attr=name):
            return {name}
        case ast.ImportFrom(module="os", names=aliases):
            return {alias.name for alias in aliases}
        case _:
            return set()


def packages_imported_by(node: ast.AST) -> set[str]:
    match node:
        case ast.Import(names=aliases):
            return {alias.name.split(".")[0] for alias in aliases}
        case ast.ImportFrom(module=str(module), level=0):
            return {module.split(".")[0]}
        case _:
            return set()


def is_impure(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return ".".join(ast.unparse(node.func).split(".")[-2:]) in IMPURE_CALLS
    imported = packages_imported_by(node)
    return bool(imported & IMPURE_MODULES or imported - sys.stdlib_module_names - CORE_MAY_USE)


class Template(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: `!Ref X` is read as {"Ref": "X"}."""


def read_short_form(loader: Template, name: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {name: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {name: loader.construct_sequence(node, deep=True)}
    return {name: loader.construct_mapping(node, deep=True)}  # type: ignore[arg-type]  # the last of the three


Template.add_multi_constructor("!", read_short_form)


def read_mapping(loader: Template, node: yaml.MappingNode) -> dict[Hashable, Any]:
    """Refuse a name that is given twice: YAML would let the last one count, CloudFormation does not take it."""
    names = [key.value for key, _ in node.value]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"line {node.start_mark.line + 1}: {twice} stand there twice"
    return loader.construct_mapping(node, deep=True)


Template.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, read_mapping)


def the_template() -> dict[str, Any]:
    template: dict[str, Any] = yaml.load((ROOT / "template.yaml").read_text(), Template)  # a SafeLoader
    return template


def functions_in_the_template() -> list[dict[str, Any]]:
    resources = the_template()["Resources"].values()
    return [r["Properties"] for r in resources if r["Type"] == "AWS::Serverless::Function"]


def environment_of(function: dict[str, Any]) -> dict[str, str]:
    """What Lambda would set; a value that only AWS knows is a made-up one."""
    template = the_template()
    parameters = template.get("Parameters", {})
    variables: dict[str, Any] = {}
    for level in (template.get("Globals", {}).get("Function", {}), function):
        variables |= level.get("Environment", {}).get("Variables", {})
    for name, value in variables.items():
        if isinstance(value, dict):
            variables[name] = parameters.get(value.get("Ref"), {}).get("Default", "made-up")
    return {name: str(value) for name, value in variables.items()}


def modules_loaded_by_handler(name: str, cwd: Path) -> set[str]:
    (function,) = (f for f in functions_in_the_template() if Path(f["CodeUri"]).name == name)
    aws = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    found = subprocess.run(
        [sys.executable, "-c", "import app, sys; print(*sys.modules)"],
        env=environment_of(function) | aws | {"PATH": os.defpath, "PYTHONPATH": str(ROOT / "functions" / name)},
        cwd=cwd,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return set(found.stdout.split())


Packages = dict[tuple[str, str], set[str]]
"""Name and version, with the hashes of every file."""


def packages_in_export(export: Path) -> Packages:
    packages: Packages = {}
    hashes: set[str] = set()
    for line in export.read_text().splitlines():
        if pinned := re.match(r"([\w.-]+)==([^\s;\\]+)", line):
            hashes = packages.setdefault((pinned[1], pinned[2]), set())
        hashes.update(re.findall(r"--hash=(\S+)", line))
    return packages


def packages_in_lock(groups: Iterable[str]) -> Packages:
    """What `parley` and these groups lead to, extras and all, without `parley` itself."""
    locked = {package["name"]: package for package in tomllib.loads((ROOT / "uv.lock").read_text())["package"]}
    project = locked["parley"]
    waiting = [need for group in groups for need in project["dev-dependencies"][group]]
    waiting += project["dependencies"]
    reached: dict[str, set[str]] = {}
    while waiting:
        need = waiting.pop()
        package = locked[need["name"]]
        extras = set(need.get("extra", ())) - reached.get(need["name"], set())
        if need["name"] not in reached:
            waiting += package.get("dependencies", ())
        waiting += [n for extra in extras for n in package.get("optional-dependencies", {}).get(extra, ())]
        reached.setdefault(need["name"], set()).update(extras)
    return {(name, locked[name]["version"]): hashes_of(locked[name]) for name in reached}


def hashes_of(package: dict[str, Any]) -> set[str]:
    files = [*package.get("wheels", ()), *([package["sdist"]] if "sdist" in package else ())]
    return {file["hash"] for file in files}


def texts_kept_in_git() -> dict[str, str]:
    """Every text that is or would be committed, but for lock files and this one: it names what it seeks."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, check=True, stdout=subprocess.PIPE, text=True).stdout.split("\0")
    exempt = {"uv.lock", "package-lock.json", Path(__file__).name}
    texts: dict[str, str] = {}
    for name in filter(None, names):
        data = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b"\0"
        if Path(name).name not in exempt and b"\0" not in data:
            texts[name] = data.decode(errors="replace")
    return texts
