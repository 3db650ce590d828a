"""The loop as a process: its start, its path, its ends, its lines."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.fakes.runtime_api import FakeRuntimeApi, serving
from tests.lambda_process import RUNTIME_LAYER, LambdaProcess, started

pytestmark = pytest.mark.xdist_group("processes")

CANARY = "the vault's number is 4711"


@pytest.fixture
def api() -> Iterator[FakeRuntimeApi]:
    with serving() as api:
        yield api


def function(folder: Path, source: str) -> Path:
    """Write a function whose only file is app.py."""
    task = folder / "task"
    task.mkdir()
    (task / "app.py").write_text(dedent(source))
    return task


def lines(process: LambdaProcess) -> list[dict[str, Any]]:
    return [json.loads(line) for line in process.output().splitlines()]


def test_the_runtime_needs_the_standard_library_alone() -> None:
    script = f"import sys; sys.path.append({str(RUNTIME_LAYER)!r}); import parley_runtime.loop as l; print(l.__name__)"

    found = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=False)

    assert (found.stdout.strip(), found.stderr) == ("parley_runtime.loop", "")


def test_a_function_is_handled_by_the_interpreter_and_options_that_lambda_chose(
    api: FakeRuntimeApi, tmp_path: Path
) -> None:
    task = function(
        tmp_path,
        """
        import sys, os
        def handler(event, context):
            loop = sys.modules["parley_runtime.loop"]
            return {
                "interpreter": sys.executable,
                "options": dict(sys._xoptions),
                "path": sys.path,
                "main is the loop": hasattr(sys.modules["__main__"], "handle"),
                "trace": os.environ["_X_AMZN_TRACE_ID"],
            }
        """,
    )

    with started(task, api.address, layers=[tmp_path / "layer"], interpreter=[sys.executable, "-X", "probe=1"]):
        exchange = api.invoke({})
        assert exchange.piece() is None

    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    assert exchange.answer["interpreter"] == sys.executable
    assert exchange.answer["options"] == {"probe": "1"}
    path = exchange.answer["path"]
    assert path[:3] == [str(task), f"/opt/python/lib/{python}/site-packages", "/opt/python"]
    assert path[3:5] == [str(RUNTIME_LAYER), str(tmp_path / "layer")]
    assert path[-1] == "/var/runtime"
    assert "" not in path
    assert exchange.answer["main is the loop"] is False
    assert exchange.answer["trace"].endswith(exchange.id[-12:])


def test_what_a_layer_offers_can_be_imported_and_what_the_function_has_comes_first(
    api: FakeRuntimeApi, tmp_path: Path
) -> None:
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "shared.py").write_text("WHOSE = 'layer'")
    (layer / "own.py").write_text("WHOSE = 'layer'")
    task = function(
        tmp_path,
        """
        import own, shared
        def handler(event, context):
            return [own.WHOSE, shared.WHOSE]
        """,
    )
    (task / "own.py").write_text("WHOSE = 'function'")

    with started(task, api.address, layers=[layer]):
        exchange = api.invoke({})
        assert exchange.piece() is None

    assert exchange.answer == ["function", "layer"]


@pytest.mark.parametrize(
    ("source", "kind", "message"),
    [
        ("import no_such_module", "Runtime.ModuleNotFoundError", "No module named 'no_such_module'"),
        ("def other(): ...", "Runtime.AttributeError", "module 'app' has no attribute 'handler'"),
        ("def handler(", "Runtime.SyntaxError", "'(' was never closed (app.py, line 1)"),
        ("raise LookupError('no table')", "Runtime.LookupError", "no table"),
    ],
)
def test_a_function_that_cannot_start_says_so_and_ends(
    api: FakeRuntimeApi, tmp_path: Path, source: str, kind: str, message: str
) -> None:
    with started(function(tmp_path, source), api.address) as process:
        error = api.init_errors.get(timeout=10)
        code = process.popen.wait(10)
        [line] = lines(process)

    assert error == {"errorType": kind, "errorMessage": message, "stackTrace": []}
    assert code == 1
    assert line["level"] == "ERROR"
    assert message in line["message"]


def test_a_runtime_api_that_fails_ends_the_process(api: FakeRuntimeApi, tmp_path: Path) -> None:
    api.closed = True

    with started(function(tmp_path, "def handler(event, context): ..."), api.address) as process:
        code = process.popen.wait(10)

    assert code == 1


# Lines


def test_lines_are_json_with_level_and_time_and_never_quote_a_request(api: FakeRuntimeApi, tmp_path: Path) -> None:
    task = function(
        tmp_path,
        f"""
        import logging
        def handler(event, context):
            print("printed")
            logging.getLogger("theirs").info("worked", extra={{"session_id": "sesn_1"}})
            try:
                raise ValueError({CANARY!r})
            except ValueError as error:
                raise LookupError({CANARY!r}) from error
        """,
    )

    with started(task, api.address) as process:
        exchange = api.invoke({})
        assert exchange.piece() is None
        printed, *rest = process.output().splitlines()
        worked, failed = map(json.loads, rest)

    assert printed == "printed"
    assert worked.items() >= {"level": "INFO", "logger": "theirs", "message": "worked", "session_id": "sesn_1"}.items()
    assert failed.items() >= {"level": "ERROR", "message": "invocation_failed", "invocation": exchange.id}.items()
    assert failed["timestamp"].endswith("+00:00")
    assert "LookupError at" in failed["exception"]
    assert "ValueError at" in failed["exception"]
    assert "4711" not in str(exchange.error)
    assert "4711" not in failed["exception"].replace(f"({CANARY!r})", "")  # the source's own line, not the message


def test_the_lines_of_the_loop_survive_a_powertools_logger_of_the_service_parley(
    api: FakeRuntimeApi, tmp_path: Path
) -> None:
    task = function(
        tmp_path,
        """
        from aws_lambda_powertools import Logger
        logger = Logger(service="parley")
        def handler(event, context):
            logger.info("theirs")
            raise LookupError
        """,
    )

    with started(task, api.address) as process:
        assert api.invoke({}).piece() is None
        said = [line["message"] for line in lines(process)]

    assert said == ["theirs", "invocation_failed"]


@pytest.mark.parametrize(("level", "said"), [("TRACE", ["fine", "coarse"]), ("WARN", ["coarse"]), ("FATAL", [])])
def test_a_level_of_lambdas_own_words_is_kept(api: FakeRuntimeApi, tmp_path: Path, level: str, said: list[str]) -> None:
    task = function(
        tmp_path,
        """
        import logging
        def handler(event, context):
            logging.debug("fine")
            logging.warning("coarse")
        """,
    )

    with started(task, api.address, environment={"AWS_LAMBDA_LOG_LEVEL": level}) as process:
        assert api.invoke({}).piece() is None
        messages = [line["message"] for line in lines(process) if line["logger"] == "root"]

    assert messages == said


def test_without_a_format_lines_are_text(api: FakeRuntimeApi, tmp_path: Path) -> None:
    task = function(tmp_path, "def handler(event, context): raise LookupError")

    with started(task, api.address, environment={"AWS_LAMBDA_LOG_FORMAT": "Text"}) as process:
        assert api.invoke({}).piece() is None
        first = process.output().splitlines()[0]

    assert first == "ERROR lambda_runtime invocation_failed"


# SnapStart

HOOKS = """
    import snapshot_restore_py as hooks
    done = []
    hooks.register_before_snapshot(done.append, "before 1")
    hooks.register_before_snapshot(done.append, "before 2")
    hooks.register_after_restore(done.append, "after 1")
    hooks.register_after_restore(done.append, "after 2")
    def handler(event, context):
        return done
"""
SNAP_START = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}


@pytest.fixture
def hooks(tmp_path: Path) -> Path:
    """Make a folder with what AWS's runtime brings: `snapshot_restore_py` 1.0.0 keeps triples in two lists."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    (folder / "snapshot_restore_py.py").write_text(
        dedent("""
        before, after = [], []
        def register_before_snapshot(function, *args, **kwargs): before.append((function, args, kwargs))
        def register_after_restore(function, *args, **kwargs): after.append((function, args, kwargs))
        def get_before_snapshot(): return before
        def get_after_restore(): return after
        """)
    )
    return folder


def test_a_snapshot_is_taken_between_the_hooks(api: FakeRuntimeApi, tmp_path: Path, hooks: Path) -> None:
    with started(function(tmp_path, HOOKS), api.address, layers=[hooks], environment=SNAP_START):
        exchange = api.invoke({})
        assert exchange.piece() is None

    assert exchange.answer == ["before 2", "before 1", "after 1", "after 2"]
    assert api.restored == 1


def test_without_hooks_a_snapshot_is_taken_too(api: FakeRuntimeApi, tmp_path: Path) -> None:
    task = function(tmp_path, "def handler(event, context): return 1")

    with started(task, api.address, environment=SNAP_START):
        assert api.invoke({}).piece() is None

    assert api.restored == 1


def test_without_snapstart_nothing_is_restored(api: FakeRuntimeApi, tmp_path: Path, hooks: Path) -> None:
    with started(function(tmp_path, HOOKS), api.address, layers=[hooks]):
        exchange = api.invoke({})
        assert exchange.piece() is None

    assert exchange.answer == []
    assert api.restored == 0


@pytest.mark.parametrize(("moment", "restored"), [("before_snapshot", 0), ("after_restore", 1)])
def test_a_hook_that_fails_ends_the_process(
    api: FakeRuntimeApi, tmp_path: Path, hooks: Path, moment: str, restored: int
) -> None:
    source = f"""
        import snapshot_restore_py as hooks
        def fail(): raise LookupError("no connection")
        hooks.register_{moment}(fail)
        def handler(event, context): ...
    """

    with started(function(tmp_path, source), api.address, layers=[hooks], environment=SNAP_START) as process:
        code = process.popen.wait(10)

    errors = api.restore_errors if restored else api.init_errors
    assert errors.get_nowait()["errorMessage"] == "no connection"
    assert (code, api.restored) == (1, restored)
