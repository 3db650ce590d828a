"""The machine's clock and its identifiers."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from parley.adapters.system import SystemClock, UlidIds

pytestmark = pytest.mark.anyio


def test_now_is_aware_utc_and_in_whole_milliseconds() -> None:
    moments = [SystemClock().now() for _ in range(100)]

    assert all(moment.tzinfo is UTC and moment.microsecond % 1000 == 0 for moment in moments)
    assert abs(datetime.now(UTC) - moments[-1]) < timedelta(seconds=5)


async def test_sleeping_takes_its_time() -> None:
    clock = SystemClock()
    before = clock.now()

    await clock.sleep(0.02)

    assert clock.now() - before >= timedelta(milliseconds=19)


def test_an_id_is_a_prefix_and_a_ulid_and_never_the_same() -> None:
    ids = [UlidIds().new("sesn") for _ in range(1000)]

    assert all(re.fullmatch(r"sesn_[0-7][0-9A-HJKMNP-TV-Z]{25}", each) for each in ids)
    assert len(set(ids)) == 1000


async def test_a_later_id_sorts_behind_an_earlier_one() -> None:
    ids = UlidIds()
    earlier = ids.new("run")

    await SystemClock().sleep(0.005)

    assert ids.new("run") > earlier
