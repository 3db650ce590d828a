"""What every table does with items, conditions and transactions. Pages and indexes: test_table_queries.py."""

from typing import Any

import pytest
from parley.adapters.dynamodb import TABLE_PROPERTIES
from parley.core.errors import TooLarge
from parley.ports import Absent, AtMost, ConditionFailed, Delete, Item, Key, Match, Op, Put, Table, Update

from tests import template
from tests.contract.backends import ManualClock

pytestmark = pytest.mark.anyio

KEY = Key("P", "a")
OTHER = Key("P", "b")
LIMIT = 400 * 1024

VALUES: dict[str, Any] = {
    "empty text": "",
    "text": 'ünïcödé 😀 \0 \x1f \u2028 "quoted"',
    "zero": 0,
    "large": 10**38 - 1,
    "negative": -(10**38 - 1),
    "true": True,
    "false": False,
    "nothing": None,
    "no bytes": b"",
    "bytes": bytes(range(256)) * 100,
    "empty list": [],
    "empty map": {},
    "list": [1, "1", True, None, b"1", [b"2", {}]],
    "map": {"a": {"b": [b"1", {"c": b"22"}]}, "0.5": "0.5", "name with.dots": []},
}
CANNOT_HOLD = [1.5, (1, 2), {1}, bytearray(b"1"), "\ud800", 10**38, [{"deep": 1.0}], {"": 1}]


def item(key: Key = KEY, **attributes: Any) -> Item:
    """Build the smallest item."""
    return {"PK": key.pk, "SK": key.sk, **attributes}


def item_of_size(size: int, key: Key = KEY) -> Item:
    """Build an item that DynamoDB counts as exactly this many bytes: names and values, in UTF-8."""
    return item(key, body="x" * (size - len("PKSKbody") - len(key.pk) - len(key.sk)))


async def refused(table: Table, *ops: Op) -> dict[int, Item | None]:
    """Write what must fail on a condition; return what was found."""
    with pytest.raises(ConditionFailed) as failure:
        await table.write(*ops)
    return dict(failure.value.found)


# --- items ---------------------------------------------------------------------------------------------------------


async def test_nothing_is_found_where_nothing_was_put(table: Table) -> None:
    assert await table.get(KEY) is None


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
async def test_a_value_comes_back_as_it_was_put(table: Table, value: object) -> None:
    await table.write(Put(item(value=value, bytes=b"beside", flag=True)))

    found = await table.get(KEY)

    assert found == item(value=value, bytes=b"beside", flag=True)
    assert type(found["value"]) is type(value)


async def test_a_put_replaces_the_whole_item(table: Table) -> None:
    await table.write(Put(item(old=1)))

    await table.write(Put(item(new=2)))

    assert await table.get(KEY) == item(new=2)


@pytest.mark.parametrize("value", CANNOT_HOLD, ids=repr)
async def test_a_value_that_an_item_cannot_hold_is_refused(table: Table, value: object) -> None:
    with pytest.raises(ValueError, match=r"item|surrogate|digits"):
        await table.write(Put(item(value=value)))

    assert await table.get(KEY) is None


async def test_nesting_ends_at_32_levels(table: Table) -> None:
    deep: list[Any] = []
    for _ in range(40):
        deep = [deep]

    with pytest.raises(ValueError, match=r"."):
        await table.write(Put(item(value=deep)))


async def test_a_deleted_item_is_gone_and_may_be_deleted_again(table: Table) -> None:
    await table.write(Put(item()))

    await table.write(Delete(KEY))
    await table.write(Delete(KEY))

    assert await table.get(KEY) is None


@pytest.mark.parametrize("key", [Key("", "a"), Key("P", "")])
async def test_an_empty_key_is_refused(table: Table, key: Key) -> None:
    with pytest.raises(ValueError, match=r"(?i)key"):
        await table.write(Put(item(key)))
    with pytest.raises(ValueError, match=r"(?i)key"):
        await table.write(Update(key, set={"a": 1}))
    with pytest.raises(ValueError, match=r"(?i)key"):
        await table.get(key)


async def test_a_key_has_its_own_limits(table: Table) -> None:
    longest = Key("P" * 2048, "ü" * 512)

    await table.write(Put(item(longest)))

    assert await table.get(longest) == item(longest)
    with pytest.raises(TooLarge):
        await table.write(Put(item(Key("P" * 2049, "a"))))
    with pytest.raises(TooLarge):
        await table.write(Put(item(Key("P", "a" * 1025))))


# --- conditions ----------------------------------------------------------------------------------------------------


async def test_absent_holds_where_nothing_is(table: Table) -> None:
    await table.write(Put(item(n=1), Absent()))

    assert await table.get(KEY) == item(n=1)


async def test_absent_fails_where_something_is_and_shows_it(table: Table) -> None:
    await table.write(Put(item(n=1, body=b"mine")))

    found = await refused(table, Put(item(n=2), Absent()))

    assert found == {0: item(n=1, body=b"mine")}
    assert await table.get(KEY) == item(n=1, body=b"mine")


async def test_conditions_see_an_item_past_its_ttl(table: Table, clock: ManualClock) -> None:
    lapsed = item(n=1, ttl=clock.seconds() + 10)
    await table.write(Put(lapsed))
    clock.advance(11)

    found = await refused(table, Put(item(n=2), Absent()))
    await table.write(Update(KEY, set={"seen": True}, condition=Match({"n": 1})))

    assert found == {0: lapsed}


async def test_match_holds_when_all_attributes_are_equal(table: Table) -> None:
    await table.write(Put(item(text="a", number=1, flag=False)))

    await table.write(Put(item(done=True), Match({"text": "a", "number": 1, "flag": False, "missing": None})))

    assert await table.get(KEY) == item(done=True)


@pytest.mark.parametrize(
    "wanted",
    [
        {"text": "b"}, {"text": "a", "number": 2}, {"missing": "a"}, {"text": None}, {"flag": "True"},
        {"flag": False}, {"number": "1"}, {"nothing": None}, {"nothing": ""},
    ],
    ids=repr,
)  # fmt: skip
async def test_match_fails_when_one_attribute_differs(table: Table, wanted: dict[str, Any]) -> None:
    before = item(text="a", number=1, flag=True, nothing=None)
    await table.write(Put(before))

    found = await refused(table, Put(item(done=True), Match(wanted)))

    assert found == {0: before}
    assert await table.get(KEY) == before


@pytest.mark.parametrize("value", [5, 6, 10**15])
async def test_at_most_lets_a_number_pass_that_is_no_larger(table: Table, value: int) -> None:
    await table.write(Put(item(n=5)))

    await table.write(Update(KEY, add={"n": 2}, condition=AtMost("n", value)))

    assert await table.get(KEY) == item(n=7)


@pytest.mark.parametrize("value", [4, 0, -1])
async def test_at_most_refuses_a_number_that_is_larger(table: Table, value: int) -> None:
    await table.write(Put(item(n=5)))

    found = await refused(table, Put(item(OTHER)), Update(KEY, add={"n": 2}, condition=AtMost("n", value)))

    assert found == {1: item(n=5)}
    assert await table.get(OTHER) is None


@pytest.mark.parametrize("before", [None, item(other=1)], ids=["no item", "no attribute"])
async def test_a_number_that_is_missing_counts_as_zero(table: Table, before: Item | None) -> None:
    if before:
        await table.write(Put(before))

    found = await refused(table, Update(KEY, add={"n": 2}, condition=AtMost("n", -1)))
    await table.write(Update(KEY, add={"n": 2}, condition=AtMost("n", 0)))

    assert found == {0: before}
    assert await table.get(KEY) == (before or item()) | {"n": 2}


@pytest.mark.parametrize("wanted", [{"number": True}, {"flag": 1}], ids=repr)
async def test_match_tells_true_from_one(table: Table, wanted: dict[str, Any]) -> None:
    before = item(number=1, flag=True)
    await table.write(Put(before))

    assert await refused(table, Delete(KEY, Match(wanted))) == {0: before}


@pytest.mark.parametrize("wanted", [{}, {"missing": None}, {"n": 1}], ids=repr)
async def test_match_fails_where_nothing_is(table: Table, wanted: dict[str, Any]) -> None:
    condition = Match(wanted)

    for op in (Put(item(), condition), Update(KEY, set={"n": 2}, condition=condition), Delete(KEY, condition)):
        assert await refused(table, op) == {0: None}
    assert await table.get(KEY) is None


async def test_match_of_nothing_holds_where_anything_is(table: Table) -> None:
    await table.write(Put(item()))

    await table.write(Delete(KEY, Match({})))

    assert await table.get(KEY) is None


async def test_a_delete_obeys_its_condition(table: Table) -> None:
    await table.write(Put(item(revision=2)))

    assert await refused(table, Delete(KEY, Match({"revision": 1}))) == {0: item(revision=2)}
    await table.write(Delete(KEY, Match({"revision": 2})))

    assert await table.get(KEY) is None


# --- updates -------------------------------------------------------------------------------------------------------


async def test_an_update_changes_what_it_names_and_nothing_else(table: Table) -> None:
    await table.write(Put(item(kept=b"kept", changed=1, counted=5, removed="x")))

    changed = {"changed": [b"2"], "new": None}
    await table.write(Update(KEY, set=changed, add={"counted": -7, "started": 3}, remove=("removed", "gone")))

    assert await table.get(KEY) == item(kept=b"kept", changed=[b"2"], new=None, counted=-2, started=3)


async def test_an_update_makes_an_item_unless_a_condition_forbids_it(table: Table) -> None:
    await table.write(Update(KEY, add={"n": 1}))
    await table.write(Update(OTHER, set={"n": 1}, condition=Absent()))

    assert await table.get(KEY) == item(n=1)
    assert await table.get(OTHER) == item(OTHER, n=1)
    assert await refused(table, Update(OTHER, set={"n": 2}, condition=Absent())) == {0: item(OTHER, n=1)}


async def test_attribute_names_may_be_reserved_words_or_odd(table: Table) -> None:
    names: dict[str, Any] = {"name": 1, "status": 2, "ttl": 2**40, "a.b": 3, "with space": 4, "#0": 5, ":0": 6, "ü": 7}
    await table.write(Update(KEY, set=names))

    await table.write(Update(KEY, add={"status": 1}, remove=("a.b",), condition=Match({"name": 1, "#0": 5, "ü": 7})))

    del names["a.b"]
    assert await table.get(KEY) == item() | names | {"status": 3}


@pytest.mark.parametrize(
    "update",
    [
        Update(KEY, set={"SK": "b"}), Update(KEY, remove=("PK",)), Update(KEY, add={"text": 1}),
        Update(KEY), Update(KEY, condition=Absent()), Update(KEY, set={"n": 1.5}),
    ],
    ids=repr,
)  # fmt: skip
async def test_an_update_that_makes_no_sense_is_refused(table: Table, update: Update) -> None:
    await table.write(Put(item(text="a")))

    with pytest.raises(ValueError, match=r"."):
        await table.write(update)

    assert await table.get(KEY) == item(text="a")


@pytest.mark.parametrize("twice", [{"add": {"n": 1}}, {"remove": ("n",)}], ids=repr)
async def test_an_update_that_names_an_attribute_twice_is_refused(table: Table, twice: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        await table.write(Update(KEY, set={"n": 1}, **twice))

    assert await table.get(KEY) is None


async def test_an_update_of_nothing_checks_an_item_beside_other_ops(table: Table) -> None:
    await table.write(Put(item(n=1)))

    await table.write(Update(KEY, condition=Match({"n": 1})), Put(item(OTHER)))

    assert await table.get(OTHER) == item(OTHER)
    assert await table.get(KEY) == item(n=1)
    assert await refused(table, Delete(OTHER), Update(KEY, condition=Match({"n": 2}))) == {1: item(n=1)}


async def test_an_update_of_nothing_may_be_alone(table: Table) -> None:
    await table.write(Put(item(n=1)))

    await table.write(Update(KEY, condition=Match({"n": 1})))

    assert await table.get(KEY) == item(n=1)
    assert await refused(table, Update(KEY, condition=Match({"n": 2}))) == {0: item(n=1)}


# --- transactions --------------------------------------------------------------------------------------------------


async def test_all_ops_are_done_together(table: Table) -> None:
    await table.write(Put(item(n=1)), Put(item(OTHER)))

    await table.write(Update(KEY, add={"n": 1}, condition=Match({"n": 1})), Delete(OTHER), Put(item(Key("Q", "c"))))

    assert await table.get(KEY) == item(n=2)
    assert await table.get(OTHER) is None
    assert await table.get(Key("Q", "c")) is not None


async def test_no_op_is_done_when_one_condition_fails(table: Table) -> None:
    await table.write(Put(item(n=1)))

    found = await refused(table, Put(item(OTHER)), Update(KEY, add={"n": 1}, condition=Match({"n": 2})))

    assert found == {1: item(n=1)}
    assert await table.get(OTHER) is None
    assert await table.get(KEY) == item(n=1)


async def test_every_condition_that_fails_is_reported(table: Table) -> None:
    await table.write(Put(item(n=1)))

    found = await refused(
        table,
        Put(item(n=2), Absent()),
        Put(item(OTHER), Absent()),
        Delete(Key("P", "c"), Match({"n": 1})),
        Put(item(Key("P", "d"))),
    )

    assert found == {0: item(n=1), 2: None}


async def test_the_same_ops_twice_are_two_writes(table: Table) -> None:
    ops = (Update(KEY, add={"n": 1}), Update(OTHER, add={"n": 1}))

    await table.write(*ops)
    await table.write(*ops)

    assert await table.get(KEY) == item(n=2)


async def test_two_ops_on_one_item_are_refused(table: Table) -> None:
    with pytest.raises(ValueError, match=r"two ops"):
        await table.write(Put(item()), Delete(KEY))


async def test_no_ops_do_nothing(table: Table) -> None:
    await table.write()


async def test_a_write_has_at_most_100_ops(table: Table) -> None:
    puts = [Put(item(Key("P", f"{n:03}"))) for n in range(101)]

    await table.write(*puts[:100])

    assert len((await table.query("P")).items) == 100
    with pytest.raises(TooLarge):
        await table.write(*puts)


async def test_a_write_has_at_most_4_mb(table: Table) -> None:
    keys = [Key("P", f"{n:02}") for n in range(11)]

    with pytest.raises(TooLarge):
        await table.write(*(Put(item_of_size(LIMIT, key)) for key in keys))

    assert (await table.query("P")).items == []
    await table.write(*(Put(item_of_size(LIMIT, key)) for key in keys[:10]))


async def test_an_item_has_at_most_400_kb(table: Table) -> None:
    await table.write(Put(item_of_size(LIMIT)))

    with pytest.raises(TooLarge):
        await table.write(Put(item_of_size(LIMIT + 1)))
    with pytest.raises(TooLarge):
        await table.write(Put(item_of_size(LIMIT + 1)), Put(item(OTHER)))

    assert await table.get(KEY) == item_of_size(LIMIT)
    assert await table.get(OTHER) is None


async def test_an_update_cannot_make_an_item_larger_than_400_kb(table: Table) -> None:
    await table.write(Put(item_of_size(LIMIT)))

    with pytest.raises(TooLarge):
        await table.write(Update(KEY, set={"x": 1}))
    with pytest.raises(TooLarge):
        await table.write(Update(KEY, set={"x": 1}), Put(item(OTHER)))

    assert await table.get(KEY) == item_of_size(LIMIT)
    assert await table.get(OTHER) is None


# --- the table itself ----------------------------------------------------------------------------------------------


def test_the_template_describes_the_table_that_the_adapter_expects() -> None:
    deployed = template.table_properties()

    assert {name: deployed.get(name) for name in TABLE_PROPERTIES} == TABLE_PROPERTIES


# --- a row that people change while a driver may take it -------------------------------------------------------------


async def test_a_revision_lets_the_first_of_two_changes_win_and_a_later_one_be_seen(table: Table) -> None:
    as_read, edited = Match({"id": "m", "revision": None}), Match({"id": "m", "revision": 1})
    await table.write(Put(item(id="m", body=b"1"), Absent()))

    await table.write(Put(item(id="m", body=b"2", revision=1), as_read))
    late = [await refused(table, op) for op in (Put(item(id="m"), as_read), Delete(KEY, as_read))]
    await table.write(Delete(KEY, edited))

    assert late == [{0: item(id="m", body=b"2", revision=1)}] * 2
    assert await refused(table, Put(item(id="m", revision=2), edited)) == {0: None}
    assert await table.get(KEY) is None
