"""Long sessions: the production engine compacts the context, and loses, doubles and parts nothing."""

from dataclasses import replace
from typing import Any

import agent as wallet
import pytest
from inline_snapshot import snapshot
from parley import Agent
from parley.adapters.scripted import ScriptedModel
from parley.core import compaction
from parley.core import event as e
from parley.core.errors import Fenced, ModelError
from parley.core.limits import Limits
from parley.core.tool import ToolOutcome
from parley.core.value import text_of

from tests import build
from tests.build import Stage, answer, asked, cut, fails, only, said, thought, types
from tests.fakes.flaky_table import Crash, Fault

pytestmark = pytest.mark.anyio

LONG = (1000, 1)
"""Tokens of an answer that makes the context too long."""

SUMMARY = answer(said("They ", "counted."), tokens=(70, 7))
FULL = ModelError("context_full", "prompt is too long: 1001 tokens > 1000 maximum")


@pytest.fixture(autouse=True)
def short(stage: Stage) -> None:
    """Have the context compacted from 1,000 tokens on."""
    stage.agent = build.agent(compact_at_tokens=1000)


def is_request(messages: tuple[bytes, ...]) -> bool:
    return compaction.asks_for_summary(messages[-1])


def told(stage: Stage) -> list[tuple[str, Any]]:
    """What the model was sent last: role, and text or type of the first block."""
    return [(each["role"], each["content"][0].get("text", each["content"][0]["type"])) for each in stage.model.messages]


STANDS = f"{compaction.OPENING}\n\nThey counted."


async def test_between_two_calls_a_run_is_compacted_and_goes_on(stage: Stage) -> None:
    first, second = answer(asked("pay"), tokens=LONG), answer(asked("file"))
    stage.plays(first, SUMMARY, second, answer(said("Done.")))

    outputs = await stage.drive(await stage.begin("Pay, then file"))

    assert types(outputs)[4:] == snapshot(
        [
            "span.model_request_start",
            "agent.tool_use",
            "span.model_request_end",
            "tool.intended",
            "agent.tool_result",
            "span.model_request_start",
            "agent.thread_context_compacted",
            "span.model_request_end",
            "span.model_request_start",
            "agent.tool_use",
            "span.model_request_end",
            "tool.intended",
            "agent.tool_result",
            "draft started",
            "draft grew",
            "span.model_request_start",
            "agent.message",
            "span.model_request_end",
            "run.finished",
            "session.status_idle",
        ]
    )
    assert [is_request(request.messages) for request in stage.model.requests] == [False, True, False, False]
    assert told(stage) == [
        ("user", STANDS),
        ("assistant", "tool_use"),
        ("user", "tool_result"),
        ("assistant", "tool_use"),
        ("user", "tool_result"),
    ]
    assert [output for output in outputs if isinstance(output, e.EventBase)] == await stage.log()


async def test_a_summary_is_asked_for_in_words_with_the_same_prompt_and_tools(stage: Stage) -> None:
    stage.plays(answer(asked("pay"), tokens=LONG), SUMMARY, answer(said()))

    await stage.drive()

    plain, request, _ = stage.model.requests
    assert (request.system, request.tools) == (plain.system, plain.tools)
    assert request.messages[:-1] == plain.messages
    assert (plain.tool_choice, request.tool_choice) == (None, "none")
    assert (request.max_tokens, request.thinking_tokens) == (compaction.SUMMARY_TOKENS, 0)


async def test_the_original_messages_stay_in_the_log(stage: Stage) -> None:
    stage.plays(answer(said("Two"), tokens=LONG), SUMMARY, answer(said("Four")))

    await stage.drive(await stage.begin("One"))
    await stage.drive(await stage.begin("Three"))

    log = await stage.log()
    assert [text_of(each.content) for each in log if isinstance(each, e.UserMessage | e.AgentMessage)] == [
        "One",
        "Two",
        "Three",
        "Four",
    ]
    [compacted] = only(e.ContextCompacted, log)
    assert (compacted.summary, compacted.replaced, compacted.context_tokens) == ("They counted.", 2, 1001)
    assert told(stage) == [("user", STANDS), ("user", "Three")]


async def test_what_a_summary_took_is_counted_in_run_and_session(stage: Stage) -> None:
    stage.plays(answer(said("Two"), tokens=LONG), SUMMARY, answer(said("Four")))

    await stage.drive(await stage.begin("One"))
    outputs = await stage.drive(await stage.begin("Three"))

    [finished] = only(e.RunFinished, outputs)
    head, _ = await stage.store.sessions.open(stage.ref)
    assert finished.usage.total == 70 + 7 + 10 + 5
    assert head.usage.total == 1001 + finished.usage.total


async def test_a_compaction_waits_for_a_person_who_must_say_what_came_of_a_call(stage: Stage) -> None:
    stage.plays(answer(asked("pay"), tokens=LONG), pay=ToolOutcome("unknown", "?"))
    await stage.drive()
    [use] = only(e.AgentToolUse, await stage.log())
    assert not only(e.ContextCompacted, await stage.log())

    stage.plays(SUMMARY, answer(said("Done.")))
    await stage.decide(use.id, "happened", "Receipt 7")
    await stage.drive(await stage.take_over())

    results = stage.model.messages[-1]["content"]
    assert told(stage)[0] == ("user", STANDS)
    assert results[0]["content"][0]["text"] == "Receipt 7"


async def test_thinking_that_is_kept_is_left_out_and_later_thinking_is_sent_back(stage: Stage) -> None:
    stage.plays(answer(thought(), asked("pay"), tokens=LONG), SUMMARY)
    stage.plays(answer(thought("Well"), asked("file")), answer(said("Done.")))

    await stage.drive()

    kinds = [[block["type"] for block in each["content"]] for each in stage.model.messages]
    assert kinds == [["text"], ["tool_use"], ["tool_result"], ["thinking", "tool_use"], ["tool_result"]]


# Failures.


async def test_a_summary_that_was_cut_short_is_asked_for_again(stage: Stage) -> None:
    stage.plays(answer(asked("pay"), tokens=LONG), cut(SUMMARY), SUMMARY, answer(said("Done.")))

    outputs = await stage.drive()

    errors = only(e.SessionError, outputs)
    assert [each.error.code for each in errors] == ["model_cut_short"]
    assert [each.error.retry_status.type for each in errors] == ["retrying"]
    assert len(only(e.ContextCompacted, outputs)) == 1
    assert only(e.RunFinished, outputs)


async def test_an_empty_summary_replaces_nothing(stage: Stage) -> None:
    stage.plays(answer(asked("pay"), tokens=LONG), answer(said(" ")), SUMMARY, answer(said("Done.")))

    outputs = await stage.drive()

    assert [each.summary for each in only(e.ContextCompacted, outputs)] == ["They counted."]


async def test_a_model_that_refuses_to_summarise_does_not_brick_the_session(stage: Stage) -> None:
    stage.plays(answer(said("Two"), tokens=LONG), answer(said(""), stop_reason="refusal"), answer(said("Four")))

    await stage.drive(await stage.begin("One"))
    outputs = await stage.drive(await stage.begin("Three"))

    [compacted] = only(e.ContextCompacted, outputs)
    assert "One" in compacted.summary
    assert only(e.RunFinished, outputs)
    assert [text for _, text in told(stage)] == [f"{compaction.OPENING}\n\n{compacted.summary}", "Three"]


async def test_when_no_summary_can_be_had_the_run_fails_and_the_next_one_tries_again(stage: Stage) -> None:
    stage.agent = build.agent(compact_at_tokens=1000, max_model_retries=1)
    stage.plays(answer(asked("pay"), tokens=LONG), fails(), fails())

    outputs = await stage.drive()

    [failed] = only(e.RunFailed, outputs)
    assert (failed.code, failed.retryable) == ("model_overloaded", True)
    assert not only(e.ContextCompacted, outputs)
    stage.plays(SUMMARY, answer(said("Done.")))
    assert only(e.RunFinished, await stage.drive(await stage.begin("Go on")))


async def test_a_context_that_the_model_calls_full_is_compacted_at_once(stage: Stage) -> None:
    stage.plays(answer(said("Two")), FULL, SUMMARY, answer(said("Four")))
    await stage.drive(await stage.begin("One"))

    began = stage.clock.now()
    outputs = await stage.drive(await stage.begin("Three"))

    [error] = only(e.SessionError, outputs)
    assert (error.error.code, error.error.retry_status.type) == ("model_context_full", "retrying")
    assert stage.clock.now() == began
    assert told(stage) == [("user", STANDS), ("user", "Three")]
    assert only(e.RunFinished, outputs)


async def test_when_a_compaction_made_no_room_the_run_fails_and_says_so(stage: Stage) -> None:
    stage.plays(answer(said("Two")), FULL, SUMMARY, FULL)
    await stage.drive(await stage.begin("One"))

    outputs = await stage.drive(await stage.begin("Three"))

    [failed] = only(e.RunFailed, outputs)
    assert (failed.code, failed.retryable) == ("context_full", False)
    assert [each.error.retry_status.type for each in only(e.SessionError, outputs)] == ["retrying", "terminal"]


async def test_a_message_that_no_window_holds_does_not_brick_its_session(stage: Stage) -> None:
    stage.plays(answer(said("Two")), FULL, SUMMARY, FULL)
    await stage.drive(await stage.begin("One"))
    huge = "x" * 500_000
    assert only(e.RunFailed, await stage.drive(await stage.begin(huge)))

    stage.plays(FULL, FULL, SUMMARY, answer(said("Fine.")))
    outputs = await stage.drive(await stage.begin("And now?"))

    assert only(e.RunFinished, outputs)
    assert told(stage) == [("user", STANDS), ("user", "And now?")]
    whole, excerpts = (request for request in stage.model.requests[-4:] if is_request(request.messages))
    assert len(b"".join(whole.messages)) > len(huge)
    assert len(b"".join(excerpts.messages)) < 1000 * compaction.EXCERPT_BYTES_PER_TOKEN + 2000


async def test_an_answer_that_ran_out_of_room_goes_on_behind_a_summary(stage: Stage) -> None:
    stopped = answer(said("One, two"), stop_reason="model_context_window_exceeded")
    stage.plays(stopped, SUMMARY, answer(said("three.")))

    outputs = await stage.drive(await stage.begin("Count"))

    assert told(stage) == [("user", STANDS)]
    assert only(e.RunFinished, outputs)


async def test_an_agent_that_never_compacts_fails_as_it_did(stage: Stage) -> None:
    stage.agent = build.agent(compact_at_tokens=0)
    stage.plays(answer(said("Two"), tokens=(10**9, 1)), FULL)
    await stage.drive(await stage.begin("One"))

    outputs = await stage.drive(await stage.begin("Three"))

    assert [each.code for each in only(e.RunFailed, outputs)] == ["context_full"]
    assert [each.error.retry_status.type for each in only(e.SessionError, outputs)] == ["terminal"]


# Crashes, and other writers.


@pytest.mark.parametrize("fault", ["crash", "crash_after"])
async def test_a_process_that_dies_while_it_stores_a_summary_loses_and_doubles_nothing(
    stage: Stage, fault: Fault
) -> None:
    async def die_next() -> None:
        stage.table.fail_next(fault)

    stage.plays(answer(asked("pay"), tokens=LONG), [die_next, *SUMMARY], pay=ToolOutcome("ok", "paid"))
    with pytest.raises(Crash):
        await stage.drive()
    stored = only(e.ContextCompacted, await stage.log())
    assert len(stored) == (fault == "crash_after")

    other = stage.another()
    other.plays(*([] if stored else [SUMMARY]), answer(said("Done.")))
    outputs = await other.drive(await other.take_over())

    assert only(e.RunFinished, outputs)
    assert len(only(e.ContextCompacted, await stage.log())) == 1
    assert told(other) == [("user", STANDS), ("assistant", "tool_use"), ("user", "tool_result")]
    assert len(only(e.AgentToolResult, await stage.log())) == 1


async def test_a_driver_that_was_taken_over_while_the_model_summarised_stores_nothing_more(stage: Stage) -> None:
    other = stage.another()

    async def take_over() -> None:
        await other.take_over()

    stage.plays(answer(asked("pay"), tokens=LONG), [take_over, *SUMMARY])

    with pytest.raises(Fenced):
        await stage.drive()

    assert not only(e.ContextCompacted, await stage.log())


async def test_a_session_of_many_runs_stays_bounded_and_loads_alike_in_another_process(stage: Stage) -> None:
    for number in range(12):
        tokens = LONG if number % 3 == 2 else (10, 5)
        stage.plays(*([SUMMARY] if number and number % 3 == 0 else []))
        stage.plays(answer(asked("look")), answer(said(f"{number} {'y' * 300}"), tokens=tokens))
        await stage.drive(await stage.begin(f"{number} {'x' * 300}"))

    assert len(only(e.ContextCompacted, await stage.log())) == 3
    assert max(len(request.messages) for request in stage.model.requests) <= 14
    assert (await stage.another().store.log.load(stage.ref, 0))[0] == await stage.session()


async def test_every_agent_compacts_unless_it_says_otherwise() -> None:
    assert Limits().compact_at_tokens == 150_000


async def test_with_the_scripted_model_every_payment_is_made_once_in_a_session_that_is_compacted_all_the_time(
    stage: Stage,
) -> None:
    limits = Limits(compact_at_tokens=500)
    stage.agent = Agent(id="bank", prompt="You look after a wallet.", tools=wallet.agent.tools, limits=limits)
    stage.engine = replace(stage.engine, model=ScriptedModel(stage.clock, 0))
    stage.plays(pay=ToolOutcome("ok", '{"payee": "alice"}'), quote=ToolOutcome("ok", '{"fee": "0.05"}'))

    for amount in range(1, 9):
        outputs = await stage.drive(await stage.begin(f"Pay {amount} to alice, then show my balance"))
        assert [each.status for each in only(e.RunFinished, outputs)] == ["completed"]

    paid = [call.arguments["amount"] for call in stage.tools.called if call.name == "pay"]
    assert paid == list(range(1, 9))
    assert stage.tools.names.count("balance") == 8
    log = await stage.log()
    assert len(only(e.ContextCompacted, log)) > 8
    assert max(end.model_usage.total for end in only(e.ModelRequestEnd, log)) < 2000
