"""A process that streams one run, and prints what was imported when its bytes left."""

import asyncio
import json
import sys
import threading
from collections.abc import MutableMapping
from dataclasses import replace
from importlib.machinery import ModuleSpec
from typing import Any

from parley import wiring
from parley.api import execute
from parley.api.app import create_app
from parley.settings import load

SDK = "anthropic"


class Witness:
    """Sees who imports the SDK, as the first of the finders."""

    def __init__(self) -> None:
        self.on_the_loop: list[bool] = []

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Find nothing, and remember who asked."""
        if name == SDK:
            self.on_the_loop.append(threading.current_thread() is threading.main_thread())
        return None


class Client:
    """Sends one request, and keeps what comes back, with what was imported by then."""

    def __init__(self, body: dict[str, str]) -> None:
        self.requests = [{"type": "http.request", "body": json.dumps(body).encode()}]
        self.said: list[str] = []
        self.imported: list[bool] = []

    async def receive(self) -> MutableMapping[str, Any]:
        """Give the body, then stay."""
        if not self.requests:
            await asyncio.Event().wait()
        return self.requests.pop()

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """Take a piece."""
        if message.get("body"):
            self.said.append(message["body"].decode())
            self.imported.append(SDK in sys.modules)


async def main() -> None:
    """Stream one run."""
    witness, client = Witness(), Client({"input": "[[say fine]]"})
    sys.meta_path.insert(0, witness)
    state = wiring.running(load())
    app = create_app(replace(state, admin_key=None), [execute.router], keyless=True)
    path = "/v1/agents/wallet/execute"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    scope |= {"http_version": "1.1", "scheme": "http", "headers": [(b"content-type", b"application/json")]}
    await app(scope, client.receive, client.send)
    await state.store.table.close()
    told = {"said": "".join(client.said), "imported": client.imported, "on_the_loop": witness.on_the_loop}
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
