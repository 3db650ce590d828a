"""Setting a conversation back: what the model is to read again, as one event.

The event carries the messages, so folding it needs no other log (docs/decisions/0013-a-restore-carries-its-context.md).
What tools have done since is not undone, and the model is told so.
"""

from collections.abc import Sequence

from parley.core.control import SessionRestored
from parley.core.errors import Conflict, NotFound
from parley.core.fold.calls import close_calls, steer
from parley.core.message import dump, is_results, message, without_thinking
from parley.core.scribe import Scribe
from parley.core.session import Session

SET_BACK = "The conversation was set back to an earlier point; what tools have done since is not undone."

_TOLD = message("user", (dump({"type": "text", "text": SET_BACK}),))

MAX_CHECKPOINTS = 100
"""Of one session; they are folded with it."""


def place_of(session: Session, checkpoint: str) -> int:
    """Return the `seq` that a checkpoint names.

    Raises:
        NotFound: there is none of that name.
    """
    for each in session.checkpoints:
        if each.name == checkpoint:
            return each.seq
    raise NotFound("checkpoint", checkpoint)


def may_name(session: Session, name: str) -> bool:
    """Say whether this place may have a new name; not if it has exactly this one.

    Raises:
        Conflict: another place has the name, or there are too many.
    """
    for each in session.checkpoints:
        if each.name == name:
            if each.seq == session.seq:
                return False
            raise Conflict(f"Checkpoint '{name}' is behind event {each.seq}. Choose another name.", code="name_taken")
    if len(session.checkpoints) >= MAX_CHECKPOINTS:
        raise Conflict(f"A session has at most {MAX_CHECKPOINTS} checkpoints.", code="too_many_checkpoints")
    return True


def restored(
    scribe: Scribe, present: Session, past: Session, *, fork_of: Session | None = None, checkpoint: str | None, by: str
) -> SessionRestored:
    """Write what sets `present` back to `past`; a fork is a `present` without events, of the session `fork_of`."""
    wanted = _readable(past)
    told = (_TOLD,) if wanted != _readable(fork_of or present) else ()
    if not (present.run and past.run and present.run.agent_version == past.run.agent_version):
        wanted = tuple(map(without_thinking, wanted))  # it is bound to the prompt and the tools of its time
    wanted = (*wanted, *told)
    keep = _common(present.context, wanted)
    return scribe.write(
        SessionRestored,
        to_seq=past.seq,
        keep=keep,
        messages=tuple(each.decode() for each in wanted[keep:]),
        checkpoint=checkpoint,
        source_session_id=fork_of.id if fork_of else None,
        by=by,
    )


def _readable(past: Session) -> tuple[bytes, ...]:
    """Return what the model would have read next; half an answer is none, and every open call gets a result."""
    if past.answer:
        past = past.but(answer=()).but_run(calls=(), plan=None)
    return steer(close_calls(past)).context


def _common(present: Sequence[bytes], wanted: Sequence[bytes]) -> int:
    """Count the messages at the head that are the same; never is a call parted from its results."""
    same = 0
    for one, other in zip(present, wanted, strict=False):
        if one != other:
            break
        same += 1
    while same and any(map(is_results, (*present[same : same + 1], *wanted[same : same + 1]))):
        same -= 1
    return same
