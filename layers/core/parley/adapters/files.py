"""The `Blobs` port in a folder: the embedded default instead of S3.

A blob is there as a whole or not at all, also after a power cut: it is written beside its place, flushed, and
renamed.
"""

import asyncio
import contextlib
import os
import tempfile
from pathlib import Path

from parley.core.errors import Unavailable


class FileBlobs:
    """One file per blob; several processes may share the folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, key: str, data: bytes) -> None:
        """Store bytes; durable when it returns."""
        await asyncio.to_thread(_store, self._path(key), data)

    async def get(self, key: str) -> bytes | None:
        """Read bytes, or `None` when there are none."""
        return await asyncio.to_thread(_load, self._path(key))

    async def delete(self, key: str) -> None:
        """Remove bytes; removing what is not there is fine."""
        await asyncio.to_thread(_remove, self._path(key))

    async def delete_all(self, prefix: str) -> None:
        """Remove the folder `prefix` and all that is below it; finding none is fine."""
        if not prefix.endswith("/"):
            raise ValueError(f"not a key of blobs' folder: {prefix!r}")
        await asyncio.to_thread(_remove_folder, self._path(prefix.removesuffix("/")))

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if any(part in ("", ".", "..") or "\0" in part or "\\" in part for part in parts):
            raise ValueError(f"not a key of a blob: {key!r}")
        return self._folder.joinpath(*parts)


def _store(path: Path, data: bytes) -> None:
    try:
        _make_folder(path.parent)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
        _flush_folder(path.parent)
    except OSError as error:
        raise Unavailable(f"A blob cannot be written: {error.strerror}") from error


def _load(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise Unavailable(f"A blob cannot be read: {error.strerror}") from error


def _remove(path: Path) -> None:
    try:
        path.unlink()
        _flush_folder(path.parent)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise Unavailable(f"A blob cannot be removed: {error.strerror}") from error


def _remove_folder(folder: Path) -> None:
    """Remove a folder, but none above it: somebody may be about to store another session's blob there."""
    try:
        for below, _, names in os.walk(folder, topdown=False):
            for name in names:
                Path(below, name).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):  # two may be at it
                Path(below).rmdir()
        if folder.parent.is_dir():
            _flush_folder(folder.parent)
    except OSError as error:
        raise Unavailable(f"Blobs cannot be removed: {error.strerror}") from error


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it; each new name is flushed, or a power cut may lose all below it."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _flush_folder(folder.parent)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
