"""What every store of blobs does."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


async def test_all_blobs_below_a_prefix_are_deleted_and_no_others(blobs: Blobs) -> None:
    gone = [KEY, "tenant/sesn_1/appe_2", "tenant/sesn_1/below/it/appe_3", "tenant/sesn_1/a b+c%2F#?&=~<é>"]
    kept = ["tenant/sesn_10/appe_1", "tenant/sesn_2/appe_1", "other/sesn_1/appe_1", "tenant/sesn_1x"]
    await asyncio.gather(*(blobs.put(key, b"1") for key in gone + kept))

    await blobs.delete_all("tenant/sesn_1/")

    assert [key for key in gone + kept if await blobs.get(key) is not None] == kept


async def test_deleting_below_a_prefix_where_nothing_is_is_fine(blobs: Blobs) -> None:
    await blobs.put(KEY, b"1")

    await blobs.delete_all("tenant/sesn_9/")
    await blobs.delete_all("nobody/sesn_1/")
    await blobs.delete_all("tenant/sesn_1/")
    await blobs.delete_all("tenant/sesn_1/")
    await blobs.put(KEY, b"2")

    assert await blobs.get(KEY) == b"2"


async def test_a_blob_named_like_a_prefix_is_not_below_it(blobs: Blobs) -> None:
    await blobs.put("tenant/sesn_1", b"1")

    await blobs.delete_all("tenant/sesn_1/")

    assert await blobs.get("tenant/sesn_1") == b"1"


async def test_more_blobs_than_fit_a_page_are_all_deleted(blobs: Blobs) -> None:
    keys = [f"tenant/sesn_1/appe_{n:04d}" for n in range(1050)]
    for start in range(0, len(keys), 100):
        await asyncio.gather(*(blobs.put(key, b"") for key in keys[start : start + 100]))

    await blobs.delete_all("tenant/sesn_1/")

    assert [key for key in keys if await blobs.get(key) is not None] == []


async def test_two_may_delete_the_same_blobs_at_once(blobs: Blobs) -> None:
    keys = [f"tenant/sesn_1/{n % 7}/appe_{n}" for n in range(100)]
    await asyncio.gather(*(blobs.put(key, b"1") for key in keys))

    await asyncio.gather(*(blobs.delete_all("tenant/sesn_1/") for _ in range(4)))

    assert [key for key in keys if await blobs.get(key) is not None] == []


@pytest.mark.parametrize(
    "prefix", ["", "/", "tenant", "tenant/sesn_1", "//", "a//", "../", "a/../", "./", "a\\/"], ids=repr
)
async def test_a_prefix_that_is_no_folder_is_refused(blobs: Blobs, prefix: str) -> None:
    await blobs.put(KEY, b"1")

    with pytest.raises(ValueError, match="not a key"):
        await blobs.delete_all(prefix)

    assert await blobs.get(KEY) == b"1"


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


async def test_the_folders_of_deleted_blobs_go_with_them_and_those_above_stay(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path)
    await blobs.put("tenant/sesn_1/below/it/appe_1", b"1")
    (tmp_path / "tenant" / "sesn_1" / ".left by a write that was cut off").write_bytes(b"1")

    await blobs.delete_all("tenant/sesn_1/")

    assert list((tmp_path / "tenant").iterdir()) == []


async def test_a_folder_that_cannot_be_written_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "tenant").write_text("in the way")
    (tmp_path / "folder" / "sesn_1" / "appe_1" / "below").mkdir(parents=True)

    with pytest.raises(Unavailable):
        await FileBlobs(tmp_path).put(KEY, b"1")
    with pytest.raises(Unavailable):
        await FileBlobs(tmp_path).put("folder/sesn_1/appe_1", b"1")
    with pytest.raises(Unavailable):
        await FileBlobs(tmp_path).delete("folder/sesn_1/appe_1")
    (tmp_path / "away").mkdir()
    (tmp_path / "folder" / "linked").mkdir()
    (tmp_path / "folder" / "linked" / "link").symlink_to(tmp_path / "away")
    with pytest.raises(Unavailable):
        await FileBlobs(tmp_path).delete_all("folder/linked/")

    assert [path.name for path in (tmp_path / "folder" / "sesn_1").iterdir()] == ["appe_1"]


async def test_a_bucket_that_is_not_there_is_unavailable() -> None:
    with mock_aws():
        await nothing_works(S3Blobs("nobodys-bucket", backends.s3_client), "NoSuchBucket")


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    address = f"http://127.0.0.1:{backends.free_port()}"

    await nothing_works(S3Blobs("blobs", partial(backends.s3_client, address)), "EndpointConnectionError")


async def test_a_blob_that_the_bucket_keeps_to_itself_is_unavailable() -> None:
    """S3 then answers 200 and names the key (DeleteObjects in botocore's reference, read 2026-11-20)."""
    listed = "<ListBucketResult><Contents><Key>tenant/sesn_1/appe_1</Key></Contents></ListBucketResult>"
    refused = "<DeleteResult><Error><Key>tenant/sesn_1/appe_1</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    with answering(listed, refused) as address:
        blobs = S3Blobs("blobs", partial(backends.s3_client, address))

        with pytest.raises(Unavailable, match="AccessDenied"):
            await blobs.delete_all("tenant/sesn_1/")
        await blobs.close()


@contextmanager
def answering(*bodies: str) -> Iterator[str]:
    """Answer every call with the next of these bodies, on a free port of this machine."""
    left = iter(bodies)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            body = next(left).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


async def nothing_works(blobs: S3Blobs, why: str) -> None:
    with pytest.raises(Unavailable, match=why):
        await blobs.put(KEY, b"1")
    with pytest.raises(Unavailable, match=why):
        await blobs.get(KEY)
    with pytest.raises(Unavailable, match=why):
        await blobs.delete(KEY)
    with pytest.raises(Unavailable, match=why):
        await blobs.delete_all("tenant/sesn_1/")
    await blobs.close()
