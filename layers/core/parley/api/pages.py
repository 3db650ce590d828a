"""Lists over HTTP: the query parameters that every list shares, and the page they answer with."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Depends, Query
from pydantic import AwareDatetime, BaseModel, BeforeValidator

from parley.api.shapes import PageOf
from parley.api.size import PAGE_BYTES, share, weight

E = TypeVar("E")
R = TypeVar("R", bound=BaseModel)


Order = Literal["asc", "desc"]


def page_of(data: list[R], next_page: str | None, **totals: Any) -> "PageOf[R]":
    """Wrap rows, each with an id; none is so large that the page could not be answered."""
    ids: list[str] = [getattr(row, "id", "") for row in data[:1] + data[-1:]]
    return PageOf(
        data=share(data),
        next_page=next_page,
        has_more=next_page is not None,
        first_id=ids[0] if ids else None,
        last_id=ids[-1] if ids else None,
        **totals,
    )


async def take(
    events: AsyncGenerator[E, None], pick: Callable[[E], R | None], offset: int, limit: int
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
            size += weight(row)
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


def _no_number(text: str) -> str:
    """Refuse what would be read as seconds since 1970: `2026` is meant as a year."""
    try:
        float(text)
    except ValueError:
        return text
    raise ValueError("must be a date and time with a zone, such as 2026-11-20T12:00:00Z")


Moment = Annotated[AwareDatetime, BeforeValidator(_no_number)]


async def _created_at(
    gt: Annotated[Moment | None, Query(alias="created_at[gt]")] = None,
    gte: Annotated[Moment | None, Query(alias="created_at[gte]")] = None,
    lt: Annotated[Moment | None, Query(alias="created_at[lt]")] = None,
    lte: Annotated[Moment | None, Query(alias="created_at[lte]")] = None,
) -> CreatedAt:
    return CreatedAt(gt=gt, gte=gte, lt=lt, lte=lte)


CreatedAts = Annotated[CreatedAt, Depends(_created_at)]
Limit = Annotated[int, Query(ge=1, le=100, description="Rows on one page.")]
Cursor = Annotated[str | None, Query(alias="page", max_length=4096, description="`next_page` of the page before.")]
Offset = Annotated[int, Query(ge=0, le=10_000, description="Rows to leave out; `page` is cheaper.")]
IncludeTotal = Annotated[bool, Query(description="Count all rows that match, too; it reads them.")]
