"""What one stream has said: stored events, and drafts, which an event replaces word for word."""

import json
from dataclasses import dataclass, field

from parley.core.event import EVENT, AgentMessage, AgentThinking, Event


@dataclass(slots=True)
class Stream:
    """The frames of a connection, as far as they have come."""

    events: list[Event] = field(default_factory=list)
    """With their `seq`, in the order of arrival."""
    drafts: dict[str, str] = field(default_factory=dict)
    """Text of every draft that is neither an event nor discarded, by its event's id."""
    wrong: list[str] = field(default_factory=list)
    _read: int = 0

    def read(self, body: bytearray) -> list[Event]:
        """Read on in the body of an answer; return the events that are new."""
        *frames, rest = bytes(body[self._read :]).split(b"\n\n")
        self._read = len(body) - len(rest)
        before = len(self.events)
        for frame in frames:
            self._take(dict(line.split(b": ", 1) for line in frame.split(b"\n") if not line.startswith(b":")))
        return self.events[before:]

    def _take(self, frame: dict[bytes, bytes]) -> None:
        data = json.loads(frame.get(b"data", b"{}"))
        match frame.get(b"event", b"").decode():
            case "event_start":
                self.drafts[data["event"]["id"]] = ""
            case "event_delta":
                self._grown(data["event_id"], data["delta"]["content"])
            case "draft.discarded":
                self.drafts.pop(data["event_id"], None)
            case _:
                if b"id" in frame:
                    self._stored(EVENT.validate_json(frame[b"data"]), int(frame[b"id"]))

    def _grown(self, id: str, content: dict[str, str]) -> None:
        if id not in self.drafts:
            self.wrong.append(f"P4 a piece of {id}, which has not begun or is over")
        else:
            self.drafts[id] += content[content["type"]]

    def _stored(self, event: Event, seq: int) -> None:
        if event.seq != seq:
            self.wrong.append(f"P4 the frame of {event.id} has the id {seq}, not its seq {event.seq}")
        self.events.append(event)
        draft = self.drafts.pop(event.id, None)
        if draft is not None and isinstance(event, AgentMessage | AgentThinking) and draft != _text(event):
            self.wrong.append(f"P4 the draft of {event.id} is '{draft[:40]}', its event says '{_text(event)[:40]}'")


def _text(event: AgentMessage | AgentThinking) -> str:
    return event.thinking if isinstance(event, AgentThinking) else "".join(block.text for block in event.content)
