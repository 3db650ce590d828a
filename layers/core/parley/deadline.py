"""How long this process may go on."""

import math
from collections.abc import Callable
from dataclasses import dataclass

MARGIN_SECONDS = 5.0
"""Of a Lambda invocation's time, kept for handing over what runs, and for the answer's end."""


@dataclass(slots=True)
class Deadline:
    """Without end on a laptop; on Lambda its edge sets it for every invocation, of which there is one at a time."""

    seconds_left: Callable[[], float] = lambda: math.inf

    def is_in(self, remaining_milliseconds: Callable[[], int]) -> None:
        """Take an invocation's time."""
        self.seconds_left = lambda: remaining_milliseconds() / 1000 - MARGIN_SECONDS
