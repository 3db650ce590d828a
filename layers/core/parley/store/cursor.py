"""Page cursors: opaque, signed, and bound to the tenant and the question they were made for."""

import base64
import hashlib
import hmac
import json
import secrets
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from parley.core.errors import Malformed, Unavailable
from parley.ports import Absent, ConditionFailed, Put, Table, WriteUncertain
from parley.store import keys

_SIGNATURE_BYTES = 16
_SECRET_TRIES = 4


@dataclass(slots=True)
class Cursors:
    """Signs with a random secret that the deployment keeps in its own table."""

    table: Table
    _secret: bytes | None = None

    async def seal(self, tenant: str, question: str, position: object) -> str:
        """Write a position (any JSON) that only the same question of the same tenant accepts back."""
        body = json.dumps(position, separators=(",", ":")).encode()
        signature = await self._sign(tenant, question, body)
        return base64.urlsafe_b64encode(signature + body).decode().rstrip("=")

    async def open(self, tenant: str, question: str, cursor: str) -> Any:  # noqa: ANN401 - what was sealed
        """Read a position back.

        Raises:
            Malformed: it was not made here, or not for this question.
        """
        try:
            data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except ValueError as error:
            raise _foreign() from error
        signature, body = data[:_SIGNATURE_BYTES], data[_SIGNATURE_BYTES:]
        if not hmac.compare_digest(signature, await self._sign(tenant, question, body)):
            raise _foreign()
        return json.loads(body)

    async def _sign(self, tenant: str, question: str, body: bytes) -> bytes:
        if self._secret is None:
            self._secret = await _secret(self.table)
        scope = f"{tenant}\0{question}\0".encode()
        return hmac.new(self._secret, scope + body, hashlib.sha256).digest()[:_SIGNATURE_BYTES]


async def _secret(table: Table) -> bytes:
    """Read the deployment's secret; the first to ask makes it, and whoever comes second finds it."""
    key = keys.secret("cursor")
    for _ in range(_SECRET_TRIES):
        if item := await table.get(key):
            return bytes(item["value"])
        with suppress(ConditionFailed, WriteUncertain):
            await table.write(Put({"PK": key.pk, "SK": key.sk, "value": secrets.token_bytes(32)}, Absent()))
    raise Unavailable("The store did not keep the secret that signs page cursors. Try again.")


def _foreign() -> Malformed:
    return Malformed("The page cursor is not valid here. Use `next_page` of the same list, unchanged.")
