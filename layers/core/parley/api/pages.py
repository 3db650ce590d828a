"""Lists over HTTP: the query parameters that every list shares, and the page they answer with."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, Literal, Protocol, TypeVar

from fastapi import Depends, Query
from pydantic import AwareDatetime, BaseModel

from parley.api.shapes import PageOf
from parley.core.event import Event

R = TypeVar("R", bound=BaseModel)

PAGE_BYTES = 4 * 1024 * 1024
"""A Lambda function may answer with 6 MB; a page ends before that, and the next begins there."""


class Identified(Protocol):
    """A row with an id."""

    @property
    def id(self) -> str:
        """Name it in a list."""
        ...


S = TypeVar("S", bound=Identified)

Order = Literal["asc", "desc"]


def page_of(data: list[S], next_page: str | None, **totals: Any) -> "PageOf[S]":
    """Wrap rows."""
    return PageOf(
        data=data,
        next_page=next_page,
        has_more=next_page is not None,
        first_id=data[0].id if data else None,
        last_id=data[-1].id if data else None,
        **totals,
    )


async def take(
    events: AsyncGenerator[Event, None], pick: Callable[[Event], R | None], offset: int, limit: int
) -> tuple[list[R], bool]:
    """Make rows of events, leave out `offset`, take up to `limit` and `PAGE_BYTES`; say whether there are more."""
    rows: list[R] = []
    size = 0
    async with aclosing(events):
        async for event in events:
            row = pick(event)
            if row is None:
                continue
            if offset:
                offset -= 1
                continue
            size += len(row.model_dump_json())
            if rows and (len(rows) == limit or size > PAGE_BYTES):
                return rows, True
            rows.append(row)
    return rows, False


class CreatedAt(BaseModel):
    """The `created_at[…]` filters."""

    gt: datetime | None = None
    gte: datetime | None = None
    lt: datetime | None = None
    lte: datetime | None = None

    def admits(self, moment: datetime) -> bool:
        """Say whether a moment passes."""
        return not (
            (self.gt and moment <= self.gt)
            or (self.gte and moment < self.gte)
            or (self.lt and moment >= self.lt)
            or (self.lte and moment > self.lte)
        )


async def _created_at(
    gt: Annotated[AwareDatetime | None, Query(alias="created_at[gt]")] = None,
    gte: Annotated[AwareDatetime | None, Query(alias="created_at[gte]")] = None,
    lt: Annotated[AwareDatetime | None, Query(alias="created_at[lt]")] = None,
    lte: Annotated[AwareDatetime | None, Query(alias="created_at[lte]")] = None,
) -> CreatedAt:
    return CreatedAt(gt=gt, gte=gte, lt=lt, lte=lte)


CreatedAts = Annotated[CreatedAt, Depends(_created_at)]
Limit = Annotated[int, Query(ge=1, le=100, description="Rows on one page.")]
Cursor = Annotated[str | None, Query(alias="page", max_length=4096, description="`next_page` of the page before.")]
Offset = Annotated[int, Query(ge=0, le=10_000, description="Rows to leave out; `page` is cheaper.")]
IncludeTotal = Annotated[bool, Query(description="Count all rows that match, too; it reads them.")]
