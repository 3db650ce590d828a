"""The `Idempotency-Key` header, on every POST."""

from typing import Annotated

from fastapi import Depends, Header, Request

from parley.api.depends import Principals
from parley.core.errors import Malformed
from parley.store import Once

MAX_LENGTH = 255

REPLAYED = {"Idempotent-Replayed": "true"}


async def once(
    request: Request,
    principal: Principals,
    idempotency_key: Annotated[
        str | None,
        Header(
            description="The same key with the same body has one effect; kept for 24 hours. 1 to 255 characters.",
            json_schema_extra={
                "minLength": 1,
                "maxLength": MAX_LENGTH,
            },  # said, not checked: what is no key is malformed
        ),
    ] = None,
) -> Once | None:
    """Return the key in its scope: tenant, principal, method and path.

    Raises:
        Malformed: it is empty or too long.
    """
    if idempotency_key is None:
        return None
    if not 1 <= len(idempotency_key) <= MAX_LENGTH:
        raise Malformed("The Idempotency-Key header must have 1 to 255 characters.")
    body = await request.body()
    path = request.url.path + "?" + request.url.query
    return Once.of(principal.tenant, principal.owner, request.method, path, idempotency_key, body)


Onces = Annotated[Once | None, Depends(once)]
