"""`GET /v1/sessions/{id}/events/stream`: a session as it goes on, whoever runs it."""

from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import StreamingResponse

from parley.api import sse
from parley.api.depends import Principals, Refs, States
from parley.api.vocabulary import Native, Simple, Speaker, Vocabulary
from parley.core.delta import Kind
from parley.core.errors import Malformed
from parley.watch import Watch

router = APIRouter(tags=["events"])

Deltas = Annotated[
    list[Kind] | None,
    Query(alias="event_deltas[]", description="Drafts of these types, too; thinking is only announced. Native only."),
]


@router.get(
    "/v1/sessions/{session_id}/events/stream",
    summary="Follow a session",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}, "description": "The session's stream."}},
)
async def stream_events(
    session: Refs,
    state: States,
    principal: Principals,
    after: Annotated[str | None, Query(description="Begin behind this `seq`.")] = None,
    last_event_id: Annotated[str | None, Header(description="As `after`; sent by a client that reconnects.")] = None,
    begin: Annotated[
        Literal["now", "start"], Query(alias="from", description="Where to begin without a cursor.")
    ] = "now",
    until: Annotated[
        Literal["idle"] | None, Query(description="`idle`: end when nothing goes on without a person.")
    ] = None,
    vocab: Annotated[Vocabulary, Query(description="Words of the stream.")] = "native",
    event_deltas: Deltas = None,
) -> Response:
    """Send the events behind the cursor, then each new one, with drafts; `stream.rotate` asks to reconnect."""
    store = state.store
    asked = _cursor(last_event_id or after)
    newest = await store.log.last_seq(session)  # before the lock: whether it runs is then told again by what follows
    _, lock = await store.sessions.open(session, principal.sees)
    early = asked is None and begin == "now"
    cursor = newest if early else asked or 0
    if cursor > newest:
        raise Malformed(f"This session's newest event is {newest}: {cursor} is another session's cursor.")
    watch = Watch(
        store,
        session,
        cursor,
        running=lock.run is not None and lock.lease_until_ms is not None,
        until_idle=until == "idle",
        early=early,
        drafts=vocab == "simple" or bool(event_deltas),
        deadline=state.deadline,
    )
    speaker: Speaker = Native(frozenset(event_deltas or ()))
    if vocab == "simple":
        speaker = simple = Simple(session.id, "")
        for event in await store.log.of_last_run(session, before=cursor + 1):
            simple.take(event)  # `complete` tells of all of the run that the cursor stands in
    frames = sse.frames(watch.outputs(), speaker.say, store.log.clock.now)
    return StreamingResponse(frames, headers=sse.HEADERS, media_type=sse.MEDIA_TYPE)


def _cursor(text: str | None) -> int | None:
    """Read where to begin.

    Raises:
        Malformed: it is no `seq`.
    """
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise Malformed("Last-Event-ID and `after` must be the `id` of a frame of this stream.")
    return int(text)
