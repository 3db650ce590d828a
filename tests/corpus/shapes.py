"""The shapes of a log that must be readable for ever: one function a shape, played by the production code."""

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from parley.core.approval import expire
from parley.core.budget import Budget
from parley.core.changes import Changes
from parley.core.compose import user_message
from parley.core.control import UserInterrupt
from parley.core.decisions import Confirmation, confirm
from parley.core.run import Fail
from parley.core.scribe import Scribe
from parley.core.tool import ToolOutcome
from parley.deadline import Deadline
from parley.store import Ref
from parley.store.audit import Actor, By

from tests.build import (
    Stage,
    agent,
    answer,
    asked,
    careful,
    fails,
    head,
    linked,
    picture,
    redacted,
    said,
    shown,
    thought,
)
from tests.fakes.flaky_table import Crash
from tests.fakes.model import Play

Shape = Callable[[Stage], Awaitable[None]]

ANN = By(Actor("ann"))

SHAPES: dict[str, Shape] = {}
"""By name, which is the folder that it is recorded in."""


def shape(play: Shape) -> Shape:
    """Let this be recorded under its name."""
    SHAPES[play.__name__] = play
    return play


async def turn(stage: Stage, text: str, *plays: Play) -> None:
    """Send a message, and drive its run as far as it goes."""
    stage.plays(*plays)
    await stage.drive(await stage.begin(text))


async def go_on(stage: Stage, *plays: Play) -> None:
    """Drive on as the next driver does."""
    stage.plays(*plays)
    await stage.drive(await stage.take_over())


# Answers.


@shape
async def plain(stage: Stage) -> None:
    stage.plays(answer(said("Hel", "lo")))
    await stage.drive(await stage.begin("Hi", task_id="ticket-7"))


@shape
async def only_begun(stage: Stage) -> None:
    await stage.begin("Is anybody there?")


@shape
async def several_turns(stage: Stage) -> None:
    for text in ("One", "Two", "Three"):
        await turn(stage, text, answer(said(f"{text}!")))


@shape
async def thinking(stage: Stage) -> None:
    calls = answer(thought("Hm", "."), said("I look."), asked("look"))
    await turn(stage, "Think", calls, answer(thought("So"), said("Done.")))


@shape
async def redacted_thinking(stage: Stage) -> None:
    await turn(stage, "Think", answer(redacted("opaque"), said("So.")))


@shape
async def thinking_under_another_prompt(stage: Stage) -> None:
    await turn(stage, "Think", answer(thought("Hm"), said("So.")))
    stage.agent = agent(prompt="Be verbose.")
    await turn(stage, "And now?", answer(said("At length.")))


@shape
async def any_text(stage: Stage) -> None:
    text = 'a\nb\r\nc\u2028d\0e"f\\ä\U0001f600\ufffe'
    await turn(stage, text, answer(said(text), asked("look", {text: [text]})), answer(said("So.")))


@shape
async def large(stage: Stage) -> None:
    text = random.Random(7).randbytes(33_500).hex()  # more than an item holds, even compressed
    await turn(stage, text, answer(said("Long.")))


@shape
async def cut_by_max_tokens(stage: Stage) -> None:
    await turn(stage, "Tell me all", answer(said("First,"), asked("pay", json_text="{"), stop_reason="max_tokens"))


@shape
async def refused(stage: Stage) -> None:
    await turn(stage, "Be evil", answer(said("No."), stop_reason="refusal"))


@shape
async def context_full(stage: Stage) -> None:
    stage.agent = agent(compact_at_tokens=0)
    await turn(stage, "More", answer(said("I"), stop_reason="model_context_window_exceeded"))


@shape
async def compacted(stage: Stage) -> None:
    stage.agent = agent(compact_at_tokens=1000)
    summary = answer(said("They want me to look twice."))
    long = answer(thought(), asked("look"), tokens=(2000, 10))
    await turn(stage, "Look, twice", long, summary, answer(asked("look")), answer(said("Seen.")))


# Images.


@shape
async def images(stage: Stage) -> None:
    stage.plays(answer(said("Cats.")))
    await stage.drive(await stage.begin(shown(picture(), linked(), text="What is this?")))


@shape
async def large_images(stage: Stage) -> None:
    stage.plays(answer(said("Cats.")))
    await stage.drive(await stage.begin(shown(picture(150_000), text="What is this?")))


@shape
async def images_refused(stage: Stage) -> None:
    stage.plays(fails("refused_request"))
    await stage.drive(await stage.begin(shown(picture(), text="And this?")))


# Tools.


@shape
async def three_tools(stage: Stage) -> None:
    stage.plays(file=ToolOutcome("error", "The drawer is stuck."))
    calls = answer(said("All three."), asked("look"), asked("file", {"amount": 2}), asked("pay", {"amount": 5}))
    await turn(stage, "Look, file and pay", calls, answer(said("Done.")))


@shape
async def step_limit(stage: Stage) -> None:
    stage.agent = agent(max_steps=1)
    await turn(stage, "Look around", answer(asked("look")))


@shape
async def unknown_outcome(stage: Stage) -> None:
    stage.plays(answer(asked("pay"), asked("look")), pay=Crash())
    with suppress(Crash):
        await stage.drive()
    await go_on(stage)


@shape
async def outcome_happened(stage: Stage) -> None:
    await stage.decide(await stage.park(), "happened", "Receipt 7")
    await go_on(stage, answer(said("Paid.")))


@shape
async def outcome_did_not_happen(stage: Stage) -> None:
    await stage.decide(await stage.park(), "did_not_happen")
    await go_on(stage, answer(said("Not paid.")))


@shape
async def outcome_retry(stage: Stage) -> None:
    await stage.decide(await stage.park(), "retry")
    stage.plays(pay=ToolOutcome("ok", "Paid."))
    await go_on(stage, answer(said("Paid at last.")))


@shape
async def outcome_unknown_again(stage: Stage) -> None:
    await stage.decide(await stage.park(), "retry")
    await go_on(stage)


@shape
async def outcome_decided_and_not_driven(stage: Stage) -> None:
    await stage.decide(await stage.park(), "happened", "Receipt 7")


# Failures.


@shape
async def retried(stage: Stage) -> None:
    await turn(stage, "Hi", fails("overloaded"), fails("rate_limited", 3), answer(said("At last.")))


@shape
async def retries_exhausted(stage: Stage) -> None:
    await turn(stage, "Hi", *[fails("request_failed")] * 5)


@shape
async def request_refused(stage: Stage) -> None:
    await turn(stage, "Hi", fails("refused_request"))


@shape
async def agent_gone(stage: Stage) -> None:
    gone = Fail("agent_not_found", "Agent 'bank' is not deployed any more.")
    claim = await stage.begin("Hi", refusal=gone)
    async for _ in stage.engine.give_up(claim, stage.agent, gone):
        pass


# Drivers.


@shape
async def handed_over(stage: Stage) -> None:
    stage.plays(answer(said("I look."), asked("look")))
    claim = await stage.begin("Look", task_id="ticket-7")
    async for _ in stage.engine.drive(claim, stage.agent, Deadline(lambda: 0.0)):
        pass


@shape
async def handed_over_and_finished(stage: Stage) -> None:
    await handed_over(stage)
    await go_on(stage, answer(said("Done.")))


@shape
async def taken_over(stage: Stage) -> None:
    stage.plays(answer(asked("file"), asked("look")), file=Crash())
    with suppress(Crash):
        await stage.drive()
    stage.plays(file=ToolOutcome("ok", "Filed."))
    await go_on(stage, answer(said("Done.")))


@shape
async def poisoned(stage: Stage) -> None:
    await stage.begin("Hi")
    for _ in range(stage.agent.limits.max_claims - 1):
        await stage.take_over()
    await go_on(stage)


# Decisions.


@shape
async def waiting_for_approvals(stage: Stage) -> None:
    await stage.deploy(careful()).ask("a", "b", "c")


@shape
async def plan_decided_call_by_call(stage: Stage) -> None:
    first, second, third = await stage.deploy(careful()).ask("a", "b", "c")
    await stage.rule(first, "edit", input={"amount": 7})
    await go_on(stage)
    await stage.rule(second, "deny", message="Not to bob.")
    await stage.rule(third, "answer", message="In cash.")
    await go_on(stage, answer(said("Done.")))


@shape
async def plan_refused_in_the_sdks_words(stage: Stage) -> None:
    calls = await stage.deploy(careful()).ask("a", "b", "c")
    denials = [Confirmation(each, "deny", "No.") for each in calls]
    await stage.store.words.say(stage.ref, lambda scribe, session: confirm(scribe, session, denials, "ann"))
    await go_on(stage, answer(said("Then not.")))


@shape
async def approved_and_not_driven(stage: Stage) -> None:
    [call] = await stage.deploy(careful()).ask("pay")
    await stage.rule(call, "approve")


@shape
async def approval_expired(stage: Stage) -> None:
    await stage.deploy(careful(approval_seconds=60)).ask("pay")
    stage.clock.advance(60)
    await stage.store.words.say(stage.ref, expire)
    await go_on(stage, answer(said("Nobody decided.")))


@shape
async def approval_expired_and_the_run_cancelled(stage: Stage) -> None:
    await stage.deploy(careful(approval_seconds=60, on_expire="cancel")).ask("a", "b")
    stage.clock.advance(60)
    await stage.store.words.say(stage.ref, expire)
    await go_on(stage)


# Stop.


async def interrupt(stage: Stage) -> None:
    """Stop the open run, as a person does."""
    await stage.store.words.say(stage.ref, lambda scribe, _: [scribe.write(UserInterrupt, requested_by="ann")])


@shape
async def stopped_while_a_person_was_asked(stage: Stage) -> None:
    await stage.deploy(careful()).ask("a", "b")
    await interrupt(stage)
    await go_on(stage)


@shape
async def stopped_and_not_driven(stage: Stage) -> None:
    await stage.begin("Hi")
    await interrupt(stage)


@shape
async def steered_in_the_middle(stage: Stage) -> None:
    first, _ = await stage.deploy(careful()).ask("a", "b")
    session = await stage.session()
    assert session.run is not None
    scribe = Scribe(stage.ids.new, stage.clock.now, session.run.id)
    more = user_message(scribe, "And one thing more.")
    await stage.store.words.say(stage.ref, lambda *_: [more])
    await stage.rule(first, "deny")
    await go_on(stage)


@shape
async def failed_at_a_cost(stage: Stage) -> None:
    stage.agent = agent(max_steps=1)
    await turn(stage, "Look", answer(asked("look")))


# What people decide on a whole session.


@shape
async def suspended_and_resumed(stage: Stage) -> None:
    await stage.begin("Hi", task_id="ticket-7")
    await stage.store.lives.suspend(stage.ref, ANN)
    await go_on(stage)
    await stage.store.lives.resume(stage.ref, ANN)
    await go_on(stage, answer(said("Hello")))
    await stage.store.lives.suspend(stage.ref, ANN)


@shape
async def changed_and_archived(stage: Stage) -> None:
    await stage.create(title="Rent", metadata={"of": "May"})
    await stage.store.lives.update(stage.ref, ANN, Changes("", {"of": None, "paid": "no"}, "L1"))
    await stage.store.lives.archive(stage.ref, ANN)


@shape
async def set_back(stage: Stage) -> None:
    await turn(stage, "One", answer(said("One!"), asked("look")), answer(said("Seen.")))
    await stage.store.lives.checkpoint(stage.ref, ANN, "one")
    await turn(stage, "Two", answer(said("Two!")))
    await stage.store.lives.restore(stage.ref, ANN, "one", None)
    await turn(stage, "Three", answer(said("Three!")))


@shape
async def forked(stage: Stage) -> None:
    source = Ref(stage.ref.tenant, "sesn_source")
    stage.plays(answer(said("One!"), asked("look")), answer(said("Seen.")))
    await stage.drive(await stage.begin("One", source))
    await stage.store.lives.fork(source, ANN, head(stage.ref), None, None)
    await turn(stage, "Two", answer(said("Two!")))


# Budgets.


async def rebudget(stage: Stage, budget: Budget) -> None:
    """Give the session another budget, as a person does."""
    await stage.store.lives.update(stage.ref, ANN, Changes(budget=budget))


@shape
async def budget_reached(stage: Stage) -> None:
    stage.agent = stage.agent.model_copy(update={"budget": Budget(max_steps=1)})
    await turn(stage, "Look", answer(asked("look")))


@shape
async def budget_raised(stage: Stage) -> None:
    await budget_reached(stage)
    most = Budget(max_cost=10**6, max_tokens=10**6, max_steps=9, max_calls=9, max_active_seconds=600)
    await rebudget(stage, most)
    await go_on(stage, answer(said("Seen.")))


@shape
async def budget_raised_and_not_driven(stage: Stage) -> None:
    await budget_reached(stage)
    await rebudget(stage, Budget())


@shape
async def not_priced(stage: Stage) -> None:
    await stage.create()
    await rebudget(stage, Budget(max_cost=500))
    stage.agent = stage.agent.model_copy(update={"model": "a-model-of-tomorrow"})
    await turn(stage, "Hi")


@shape
async def reserved_and_not_answered(stage: Stage) -> None:
    stage.agent = stage.agent.model_copy(update={"daily_budget": 10**6})

    async def die() -> None:
        raise Crash

    stage.plays([die])
    with suppress(Crash):
        await stage.drive()


@shape
async def day_used_up(stage: Stage) -> None:
    stage.agent = stage.agent.model_copy(update={"daily_budget": 70})
    await turn(stage, "One", answer(said("One!")))
    await turn(stage, "Two")


# Beside the log.


@shape
async def queued(stage: Stage) -> None:
    await stage.create(title="Rent", metadata={"of": "May"}, task_id="ticket-7")
    await stage.send("One", "Two", task_id="ticket-8")
    stage.plays(answer(said("One!")), answer(said("Two!")))
    await stage.runner.nudge(stage.ref)
    await stage.follow_hints()
    await stage.send("Three")


@shape
async def deleted(stage: Stage) -> None:
    await stage.begin("Hi")
    await stage.store.sessions.delete(stage.ref)
