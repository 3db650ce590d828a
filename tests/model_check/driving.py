"""What a driver does, as `parley.engine` and `parley.store.claims` do it, one operation or effect at a time.

What it does between two operations is no move of its own, for nobody else can see it. It may pause before any move for
as long as it likes: that is a frozen driver.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from tests.model_check import table
from tests.model_check.decisions import Book, tool_of
from tests.model_check.looking import Looking
from tests.model_check.table import Rules
from tests.model_check.world import Call, Driver, Move, State, Write, name_of, with_driver


@dataclass
class Driving:
    """The moves of processes."""

    book: Book
    rules: Rules

    def __post_init__(self) -> None:
        self.looking = Looking(self.book, self.rules)

    def after(self, state: State, n: int) -> Iterator[Move]:
        """Yield every move of one process."""
        driver = state.drivers[n]
        match driver.at:
            case "idle":
                yield from self.looking.look(state, n)
            case "looking":
                yield from self.looking.plan_claim(state, n)
            case "writing":
                yield from self._send(state, n)
            case "reading":
                yield from self._catch_up(state, n)
            case "asking":
                yield from self._ask(state, n)
            case "calling":
                yield from self._take_results(state, n)
        for call in driver.calls:
            yield from self._call(state, n, call)
        if driver.at != "idle" and state.faults.crashes:
            yield self._crash(state, n)

    # A write.

    def _send(self, state: State, n: int) -> Iterator[Move]:
        driver, name = state.drivers[n], name_of(n)
        sent = driver.write
        assert sent is not None
        if sent.kind == "settle" and not self.rules.settles_at_once:
            yield self._give_back_first(state, n, sent)
            return
        after = table.write(state, sent, self.rules)
        what = f"{name} writes its {_said(sent)}"
        if isinstance(after, State):
            for stored in self._stored(after, n):
                yield Move(what, stored, ("write", n, "answered"))
        else:
            yield Move(
                f"{what}: refused, {after}",
                with_driver(state, n, self._refused(driver, sent, after)),
                ("write", n, "answered"),
            )
        faults = state.faults
        if faults.lost_answers:
            spent = faults._replace(lost_answers=faults.lost_answers - 1)
            unheard = driver if self.rules.unknown_is_asked_again else driver._replace(at="reading")
            for came, applied in (("applied", after), ("not applied", state)):
                if isinstance(applied, State) and (came == "not applied" or applied is not state):
                    lost = with_driver(applied, n, unheard, faults=spent)
                    yield Move(f"{what}: {came}, but the answer is lost", lost, ("write", n, came), fault=True)
        if faults.late_writes and state.air is None:
            spent = faults._replace(late_writes=faults.late_writes - 1)
            late = with_driver(state, n, driver, faults=spent, air=sent)
            yield Move(f"{what}: no answer, and it is still on its way", late, ("write", n, "late"), fault=True)

    def _give_back_first(self, state: State, n: int, sent: Write) -> Move:
        """A bug: the lock is written by itself, whoever holds it, and then the entry."""
        lock = table.given_back(state.lock, sent, self.rules)
        then = state.drivers[n]._replace(write=sent._replace(kind="append"))
        return Move(f"{name_of(n)} gives the lock back", with_driver(state, n, then, lock=lock), ("give back", n))

    def _stored(self, state: State, n: int) -> Iterator[State]:
        """Go on behind what is stored now."""
        driver = state.drivers[n]
        sent = driver.write
        assert sent is not None
        view = state.log[: sent.slot + 1] if sent.kind == "claim" else (*driver.view, sent.entry)
        if table.only_the_lock(sent, self.rules):
            view = driver.view
        kept = driver._replace(view=view, write=None, facts=())
        if sent.leaves:
            yield with_driver(state, n, Driver())
        elif sent.kind == "claim":
            yield from self._decide(state, n, Driver("idle", sent.epoch, sent.run, view))
        elif driver.calls or driver.made:
            yield with_driver(state, n, kept._replace(at="calling"))
        else:
            plan = self.book.plan(name_of(n), driver.epoch, driver.run, driver.view, driver.facts, False)
            yield self._act(state, n, kept, plan.then, plan.calls)

    def _refused(self, driver: Driver, sent: Write, why: table.Refusal) -> Driver:
        if sent.kind == "claim" or why == "condition failed":
            return Driver()  # whoever claims looks again; a driver that may not settle is fenced
        return driver._replace(at="reading")

    # What a driver does between two operations.

    def _decide(self, state: State, n: int, driver: Driver) -> Iterator[State]:
        """Ask `next_step`; a driver whose time may be too short has two futures."""
        faults = state.faults
        run = self.book.session(driver.view, driver.facts).run
        shorts = (False, True) if faults.handovers and run and run.claims == 0 else (False,)
        for short in shorts:
            plan = self.book.plan(name_of(n), driver.epoch, driver.run, driver.view, driver.facts, short)
            if short and (plan.write is None or plan.write.leaves != "handed over"):
                continue
            spent = state._replace(faults=faults._replace(handovers=faults.handovers - 1)) if short else state
            if plan.write:
                yield with_driver(spent, n, driver._replace(at="writing", write=plan.write))
            else:
                yield self._act(spent, n, driver, plan.then, plan.calls)

    def _act(self, state: State, n: int, driver: Driver, then: str, calls: tuple[Call, ...]) -> State:
        match then:
            case "asking":
                return with_driver(state, n, driver._replace(at="asking"))
            case "calling":
                return with_driver(state, n, driver._replace(at="calling", calls=calls))
            case _:
                return with_driver(state, n, Driver())

    def _catch_up(self, state: State, n: int) -> Iterator[Move]:
        """Read what others have written; stop, or decide again."""
        driver = state.drivers[n]
        what = f"{name_of(n)} reads the tail"
        view = (*driver.view, *state.log[len(driver.view) :])
        if driver.write and driver.write.kind == "claim":
            yield Move(what, with_driver(state, n, Driver()), ("read", n))
            return
        if self.rules.fence(self.book.session(view), driver.epoch):
            yield Move(f"{what}, and stops", with_driver(state, n, Driver()), ("read", n))
            return
        read = driver._replace(view=view, write=None)
        if driver.calls or driver.made:
            yield Move(what, with_driver(state, n, self._keeping(n, read, driver.facts)), ("read", n))
            return
        for decided in self._decide(state, n, read):
            yield Move(f"{what}, and decides again", decided, ("read", n))

    # Effects in the world.

    def _ask(self, state: State, n: int) -> Iterator[Move]:
        driver, faults = state.drivers[n], state.faults
        facts = self.book.answer(driver.epoch, driver.run, driver.view, False)
        for decided in self._decide(state, n, driver._replace(facts=facts)):
            yield Move(f"{name_of(n)} asks the model, which answers", decided, ("ask", n, "answers"))
        if faults.model_failures:
            spent = state._replace(faults=faults._replace(model_failures=faults.model_failures - 1))
            facts = self.book.answer(driver.epoch, driver.run, driver.view, True)
            for decided in self._decide(spent, n, driver._replace(facts=facts)):
                yield Move(f"{name_of(n)} asks the model, which is busy", decided, ("ask", n, "busy"), fault=True)

    def _call(self, state: State, n: int, call: Call) -> Iterator[Move]:
        driver, faults, tool = state.drivers[n], state.faults, tool_of(call)
        left = tuple(each for each in driver.calls if each != call)
        pays = self.book.agent.tool(tool).effect == "non_idempotent"  # type: ignore[union-attr]  # it is the agent's
        paid = tuple(sorted((*state.paid, call))) if pays else state.paid
        does = f"{name_of(n)} calls {tool}, attempt {call[1]}"
        ended = driver._replace(calls=left, made=tuple(sorted((*driver.made, (call, "ok")))))
        yield Move(does, with_driver(state, n, ended, paid=paid), ("call", n, tool, "ok"))
        if pays and faults.timeouts:
            spent = faults._replace(timeouts=faults.timeouts - 1)
            unknown = driver._replace(calls=left, made=tuple(sorted((*driver.made, (call, "unknown")))))
            for seen, came in ((paid, "it happens"), (state.paid, "nothing happens")):
                what = f"{does}: no answer in time, {came}"
                yield Move(
                    what,
                    with_driver(state, n, unknown, paid=seen, faults=spent),
                    ("call", n, tool, "unknown"),
                    fault=True,
                )

    def _take_results(self, state: State, n: int) -> Iterator[Move]:
        """Keep what has come while other calls are under way; the last results go with the next announcement."""
        driver = state.drivers[n]
        if not driver.made:
            return
        made = [self.book.result(driver.epoch, driver.run, driver.view, *each) for each in driver.made]
        taken = driver._replace(made=())
        what = f"{name_of(n)} takes the results of {', '.join(tool_of(call) for call, _ in driver.made)}"
        if driver.calls:
            yield Move(what, with_driver(state, n, self._keeping(n, taken, tuple(made))), ("take", n))
            return
        for decided in self._decide(state, n, taken._replace(facts=tuple(made))):
            yield Move(what, decided, ("take", n))

    def _keeping(self, n: int, driver: Driver, facts: tuple[int, ...]) -> Driver:
        events = [self.book.events[fact] for fact in facts]
        entry = self.book.entry(name_of(n), driver.epoch, events)
        append = Write("append", len(driver.view), entry, driver.epoch, driver.run)
        return driver._replace(at="writing", facts=facts, write=append)

    def _crash(self, state: State, n: int) -> Move:
        """Forget everything; a write that is on its way is nobody's from now on."""
        air, write = state.air, state.drivers[n].write
        if air and air == write:
            air = air._replace(entry=self.book.sent_by_nobody(air.entry))
        faults = state.faults._replace(crashes=state.faults.crashes - 1)
        return Move(
            f"{name_of(n)} crashes", with_driver(state, n, Driver(), faults=faults, air=air), ("crash", n), fault=True
        )


def _said(sent: Write) -> str:
    match sent.kind:
        case "append":
            return "append"
        case "claim":
            return f"claim of {sent.run} at epoch {sent.epoch}"
        case "settle":
            return f"settlement ({sent.leaves})"
