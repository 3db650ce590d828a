"""Following one run: live while this process drives it, from the log when it does not, or not yet."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from parley.core.delta import DraftDiscarded, DraftStarted, Output, Rotated
from parley.core.errors import Gone
from parley.core.event import EventBase, SessionDeleted, StatusIdle, UserMessage
from parley.runner import Listener, Runner
from parley.store import Claim, Ref, Store
from parley.watch import HEARTBEAT_SECONDS, Watch


async def follow(runner: Runner, claim: Claim, listener: Listener) -> AsyncIterator[Sequence[Output]]:
    """Yield what the run says, in batches of what is waiting, until it is idle; an empty batch is a sign of life.

    When its driver here ends early, the log tells the rest.
    """
    seq = claim.events[0].seq - 1
    drafts: set[str] = set()
    live = runner.live.get(claim.run_id)
    try:
        while True:
            batch = await _drain(listener)
            said = [output for output in batch if output is not None]
            yield said
            drafts = _open_drafts(drafts, said)
            seq = max([seq, *(output.seq for output in said if isinstance(output, EventBase))])
            if said and isinstance(said[-1], StatusIdle):
                return
            if len(said) < len(batch):
                break
    finally:
        if live and listener in live.listeners:
            live.listeners.remove(listener)
    yield [DraftDiscarded(event_id) for event_id in sorted(drafts)]
    async for outputs in tail(runner, claim.ref, claim.run_id, seq):
        yield outputs


async def tail(runner: Runner, ref: Ref, run_id: str, after: int) -> AsyncIterator[Sequence[Output]]:
    """Yield what a run says behind `after`, from the table, until the run is idle or the session is gone."""
    watch = Watch(runner.store, ref, after, running=True, deadline=runner.deadline)
    async for outputs in watch.outputs():
        said = [output for output in outputs if not isinstance(output, EventBase) or _belongs(output, run_id)]
        events = [output for output in said if isinstance(output, EventBase)]
        if events and isinstance(events[-1], StatusIdle):
            yield said[: said.index(events[-1]) + 1]  # drafts behind it are the next run's
            return
        if said or not outputs:
            yield said
        if not outputs:
            await runner.nudge(ref)  # its driver may be gone, and nobody else looking


async def turn(runner: Runner, ref: Ref, message_id: str, after: int) -> AsyncIterator[Sequence[Output]]:
    """Wait until a message that waits has its turn, then yield what its run says; empty batches are signs of life.

    Raises:
        Gone: somebody has removed the message.
    """
    watch = Watch(runner.store, ref, after, running=True, drafts=False, deadline=runner.deadline)
    async for outputs in watch.outputs():
        for output in outputs:
            match output:
                case UserMessage() if output.id == message_id and output.run_id:
                    async for said in tail(runner, ref, output.run_id, output.seq - 1):
                        yield said
                    return
                case SessionDeleted() | Rotated():
                    yield [output]
                    return
                case _:  # of a run before it
                    pass
        yield ()
        if not outputs:
            await runner.nudge(ref)
            if not await waits(runner.store, ref, message_id, after):
                raise Gone(f"The message '{message_id}' was removed before its turn.", code="message_removed")


async def waits(store: Store, ref: Ref, message_id: str, after: int) -> bool:
    """Say whether a message has yet to be told of: it waits, or has been taken into the log in this moment."""
    return bool(await store.inputs.find(ref, message_id) or await store.inputs.placed(ref, message_id, after))


def _belongs(event: EventBase, run_id: str) -> bool:
    return event.run_id == run_id or isinstance(event, SessionDeleted)


def _open_drafts(drafts: set[str], said: Sequence[Output]) -> set[str]:
    """Follow which drafts have neither become an event nor been discarded."""
    begun = {output.event_id for output in said if isinstance(output, DraftStarted)}
    gone = {output.event_id for output in said if isinstance(output, DraftDiscarded)}
    return (drafts | begun) - gone - {output.id for output in said if isinstance(output, EventBase)}


async def _drain(listener: Listener) -> list[Output | None]:
    """Wait for something, then take all that is there; nothing after `HEARTBEAT_SECONDS`."""
    try:
        async with asyncio.timeout(HEARTBEAT_SECONDS):
            batch = [await listener.get()]
    except TimeoutError:
        return []
    while not listener.empty():
        batch.append(listener.get_nowait())
    return batch
