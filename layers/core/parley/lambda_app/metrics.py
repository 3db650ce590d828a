"""Metrics of runs: what happened, counted from the events themselves. The template's alarms look at them."""

from aws_lambda_powertools import Metrics
from aws_lambda_powertools.metrics import MetricUnit

from parley.core import control as c
from parley.core import event as e
from parley.runner import Runner
from parley.sweeper import Swept

THROTTLES = {"model_rate_limited", "model_overloaded"}


class Counted:
    """Counts during an invocation, and tells CloudWatch at its end with one log line."""

    def __init__(self) -> None:
        self._metrics = Metrics(namespace="Parley", service="parley")

    def observe(self, runner: Runner) -> None:
        """Count what a runner's drivers store."""
        runner.on_event = self.take

    def take(self, event: e.Event) -> None:
        """Count one event."""
        match event:
            case e.RunStarted():
                self._add("RunsStarted")
            case e.RunFailed():
                self._add("RunsFailed")
            case c.RunCancelled():
                self._add("RunsCancelled")
            case e.StatusIdle() if event.stop_reason.type == "requires_action":
                self._add("RunsParked")
            case e.SessionError() if event.error.code in THROTTLES:
                self._add("ModelThrottles")
            case _:
                pass

    def swept(self, swept: Swept) -> None:
        """Count one round of the sweeper."""
        self._add("SweeperRepairs", swept.hints)
        self._add("SweeperFailures", swept.failed)

    def flush(self) -> None:
        """Write what was counted, if anything was."""
        if self._metrics.metric_set:
            self._metrics.flush_metrics()

    def _add(self, name: str, value: int = 1) -> None:
        self._metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
