"""What every store of blobs does."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from moto import mock_aws
from parley.adapters.files import FileBlobs
from parley.adapters.s3 import S3Blobs
from parley.core.errors import Unavailable
from parley.ports import Blobs

from tests.contract import backends

pytestmark = pytest.mark.anyio

KEY = "tenant/sesn_1/appe_1"


@pytest.fixture(params=["files", "s3"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Blobs]:
    if request.param == "files":
        yield FileBlobs(tmp_path / "data" / "blobs")
        return
    with mock_aws():
        with closing(backends.s3_client()) as setup:
            setup.create_bucket(Bucket="blobs", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        s3 = S3Blobs("blobs", backends.s3_client)
        yield s3
        await s3.close()


async def test_nothing_is_found_where_nothing_was_put(blobs: Blobs) -> None:
    assert await blobs.get(KEY) is None


@pytest.mark.parametrize("data", [b"", b"\x00\xff\r\n", bytes(range(256)) * 4096], ids=["empty", "binary", "1 MB"])
async def test_bytes_come_back_as_they_were_put(blobs: Blobs, data: bytes) -> None:
    await blobs.put(KEY, data)

    assert await blobs.get(KEY) == data


async def test_a_second_put_replaces_the_first(blobs: Blobs) -> None:
    await blobs.put(KEY, b"the first, and longer")

    await blobs.put(KEY, b"the second")

    assert await blobs.get(KEY) == b"the second"


async def test_each_key_has_its_own_bytes(blobs: Blobs) -> None:
    keys = [KEY, "tenant/sesn_1/appe_2", "tenant/sesn_2/appe_1", "other/sesn_1/appe_1", "tenant/sesn_1/a b+c%2F#?&=~"]
    await asyncio.gather(*(blobs.put(key, key.encode()) for key in keys))

    assert [await blobs.get(key) for key in keys] == [key.encode() for key in keys]


async def test_a_deleted_blob_is_gone_and_may_be_deleted_again(blobs: Blobs) -> None:
    await blobs.put(KEY, b"1")
    await blobs.put("tenant/sesn_1/other", b"2")

    await blobs.delete(KEY)
    await blobs.delete(KEY)
    await blobs.delete("nobody/nothing/none")

    assert await blobs.get(KEY) is None
    assert await blobs.get("tenant/sesn_1/other") == b"2"


async def test_a_key_that_others_are_below_holds_nothing(blobs: Blobs) -> None:
    await blobs.put(KEY, b"1")

    assert await blobs.get("tenant/sesn_1") is None
    assert await blobs.get(f"{KEY}/below") is None


@pytest.mark.parametrize(
    "key", ["", "/", "/etc/passwd", "a/../b", "../b", "a//b", "a/", "./a", "a/.", "a\\..\\b", "a/\0"], ids=repr
)
async def test_a_key_that_could_leave_its_folder_is_refused(blobs: Blobs, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        await blobs.put(key, b"1")
    with pytest.raises(ValueError, match="not a key"):
        await blobs.get(key)
    with pytest.raises(ValueError, match="not a key"):
        await blobs.delete(key)


async def test_readers_see_the_old_bytes_or_the_new_and_nothing_in_between(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    versions = {bytes([n]) * 200_000 for n in range(10)}
    await blobs.put(KEY, b"\x00" * 200_000)

    async def write() -> None:
        for version in versions:
            await blobs.put(KEY, version)

    writing = asyncio.create_task(write())
    seen = {await blobs.get(KEY) for _ in range(100)}
    await writing

    assert seen <= versions


async def test_nothing_but_the_blob_is_left_in_its_folder(tmp_path: Path) -> None:
    await FileBlobs(tmp_path).put(KEY, b"1")

    assert [path.name for path in (tmp_path / KEY).parent.iterdir()] == ["appe_1"]


async def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "tenant").write_text("in the way")
    (tmp_path / "folder" / "sesn_1" / "appe_1" / "below").mkdir(parents=True)

    with pytest.raises(Unavailable):
        await FileBlobs(tmp_path).put(KEY, b"1")
    with pytest.raises(Unavailable):
        await FileBlobs(tmp_path).put("folder/sesn_1/appe_1", b"1")
    with pytest.raises(Unavailable):
        await FileBlobs(tmp_path).delete("folder/sesn_1/appe_1")

    assert [path.name for path in (tmp_path / "folder" / "sesn_1").iterdir()] == ["appe_1"]


async def test_a_bucket_that_is_not_there_is_unavailable() -> None:
    with mock_aws():
        await nothing_works(S3Blobs("nobodys-bucket", backends.s3_client), "NoSuchBucket")


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    address = f"http://127.0.0.1:{backends.free_port()}"

    await nothing_works(S3Blobs("blobs", partial(backends.s3_client, address)), "EndpointConnectionError")


async def nothing_works(blobs: S3Blobs, why: str) -> None:
    with pytest.raises(Unavailable, match=why):
        await blobs.put(KEY, b"1")
    with pytest.raises(Unavailable, match=why):
        await blobs.get(KEY)
    with pytest.raises(Unavailable, match=why):
        await blobs.delete(KEY)
    await blobs.close()
