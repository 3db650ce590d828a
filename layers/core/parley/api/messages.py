"""`GET /v1/sessions/{id}/messages`: the conversation as people read it, each message once."""

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Literal

from fastapi import APIRouter

from parley.api.depends import Principals, Refs, States
from parley.api.inherited import inherited
from parley.api.pages import Cursor, IncludeTotal, Limit, Offset, Order, page_of, take
from parley.api.shapes import MessageShape, PageOf
from parley.core import control as c
from parley.core import event as e
from parley.core.value import Block

router = APIRouter(tags=["messages"])


@router.get("/v1/sessions/{session_id}/messages", summary="List messages")
async def list_messages(
    session: Refs,
    state: States,
    principal: Principals,
    order: Order = "asc",
    limit: Limit = 20,
    page: Cursor = None,
    offset: Offset = 0,
    include_total: IncludeTotal = False,
) -> PageOf[MessageShape]:
    """Fold the events to messages: what a person said, what the agent answered, what its tools returned."""
    store = state.store
    await store.sessions.head(session, principal.sees)
    question = repr(("messages", session.id, order, "of"))
    seq, told = await store.cursors.open(session.tenant, question, page) if page else (None, 0)
    newest_first = order == "desc"
    events = store.log.events(
        session,
        after=0 if seq is None or newest_first else seq - 1,
        before=seq + 1 if seq is not None and newest_first else None,
        newest_first=newest_first,
        expect=4 * (limit + 1 + offset),
    )
    shown, more = await take(_messages(events, newest_first=newest_first), lambda each: each, offset + told, limit)
    last = shown[-1].seq if shown else seq
    again = sum(each.seq == last for each in shown) + (told if last == seq else 0)
    next_page = await store.cursors.seal(session.tenant, question, (last, again)) if more else None
    totals: dict[str, Any] = {}
    if include_total:
        totals = {"total": len(messages_of(await store.log.tail(session, 0))), "total_is_lower_bound": False}
    return page_of(shown, next_page, **totals)


def messages_of(events: Iterable[e.Event]) -> list[MessageShape]:
    """Fold events to messages."""
    return [message for event in events for message in _of(event)]


async def _messages(events: AsyncGenerator[e.Event, None], *, newest_first: bool) -> AsyncGenerator[MessageShape, None]:
    async with aclosing(events):
        async for event in events:
            for message in reversed(_of(event)) if newest_first else _of(event):
                yield message


def _of(event: e.Event) -> Sequence[MessageShape]:
    """Make messages of an event: none, one, or all that a fork has begun with."""
    if isinstance(event, c.SessionRestored):
        return inherited(event) if event.source_session_id else ()
    message = _message(event)
    return (message,) if message else ()


def _message(event: e.Event) -> MessageShape | None:
    author = None
    content: list[dict[str, Any]]
    role: Literal["user", "assistant", "tool"]
    match event:
        case e.UserMessage():
            role, content = "user", _blocks(event.content)
        case e.AgentMessage():
            role, content, author = "assistant", _blocks(event.content), event.author
        case e.AgentToolUse():
            role = "assistant"
            content = [{"type": "tool_use", "id": event.id, "name": event.name, "input": event.input}]
        case e.AgentToolResult():
            role = "tool"
            block: dict[str, Any] = {"type": "tool_result", "tool_use_id": event.tool_use_id, "name": event.name}
            content = [block | {"content": _blocks(event.content), "is_error": event.is_error}]
        case _:
            return None
    return MessageShape(
        id=event.id,
        seq=event.seq,
        role=role,
        content=content,
        created_at=event.created_at,
        run_id=event.run_id,
        task_id=event.task_id,
        author=author,
    )


def _blocks(blocks: Iterable[Block]) -> list[dict[str, Any]]:
    return [block.model_dump() for block in blocks]
