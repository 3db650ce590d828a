"""How schemathesis is set: all phases, all checks, nothing left to chance; and every exception with its reason."""

from typing import Any

from tests.fuzz.subject import KEY, Known

PHASES = ("examples", "coverage", "fuzzing", "stateful")

CURSOR = "a cursor that was not made here is malformed (400), and no schema can tell it from one that was"

IMAGE = "whether base64 is an image of the kind that it names (422), no schema can tell"

MANY = "whether there are too many metadata then (422) depends on those that are there"

LENIENCE: dict[str, dict[str, str]] = {
    "execute": {"422": IMAGE},
    "send_events": {"422": f"{IMAGE}; nor whether confirmations come with messages"},
    "edit_event": {"422": IMAGE},
    "decide_approval": {"422": "whether edited arguments fit the call's tool, no schema of the API can tell"},
    "decide_plan": {"422": "which calls are in the plan, no schema can tell"},
    "list_approvals": {"400": CURSOR},
    "list_sessions": {"400": CURSOR},
    "list_events": {"400": CURSOR},
    "list_messages": {"400": CURSOR},
    "list_runs": {"400": CURSOR},
    "list_acts": {"400": CURSOR},
    "update_session": {"422": MANY},
    "stream_events": {"400": CURSOR},
}
"""By operation: a refusal that a request may get although the schema admits it, and why. No check is off."""

ACCEPTED = ("2xx", "401", "404", "409")
"""What a request that the schema admits is answered with: done, not allowed here, not there, or not now."""

REFUSED = ("400", "401", "404", "405", "409", "413", "415", "422")
"""What one gets that it does not admit; a server error is none of these."""


def settings(known: Known, max_examples: int, seed: int | None) -> dict[str, Any]:
    """Write the whole configuration, as schemathesis' own file would have it; without a seed, always the same cases."""
    generation = {"deterministic": seed is None, "max-examples": max_examples, "database": "none"}
    return {
        "seed": seed or 0,
        "headers": {"x-api-key": KEY},
        "cache": {"enabled": False},  # what an earlier run has learnt would change this one
        "continue-on-failure": True,
        "max-stream-events": 100_000,  # streams end by themselves here; one that is cut would leave its run alone
        "output": {"sanitization": {"enabled": False}},  # the key is made up, and a failure is to be replayed
        "generation": generation,
        "phases": {
            "stateful": {"generation": generation},
            # it reads `body.input` in a problem as a field of the body that is called `body`, and sends one
            "fuzzing": {"error-feedback": {"enabled": False}},
        },
        "checks": {
            "positive_data_acceptance": {"expected-statuses": list(ACCEPTED)},
            "negative_data_rejection": {"expected-statuses": list(REFUSED)},
        },
        "dictionaries": {name: {"values": [value]} for name, value in vars(known).items()},
        "parameters": {
            "path.agent_id": often("agent"),
            "path.approval_id": often("approval"),
            "body.agent": often("agent"),
        },
        "operations": [
            *(_lenient(operation, [*ACCEPTED, *statuses]) for operation, statuses in LENIENCE.items()),
            {
                "include-operation-id": "decide_outcome",
                "parameters": {"path.session_id": often("parked"), "path.event_id": often("call")},
            },
            {
                "include-operation-id": "decide_plan",
                "parameters": {"path.session_id": often("planned"), "path.plan_id": often("plan")},
            },
            {
                "include-operation-id": "get_run",
                "parameters": {"path.session_id": often("session"), "path.run_id": often("run")},
            },
            {
                "include-operation-id": "edit_event",
                "parameters": {"path.session_id": often("held"), "path.event_id": often("waiting")},
            },
            {
                "include-operation-id": "remove_event",
                "parameters": {"path.session_id": often("held"), "path.event_id": often("unwanted")},
            },
            {  # a deleted session is of no use to the others: what is deleted was made by a case before
                "include-path-regex": r"\{session_id\}",
                "exclude-method": "DELETE",
                "parameters": {"path.session_id": often("session")},
            },
        ],
    }


def often(name: str) -> dict[str, Any]:
    """Use what is there for most cases, and anything for the others."""
    return {"dictionary": name, "probability": 0.7}


def _lenient(operation: str, statuses: list[str]) -> dict[str, Any]:
    checks = {"positive_data_acceptance": {"expected-statuses": statuses}}
    return {"include-operation-id": operation, "checks": checks}
