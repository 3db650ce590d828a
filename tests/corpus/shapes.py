"""The shapes of a log that must be readable for ever: one function a shape, played by the production code."""

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from parley.core.run import Fail
from parley.core.tool import ToolOutcome
from parley.deadline import Deadline

from tests.build import Stage, agent, answer, asked, fails, linked, picture, redacted, said, shown, thought
from tests.fakes.flaky_table import Crash
from tests.fakes.model import Play

Shape = Callable[[Stage], Awaitable[None]]

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
