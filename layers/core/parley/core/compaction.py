"""Long sessions: what a summary may stand for, how it is asked for, and what the context is afterwards.

Decides how many messages at the head of the context are replaced, never when (`run.py` does). A boundary lies before
any message that is not the results of calls, so a call and its result are never parted, whatever the log holds.
The original events stay in the log; only what the model reads becomes shorter.
"""

from collections.abc import Sequence
from itertools import accumulate

from parley.core import image
from parley.core.answer import Answer
from parley.core.errors import ModelError
from parley.core.message import dump, is_answer, is_results, message, without_thinking

KEPT_SHARE = 4
"""The newest messages are kept up to one part in so many of the context's bytes."""

SUMMARY_TOKENS = 4_000
"""Output tokens of a summary; it is asked to be shorter."""

EXCERPT_BYTES_PER_TOKEN = 2
"""So short that excerpts fit whatever the language, if `compact_at_tokens` fits."""

MIN_EXCERPT_BYTES = 200

REQUEST = """This conversation has become too long. Its beginning will be replaced by a summary, which you write now: \
from here on you will know of it only what the summary says. Write, in at most 800 words of plain text:
- what the person wants, and what they have asked you to heed;
- what was decided, what was done, and what came of it, with every id, name, amount and date exactly as it stood;
- what is still open, and what you were about to do.
Say nothing of this request, call no tool, and do not begin anything new."""

OPENING = "The beginning of this conversation was replaced by this summary, which you wrote. Go on from where it ends."

UNTOLD = "You refused to summarise it. Of its newest messages only the beginnings are left:"

_CALL = b'{"type":"tool_use"'


def _said(text: str) -> bytes:
    return message("user", (dump({"type": "text", "text": text}),))


_SUMMARY, _REQUEST = (_said(text).removesuffix(b'"}]}') for text in (OPENING, REQUEST))
"""How the two messages that are written here begin."""


def replaceable(context: Sequence[bytes]) -> int:
    """Say how many messages at the head to replace; 0 when there would be nothing to gain.

    Kept are the newest up to a share of all, and always the message that the model has still to answer, with its
    calls when it is their results. An answer at the very end is replaced with all before it: some models refuse a
    conversation that ends with one.
    """
    if not context:
        return 0
    first = 2 if summary_in(context[0]) else 1  # a summary of nothing but a summary gains nothing
    answered = is_answer(context[-1])
    ends = range(len(context) if answered else len(context) - 1, first - 1, -1)
    legal = [index for index in ends if _is_boundary(context, index)]
    if answered or not legal:
        return legal[0] if legal else 0
    kept = [0, *accumulate(map(len, reversed(context)))][::-1]
    return min([legal[0], *(index for index in legal if kept[index] <= kept[0] // KEPT_SHARE)])


def _is_boundary(context: Sequence[bytes], index: int) -> bool:
    """Say whether the context may be cut before this message, or, behind the last, be replaced as a whole."""
    if index == len(context):
        return not (is_answer(context[-1]) and _CALL in context[-1])
    return 0 < index < len(context) and not is_results(context[index])


def compacted(context: tuple[bytes, ...], replaced: int, summary: str) -> tuple[bytes, ...] | None:
    """Put a summary in the place of the first messages; `None` when it does not fit this context.

    What is kept loses its thinking: newer models refuse thinking when anything before it has changed.
    """
    if not summary.strip() or not 0 < replaced <= len(context) or not _is_boundary(context, replaced):
        return None
    return (_said(f"{OPENING}\n\n{summary}"), *map(without_thinking, context[replaced:]))


def summary_in(message: bytes) -> bool:
    """Say whether a message carries a summary."""
    return message.startswith(_SUMMARY)


def asks_for_summary(message: bytes) -> bool:
    """Say whether a message is a request for one."""
    return message.startswith(_REQUEST)


def request(context: Sequence[bytes], replaced: int, *, excerpt_bytes: int | None = None) -> tuple[bytes, ...]:
    """Write the messages that ask for a summary; with `excerpt_bytes`, of what is left of them in so many bytes."""
    head = tuple(context[:replaced])
    if excerpt_bytes is None:
        return (*head, _said(REQUEST))
    told = [REQUEST, "Of each message only the beginning is left:", *_excerpts(head, excerpt_bytes)]
    return (_said("\n\n".join(told)),)


def _excerpts(messages: Sequence[bytes], most: int) -> list[str]:
    """Cut each message; when even these are too many, the oldest are left out."""
    size = max(MIN_EXCERPT_BYTES, most // max(1, len(messages)))
    newest = messages[-max(1, most // size) :]
    return [image.in_words(each)[:size].decode("utf-8", "ignore") for each in newest]


def summary_of(answer: Answer, replaced: Sequence[bytes] = ()) -> str:
    """Return the summary in an answer; when the model refused to write one, the beginnings of what it replaces.

    It would refuse in every later run, too, and the session would be lost.

    Raises:
        ModelError: there is none.
    """
    if answer.stop_reason == "refusal":
        return "\n\n".join([UNTOLD, *_excerpts(replaced, SUMMARY_TOKENS * EXCERPT_BYTES_PER_TOKEN)])
    if answer.stop_reason == "model_context_window_exceeded":
        raise ModelError("context_full", "The conversation is too long to be summarised.")
    text = "\n\n".join(block.text for block in answer.blocks if block.kind == "agent.message").strip()
    if not text:
        raise ModelError("cut_short", "the model's summary of the conversation is empty")
    return text
