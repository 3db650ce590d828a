"""A queue that keeps its hints for the test to look at, or to follow."""

from parley.store import Ref


class KeptHints:
    """The `Queue` port without anybody at its other end."""

    def __init__(self) -> None:
        self.hints: list[Ref] = []

    async def send(self, tenant: str, session_id: str) -> None:
        self.hints.append(Ref(tenant, session_id))
