"""Page cursors: opaque, signed, and of one question of one tenant."""

import asyncio
import base64
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from parley.core.errors import Malformed
from parley.store.cursor import Cursors

from tests.build import Stage
from tests.strategies import JSON, TEXTS

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("position", [7, None, "run_1", {"PK": "S#acme#sesn_ä", "SK": "M"}, [1, "2"]])
async def test_a_position_comes_back(stage: Stage, position: Any) -> None:
    cursors = stage.store.cursors

    cursor = await cursors.seal("acme", "list", position)

    assert await cursors.open("acme", "list", cursor) == position


async def test_a_cursor_serves_in_every_process_of_the_deployment(stage: Stage) -> None:
    cursor = await stage.store.cursors.seal("acme", "list", 7)

    assert await stage.another().store.cursors.open("acme", "list", cursor) == 7


async def test_processes_that_start_together_agree_on_one_secret(stage: Stage) -> None:
    several = [Cursors(stage.sqlite) for _ in range(5)]

    sealed = await asyncio.gather(*(each.seal("acme", "list", 7) for each in several))

    assert len(set(sealed)) == 1


async def test_a_secret_whose_write_was_not_confirmed_is_found_again(stage: Stage) -> None:
    stage.table.fail_next("unconfirmed")

    cursor = await stage.store.cursors.seal("acme", "list", 7)

    assert await stage.another().store.cursors.open("acme", "list", cursor) == 7


@pytest.mark.parametrize(("tenant", "question"), [("other", "list"), ("acme", "other"), ("acmel", "ist"), ("", "")])
async def test_a_cursor_fits_no_other_tenant_and_no_other_question(stage: Stage, tenant: str, question: str) -> None:
    cursor = await stage.store.cursors.seal("acme", "list", 7)

    with pytest.raises(Malformed):
        await stage.store.cursors.open(tenant, question, cursor)


async def test_a_cursor_that_was_changed_anywhere_is_refused(stage: Stage) -> None:
    cursor = await stage.store.cursors.seal("acme", "list", 7)
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))

    for place in range(len(raw)):
        changed = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
        with pytest.raises(Malformed):
            await stage.store.cursors.open("acme", "list", base64.urlsafe_b64encode(changed).decode())


@pytest.mark.parametrize("nonsense", ["", "x", "====", "ä", "\0", "a" * 4096, "\U0001f600" * 10, "!!!!"])
async def test_nonsense_is_malformed(stage: Stage, nonsense: str) -> None:
    with pytest.raises(Malformed):
        await stage.store.cursors.open("acme", "list", nonsense)


async def test_a_cursor_says_nothing_that_a_url_would_spoil(stage: Stage) -> None:
    cursor = await stage.store.cursors.seal("acme", "list", {"PK": "ÿÿÿ>>>???"})

    assert set(cursor) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


class Secret:
    """As much of a table as a cursor needs."""

    async def get(self, key: object) -> dict[str, bytes]:
        return {"value": b"secret"}


CURSORS = Cursors(Secret())  # type: ignore[arg-type]
SCOPES = st.tuples(TEXTS, TEXTS).filter(lambda scope: "\0" not in scope[0])
"""A tenant, which has no NUL, and a question."""


@given(st.text(max_size=30))
async def test_any_text_is_malformed_and_nothing_worse(text: str) -> None:
    with pytest.raises(Malformed):
        await CURSORS.open("acme", "list", text)


@given(SCOPES, JSON)
async def test_any_position_comes_back(scope: tuple[str, str], position: Any) -> None:
    assert await CURSORS.open(*scope, await CURSORS.seal(*scope, position)) == position


@given(SCOPES, SCOPES, JSON)
async def test_no_cursor_fits_another_scope(mine: tuple[str, str], other: tuple[str, str], position: Any) -> None:
    assume(mine != other)
    cursor = await CURSORS.seal(*mine, position)

    with pytest.raises(Malformed):
        await CURSORS.open(*other, cursor)


@given(JSON, st.data())
async def test_a_cursor_that_was_changed_is_refused_or_means_the_same(position: Any, data: st.DataObject) -> None:
    cursor = await CURSORS.seal("acme", "list", position)
    start, end = sorted(data.draw(st.integers(0, len(cursor))) for _ in range(2))
    changed = cursor[:start] + data.draw(st.text(max_size=3)) + cursor[end:]

    with suppress(Malformed):
        assert await CURSORS.open("acme", "list", changed) == position
