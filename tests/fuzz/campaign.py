"""One run of schemathesis over the whole API, in this process, and what came of it."""

import asyncio
import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import schemathesis
from anthropic._streaming import SSEDecoder
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from tests.fuzz.rules import settings
from tests.fuzz.subject import Known, Subject, subject


@dataclass
class Report:
    """What was sent, what was answered, and what was wrong with it."""

    operations: set[str]
    answered: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """Cases by operation and status."""
    phases: Counter[str] = field(default_factory=Counter)
    """Cases by phase."""
    failures: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """The first of each kind."""
    fingerprint: Any = field(default_factory=hashlib.sha256)
    """Of every request and its status, in their order: two runs that say the same have the same."""

    def take(self, event: events.EngineEvent) -> None:
        """Count one event of the engine."""
        match event:
            case events.ScenarioFinished():
                self._count(event)
            case events.NonFatalError():
                self.failures[("error", event.label, event.info.title)] = str(event.value)
            case events.FatalError():
                raise event.exception
            case _:
                pass

    def _count(self, event: events.ScenarioFinished) -> None:
        for id, sent in event.recorder.interactions.items():
            operation = event.recorder.cases[id].value.operation.label
            status = sent.response.status_code if sent.response else 0
            self.answered[operation][status] += 1
            self.phases[event.phase.value] += 1
            self.fingerprint.update(repr((sent.request.method, sent.request.uri, sent.request.body, status)).encode())
            for check in event.recorder.checks.get(id, ()):
                if info := check.failure_info:
                    told = f"{status}: {info.failure.message}\n{info.code_sample[:2000]}"
                    self.failures.setdefault((check.name, operation, info.failure.title), told)

    @property
    def cases(self) -> int:
        """How many requests were sent."""
        return sum(self.phases.values())

    @property
    def barren(self) -> list[str]:
        """Operations that never did what they are for: nothing is proved about their answers."""
        return sorted(name for name in self.operations if not any(200 <= s < 300 for s in self.answered[name]))

    def __str__(self) -> str:
        phases = ", ".join(f"{phase} {count}" for phase, count in self.phases.items())
        lines = [f"fuzz: {self.cases} cases over {len(self.operations)} operations ({phases})"]
        lines += [f"  {name}: {dict(sorted(self.answered[name].items()))}" for name in sorted(self.operations)]
        lines += [f"FAILED {' | '.join(kind)}\n{told}" for kind, told in self.failures.items()]
        lines += [f"FAILED {name}: not once answered with 2xx" for name in self.barren]
        return "\n".join([*lines, f"fingerprint {self.fingerprint.hexdigest()[:16]}"])


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Give each body a key of its own: the same key with another body is refused, and no schema says so.

    And let who wants to stop a run stop the one that can be, and nobody end a session that others need.
    """
    key = (case.headers or {}).get("idempotency-key")
    if isinstance(key, str) and 1 <= len(key) <= 200:
        case.headers["idempotency-key"] = f"{key}{hashlib.sha256(repr(case.body).encode()).hexdigest()[:8]}"
    if case.operation.path.endswith("/cancel") and str(case.path_parameters.get("run_id")).startswith("run_"):
        case.path_parameters |= case.operation.schema.app.stopped  # a run that a case finds for itself has ended
    ends = case.operation.path.endswith("/archive") or case.operation.label == "DELETE /v1/sessions/{session_id}"
    if ends and case.path_parameters.get("session_id") in case.operation.schema.app.kept:
        case.path_parameters["session_id"] = "sesn_kept"  # which is not there


@schemathesis.check
def a_stream_is_frames(context: Any, response: schemathesis.Response, case: Any) -> None:
    """Hold a stream to what no schema says: every frame has a name and JSON, and the first says when to come back."""
    if not response.headers.get("content-type", [""])[0].startswith("text/event-stream"):
        return
    assert response.content.startswith(b"retry: 1000\n\n"), "no retry"
    assert response.content.endswith(b"\n\n"), "a frame without its end"
    for told in SSEDecoder().iter_bytes(iter([response.content])):
        if told.event or told.data:  # and not a comment, or the `retry` at the beginning
            assert told.event, "a frame without a name"
            assert isinstance(told.json(), dict), "a frame without an object"


def fuzz(folder: Path, max_examples: int, seed: int | None = None) -> Report:
    """Send every phase's cases to an app over an empty table in `folder`."""
    with asyncio.Runner() as loop:
        opening = subject(folder)
        app, known = loop.run(opening.__aenter__())
        try:
            return _run(app, known, settings(known, max_examples, seed))
        finally:
            loop.run(opening.__aexit__(None, None, None))


def _run(app: Subject, known: Known, configuration: dict[str, Any]) -> Report:
    described = app.app.openapi()
    schema = schemathesis.openapi.from_dict(described, config=SchemathesisConfig.from_dict(configuration))
    schema.app = app

    @schema.hook
    def map_body(context: Any, body: Any) -> Any:
        """Go on in the session that is there, where metadata does not forbid it."""
        fits = isinstance(body, dict) and body.get("session_id") and not body.get("metadata")
        return body | {"session_id": known.session} if fits and isinstance(body["session_id"], str) else body

    report = Report({f"{method.upper()} {path}" for path, item in described["paths"].items() for method in item})
    for event in from_schema(schema).execute():
        report.take(event)
    return report
