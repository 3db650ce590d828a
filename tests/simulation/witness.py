"""What is seen at the very moment: every write that is applied, every call that begins. Later would be too late."""

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from parley.core import control as c
from parley.core import event as e
from parley.core.tool import ToolContext
from parley.ports import Delete, Op, Put
from parley.store.keys import ENTRY, SHOWN, Ref


@dataclass(slots=True)
class Witness:
    """Keeps what broke a promise."""

    broken: list[str] = field(default_factory=list)
    _next: dict[str, int] = field(default_factory=dict)
    _epoch: dict[str, int] = field(default_factory=dict)
    _ended: set[str] = field(default_factory=set)
    begun: Counter[str] = field(default_factory=Counter)
    """How often each call was begun, by its id."""

    def see(self, ops: tuple[Op, ...]) -> None:
        """Hold a write that was applied against the rules of a log (P3, P5, P14)."""
        for op in ops:
            if op.key.sk == SHOWN and isinstance(op, Put) and op.item.get("deleted"):
                self._ended.add(op.key.pk)
            if op.key.sk.startswith(ENTRY):
                self._entry(op)

    def _entry(self, op: Op) -> None:
        pk, first = op.key.pk, int(op.key.sk.removeprefix(ENTRY))
        if isinstance(op, Delete):
            if pk not in self._ended:
                self.broken.append(f"P3 an entry of a living session was removed: {op.key}")
            return
        assert isinstance(op, Put)
        if op.item.get("barrier"):
            self._ended.add(pk)
        elif pk in self._ended:
            self.broken.append(f"P14 an entry was written behind the end of its session: {op.key}")
        if first != self._next.get(pk, 1) and pk not in self._ended:
            self.broken.append(f"P3 the log goes on at {first}, not at {self._next.get(pk, 1)}: {pk}")
        self._next[pk] = first + op.item["count"]
        epoch = op.item.get("driver_epoch")
        if epoch is not None and epoch < self._epoch.get(pk, 0):
            self.broken.append(f"P5 a driver of epoch {epoch} wrote behind epoch {self._epoch[pk]}: {op.key}")
        self._epoch[pk] = max(self._epoch.get(pk, 0), epoch or 0)

    def begins(
        self,
        name: str,
        context: ToolContext,
        amount: int,
        log: Sequence[e.Event],
        whole: Collection[str],
        retries: Sequence[str],
    ) -> int:
        """Hold a call that begins against the log as it is (P5, P6, P7, P9, P11); return how often it has begun."""
        id = context.tool_use_id
        self.begun[id] += 1
        if Ref(context.tenant, context.session_id).pk in self._ended:  # and swept: its log tells nothing any more
            return self.begun[id]
        asked = [each for each in log if isinstance(each, e.AgentToolUse) and each.id == id]
        if not asked or asked[0].provider_id not in whole:
            self.broken.append(f"P9 {name} was called by an answer that was not whole or not stored: {id}")
        self.broken += [f"P7 {name} was called {how}: {id}" for how in _unapproved(id, asked, amount, log)]
        if name == "look":
            return self.begun[id]
        intents = [each for each in log if isinstance(each, e.ToolIntended) and each.tool_use_id == id]
        if not intents:
            self.broken.append(f"P5 {name} was called before its intent was stored: {id}")
        stops = [each.seq for each in log if isinstance(each, c.UserInterrupt) and each.run_id == context.run_id]
        if intents and stops and min(stops) < intents[-1].seq:
            self.broken.append(f"P11 {name} was intended behind an interrupt: {id}")
        if name != "file" and self.begun[id] > 1 + retries.count(id):
            said = retries.count(id)
            self.broken.append(f"P6 {name} was begun {self.begun[id]} times, with a person's word for {said}: {id}")
        return self.begun[id]


def _unapproved(id: str, asked: Sequence[e.AgentToolUse], amount: int, log: Sequence[e.Event]) -> Iterator[str]:
    """Say what a person has not approved of a call that begins."""
    if not asked or asked[0].evaluated_permission == "allow":
        return
    if asked[0].evaluated_permission == "deny":
        yield "although it is denied"
    words = [each for each in log if isinstance(each, c.ApprovalDecided | c.ApprovalExpired) and each.tool_use_id == id]
    word = words[0] if words else None
    if not isinstance(word, c.ApprovalDecided) or word.decision not in ("approve", "edit"):
        yield "without a person's approval"
        return
    arguments = asked[0].input if word.input is None else word.input
    canonical = json.dumps([asked[0].name, arguments], sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    if arguments.get("amount", 0) != amount or word.binding != hashlib.sha256(canonical.encode()).hexdigest():
        yield f"with {amount}, which is not what was approved"
