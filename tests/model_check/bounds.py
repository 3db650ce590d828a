"""How far the searches go: each a set of faults that are tried in every order, at every moment."""

from tests.model_check.world import Faults

NOTHING = Faults(*[0] * len(Faults._fields))

GATE = {
    "a crash and a frozen driver": NOTHING._replace(crashes=1, lapses=1),
    "a frozen driver and a delete": NOTHING._replace(lapses=1, deletes=1),
    "a frozen driver and a lost answer": NOTHING._replace(lapses=1, lost_answers=1),
    "a time-out, a person's word and a renewal": NOTHING._replace(timeouts=1, words=1, renewals=1),
    "a hand-over and a renewal": NOTHING._replace(handovers=1, renewals=1),
    "a busy model and a delete": NOTHING._replace(model_failures=1, deletes=1),
    "a late write and a delete": NOTHING._replace(late_writes=1, deletes=1),
    "a time-out and an interrupt": NOTHING._replace(timeouts=1, interrupts=1),
}
"""On every commit."""

LARGE = {
    "two crashes": NOTHING._replace(crashes=2),
    "a crash, a frozen driver and a person's word": NOTHING._replace(crashes=1, lapses=1, words=1),
    "two frozen drivers": NOTHING._replace(lapses=2),
    "a crash and a late write": NOTHING._replace(crashes=1, late_writes=1),
    "a crash and a lost answer": NOTHING._replace(crashes=1, lost_answers=1),
    "a frozen driver, a late write and a delete": NOTHING._replace(lapses=1, late_writes=1, deletes=1),
    "a frozen driver, a time-out and a person's word": NOTHING._replace(lapses=1, timeouts=1, words=1),
    "a hand-over, a busy model and a renewal": NOTHING._replace(handovers=1, model_failures=1, renewals=1),
    "two time-outs and two words": NOTHING._replace(timeouts=2, words=2),
    "a frozen driver, a hand-over and a busy model": NOTHING._replace(lapses=1, handovers=1, model_failures=1),
    "a frozen driver, a person's word and an interrupt": NOTHING._replace(lapses=1, timeouts=1, words=1, interrupts=1),
    "a frozen driver, two renewals and a word": NOTHING._replace(lapses=1, renewals=2, words=1, timeouts=1),
}
"""Now and then: some minutes."""

BOUNDS = {"gate": GATE, "large": GATE | LARGE}
