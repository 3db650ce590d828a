"""Any sequence of requests, faults and time: the API shows what a few plain lists say that it must."""

from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from tests.stateful.expected import ENDS, HELD
from tests.stateful.machine import Api

OFTEN = {
    *("created", "executed in a new session", "sent", "sent, and waits", "replayed"),
    *("one page", "more than a page", "a stranger asked", "nothing is left"),
    *("ran: say", "ran: lose", "ran: hold", "killed: hold", "deleted: idle", "decided: happened"),
    *("refused: session_not_found", "refused: tool_call_not_found", "refused: session_busy"),
    *("refused: invalid_input", "refused: idempotency_mismatch"),
}
"""What random sequences must have come to, or they have proved less than they seem to."""

SOMETIMES = {
    *("the same word again", "a client left", "expired: idle", "expired: waits"),
    *(f"{fate}: {word}" for fate in ("ran", "drained") for word in ENDS),
    *(f"{fate}: {word}" for fate in ("released", "killed", "frozen", "taken over") for word in HELD),
    *(f"decided: {word}" for word in ("happened", "did_not_happen", "retry")),
    *(f"deleted: {state}" for state in ("held", "waits")),
    *("refused: outcome_decided", "refused: outcome_not_unknown", "refused: other_attempt", "refused: queue_full"),
}
"""What they come to as well, though not in each few dozen of them: one sequence goes there on purpose."""


@pytest.fixture
def api() -> Iterator[Api]:
    """One example, played by hand."""
    api = Api()
    yield api
    api.teardown()


def test_everything_that_can_happen_to_a_session_does(api: Api) -> None:
    Api.fired.clear()

    speak(api)
    wait_in_line(api)
    die(api)
    end(api)

    assert SOMETIMES - Api.fired.keys() == set()


def speak(api: Api) -> None:
    """Run every word; freeze what is held; decide what is unknown, in each way, and again."""
    for word in ENDS:
        api.execute(word=word, stream=True, keyed=True)
    api.decide_on_another_attempt(nth=1, word="retry")
    api.leave(nth=0)
    api.freeze_and_thaw()
    api.decide_on_another_attempt(nth=1, word="retry")
    for outcome in ("happened", "did_not_happen", "retry"):
        api.decide(nth=0, word=outcome, keyed=True, lost=False)
        api.decide_again(nth=0, word=outcome)
    api.decide_again(nth=0, word="retry")


def wait_in_line(api: Api) -> None:
    """Send every word to one session, and help it on until nothing waits."""
    api.send(nth=1, words=[*ENDS, "lose", "doubt"], keyed=False, lost=False)
    while api.any("held", "waits"):
        for _ in api.any("held"):
            api.release(nth=0)
        for _ in api.any("waits"):
            api.decide(nth=0, word="happened", keyed=False, lost=True)
        api.sweep()


def die(api: Api) -> None:
    """Kill drivers, and have their runs taken over; fill a queue; delete what is open."""
    for word in HELD:
        api.execute(word=word, stream=False, keyed=False)
        api.kill(nth=0)
    api.wait(seconds=40)
    api.sweep()
    for _ in range(2):
        api.send_many(nth=0, count=20)
    for word in ("hold", "lose"):
        api.execute(word=word, stream=True, keyed=False)
        api.delete(nth=1)


def end(api: Api) -> None:
    """Send everything again; then let all expire."""
    api.send(nth=1, words=["say", "say"], keyed=True, lost=False)
    for nth in range(len(api.sent)):
        api.send_again(nth=nth, other=False)
    api.a_month_passes()
    api.long_after()


@pytest.mark.timeout(1800)  # some seconds of one core; with --hypothesis-profile=search, minutes
def test_the_api_shows_what_the_plain_lists_say() -> None:
    Api.fired.clear()

    run_state_machine_as_test(Api, settings=settings(stateful_step_count=40))

    assert OFTEN - Api.fired.keys() == set()
