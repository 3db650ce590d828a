"""What every table does with pages, indexes and items past their `ttl`."""

from typing import Any

import pytest
from parley.ports import Index, Item, Key, Put, Table, Update

from tests.contract.backends import ManualClock

pytestmark = pytest.mark.anyio


def item(sk: str, pk: str = "P", **attributes: Any) -> Item:
    """Build the smallest item of a partition."""
    return {"PK": pk, "SK": sk, **attributes}


async def fill(table: Table, *items: Item) -> None:
    """Put items, one write each."""
    for each in items:
        await table.write(Put(each))


async def keys(table: Table, pk: str = "P", **query: Any) -> list[str]:
    """Return the sort keys of one page."""
    return [found["SK"] for found in (await table.query(pk, **query)).items]


async def walk(table: Table, pk: str, **query: Any) -> list[list[str]]:
    """Follow the cursors to the end; return `PK/SK` page by page."""
    pages: list[list[str]] = []
    cursor: Item | None = None
    while True:
        page = await table.query(pk, cursor=cursor, **query)
        pages.append([f"{found['PK']}/{found['SK']}" for found in page.items])
        cursor = page.cursor
        if cursor is None:
            return pages


async def test_a_partition_is_in_the_order_of_its_keys_bytes(table: Table) -> None:
    ordered = ["A", "Z", "a", "a\0", "a0", "z", "ü", "\u20ac", "\ue000", "\uffff", "\U00010000", "\U0001f600"]
    await fill(table, *(item(sk) for sk in reversed(ordered)), item("other", pk="Q"))

    assert await keys(table) == ordered
    assert await keys(table, newest_first=True) == ordered[::-1]


async def test_an_unknown_partition_is_an_empty_page(table: Table) -> None:
    page = await table.query("nobody")

    assert page.items == []
    assert page.cursor is None


async def test_a_range_includes_both_its_ends(table: Table) -> None:
    await fill(table, *(item(sk) for sk in "abcde"))

    assert await keys(table, first="b", last="d") == ["b", "c", "d"]
    assert await keys(table, first="d") == ["d", "e"]
    assert await keys(table, last="b") == ["a", "b"]
    assert await keys(table, first="bb", last="cc", newest_first=True) == ["c"]


@pytest.mark.parametrize(("first", "last"), [("d", "b"), ("", ""), ("x", "y")])
async def test_a_range_that_holds_nothing_is_an_empty_page(table: Table, first: str, last: str) -> None:
    await fill(table, item("c"))

    page = await table.query("P", first=first, last=last)

    assert page.items == []
    assert page.cursor is None


async def test_a_prefix_is_a_range_up_to_the_last_character(table: Table) -> None:
    await fill(table, item("D"), item("E#1"), item("E#\U0001f600"), item("E$"), item("F"))

    assert await keys(table, first="E#", last="E#\U0010ffff") == ["E#1", "E#\U0001f600"]


@pytest.mark.parametrize("newest_first", [False, True])
async def test_cursors_lead_through_a_partition_once(table: Table, newest_first: bool) -> None:
    await fill(table, *(item(sk) for sk in "abcdefg"))

    pages = await walk(table, "P", first="b", last="f", limit=2, newest_first=newest_first)

    seen = [key for page in pages for key in page]
    assert seen == sorted([f"P/{sk}" for sk in "bcdef"], reverse=newest_first)
    assert all(len(page) <= 2 for page in pages)


async def test_a_full_page_has_a_cursor_even_when_nothing_follows(table: Table) -> None:
    await fill(table, item("a"), item("b"))

    full = await table.query("P", limit=2)
    rest = await table.query("P", limit=2, cursor=full.cursor)
    short = await table.query("P", limit=3)

    assert full.cursor is not None
    assert (rest.items, rest.cursor) == ([], None)
    assert short.cursor is None


async def test_a_page_must_look_at_something(table: Table) -> None:
    with pytest.raises(ValueError, match=r"."):
        await table.query("P", limit=0)


async def test_a_page_has_at_most_1_mb(table: Table) -> None:
    await fill(table, *(item(sk, body=bytes(300_000)) for sk in "abcdefg"))

    pages = await walk(table, "P")

    assert pages == [["P/a", "P/b", "P/c"], ["P/d", "P/e", "P/f"], ["P/g"]]


async def test_items_past_their_ttl_are_hidden(table: Table, clock: ManualClock) -> None:
    soon, late = clock.seconds() + 10, clock.seconds() + 1000
    await fill(table, item("a", ttl=soon), item("b", ttl=late), item("c"), item("d", ttl="no number"))
    before = await keys(table)

    clock.advance(10)

    assert before == ["a", "b", "c", "d"]
    assert await keys(table) == ["b", "c", "d"]
    assert await table.get(Key("P", "a")) is None
    assert await table.get(Key("P", "b")) is not None


async def test_an_item_whose_ttl_moved_is_shown_again(table: Table, clock: ManualClock) -> None:
    await fill(table, item("a", ttl=clock.seconds() + 10))
    clock.advance(11)

    await table.write(Update(Key("P", "a"), set={"ttl": clock.seconds() + 10}))

    assert await keys(table) == ["a"]


async def test_a_limit_counts_hidden_items_too(table: Table, clock: ManualClock) -> None:
    await fill(table, *(item(sk, ttl=clock.seconds() + 10) for sk in "abc"), item("d"))
    clock.advance(11)

    pages = await walk(table, "P", limit=2)

    assert pages[:2] == [[], ["P/d"]]


def listed(pk: str, sk: str, list_sk: str, index: Index = "list") -> Item:
    """Build an item of an index's partition `T`."""
    return item(sk, pk, **{f"{index}_pk": "T", f"{index}_sk": list_sk, "body": b"all of it"})


@pytest.mark.parametrize("index", ["list", "work"])
async def test_an_index_holds_items_that_have_both_of_its_keys(table: Table, index: Index) -> None:
    await fill(
        table,
        listed("P", "a", "2", index),
        listed("Q", "b", "1", index),
        item("c", **{f"{index}_pk": "T"}),
        item("d", **{f"{index}_sk": "3"}),
        item("e", **{f"{index}_pk": "U", f"{index}_sk": "1"}),
    )

    page = await table.query("T", index=index)

    assert page.items == [listed("Q", "b", "1", index), listed("P", "a", "2", index)]


async def test_equal_keys_of_an_index_are_ordered_by_the_items_own_keys(table: Table) -> None:
    places = [("Q", "a"), ("P", "z"), ("P", "y"), ("Q", "b"), ("P", "\uffff"), ("P", "\U00010000")]
    await fill(table, *(listed(pk, sk, "same") for pk, sk in places), listed("A", "a", "z"), listed("Z", "z", "a"))

    forward = await walk(table, "T", index="list", limit=1)
    backward = await walk(table, "T", index="list", limit=3, newest_first=True)

    tied = ["P/y", "P/z", "P/\uffff", "P/\U00010000", "Q/a", "Q/b"]
    expected = ["Z/z", *tied, "A/a"]
    assert [key for page in forward for key in page] == expected
    assert [key for page in backward for key in page] == expected[::-1]


async def test_a_range_of_an_index_goes_by_its_own_sort_key(table: Table) -> None:
    await fill(table, *(listed("P", f"item{n}", f"{n}") for n in range(6)))

    pages = await walk(table, "T", index="list", first="1", last="4", limit=3, newest_first=True)

    assert [page for page in pages if page] == [["P/item4", "P/item3", "P/item2"], ["P/item1"]]


async def test_an_item_moves_in_an_index_and_leaves_it(table: Table) -> None:
    await fill(table, listed("P", "a", "1"), listed("P", "b", "2"))

    await table.write(Update(Key("P", "a"), set={"list_sk": "3"}))
    moved = await keys(table, "T", index="list")
    await table.write(Update(Key("P", "a"), remove=("list_pk", "list_sk")))

    assert moved == ["b", "a"]
    assert await keys(table, "T", index="list") == ["b"]


async def test_an_index_hides_items_past_their_ttl(table: Table, clock: ManualClock) -> None:
    await fill(table, listed("P", "a", "1") | {"ttl": clock.seconds() + 10}, listed("P", "b", "2"))

    clock.advance(11)

    assert await keys(table, "T", index="list") == ["b"]


@pytest.mark.parametrize("keys_of_index", [{"list_pk": "", "list_sk": "1"}, {"work_pk": "T", "work_sk": 1}], ids=repr)
async def test_a_key_of_an_index_is_text_that_is_not_empty(table: Table, keys_of_index: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        await table.write(Put(item("a", **keys_of_index)))
    with pytest.raises(ValueError, match=r"."):
        await table.write(Update(Key("P", "a"), set=keys_of_index))

    assert await table.get(Key("P", "a")) is None
