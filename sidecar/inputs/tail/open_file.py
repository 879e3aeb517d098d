"""Reads a file's bytes from any place on: as they are; or, of a compressed file, its content."""

import bz2
import gzip
import lzma
import os
import time
import zlib
from typing import IO, Protocol, cast

import zstandard

from sidecar.inputs.tail.rotated_names import COMPRESSED_SUFFIXES

_MAGIC = {".gz": b"\x1f\x8b", ".bz2": b"BZh", ".xz": b"\xfd7zXZ\0", ".zst": b"\x28\xb5\x2f\xfd"}
SUFFIXES = COMPRESSED_SUFFIXES
_SKIP_BYTES = 1 << 20
_CHECK_BYTES = 1024
_SETTLED_S = 60.0
"""A file with the name of a compressed one, and other content, is what it is if it did not change for so long."""


class OpenFile(Protocol):
    """An open file."""

    device: int
    inode: int
    compressed: bool

    def read(self, size: int, offset: int) -> bytes:
        """At most `size` bytes from `offset` on; fewer only at the end. Raises OSError, or EOFError if damaged."""

    def state(self) -> os.stat_result:
        """Of the file itself."""

    def close(self) -> None:
        """May be called twice."""


def open_source(path: str) -> OpenFile:
    """Raises OSError, or EOFError for a compressed file that somebody is still writing."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        suffix = os.path.splitext(path)[1]
        if suffix in _MAGIC:
            if os.pread(fd, 8, 0).startswith(_MAGIC[suffix]):
                return _Archive(fd, suffix)
            if time.time() - os.fstat(fd).st_mtime < _SETTLED_S:
                raise EOFError("not complete yet")
        return _Plain(fd)
    except BaseException:
        os.close(fd)
        raise


def first_hole(path: str, size: int) -> int | None:
    """Where a sparse file has its first hole; None if it has none, or the file system does not say. Raises OSError."""
    hole = _seek(path, os.SEEK_HOLE)
    return hole if hole is not None and hole < size else None


def next_data(path: str) -> int:
    """Return where the first bytes are that were written, behind a hole. Raises OSError."""
    return _seek(path, os.SEEK_DATA) or 0


def _seek(path: str, whence: int) -> int | None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        return os.lseek(fd, 0, whence)
    except OSError:
        return None
    finally:
        os.close(fd)


class _File:
    compressed = False

    def __init__(self, fd: int) -> None:
        self._fd = fd
        state = os.fstat(fd)
        self.device, self.inode = state.st_dev, state.st_ino

    def state(self) -> os.stat_result:
        return os.fstat(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _Plain(_File):
    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._fd, size, offset)


class _Archive(_File):
    """Goes forward only; to go back, it begins again."""

    compressed = True

    def __init__(self, fd: int, suffix: str) -> None:
        super().__init__(fd)
        self._suffix = suffix
        self._stream: IO[bytes] | None = None  # the decompressing reader; None: not begun
        self._place = 0  # of the content, where `_stream` stands
        self._complete = False  # all frames were found to have an end

    def read(self, size: int, offset: int) -> bytes:
        if self._stream is None or offset < self._place:
            self._restart()
        assert self._stream is not None
        try:
            while self._place < offset:
                skipped = self._stream.read(min(_SKIP_BYTES, offset - self._place))
                if not skipped:
                    return b""
                self._place += len(skipped)
            parts = []
            while size and (part := self._stream.read(size)):
                parts.append(part)
                size -= len(part)
                self._place += len(part)
            if size and self._suffix == ".zst":
                self._expect_end_of_frame()
            return b"".join(parts)
        except OSError as error:
            if error.errno is not None:
                raise
            raise EOFError(str(error)) from None  # what gzip and bz2 say of damage
        except (zstandard.ZstdError, lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
            raise EOFError(str(error)) from None

    def _expect_end_of_frame(self) -> None:
        """The reader of zstandard takes a file that is cut off for one that has ended. Raises EOFError."""
        if self._complete:
            return
        place, frame = 0, zstandard.ZstdDecompressor().decompressobj()
        while part := os.pread(self._fd, _CHECK_BYTES, place):
            place += len(part)
            while part:
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                frame.decompress(part)
                part = frame.unused_data if frame.eof else b""
        if not frame.eof:
            raise EOFError("it is cut off")
        self._complete = True

    def _restart(self) -> None:
        os.lseek(self._fd, 0, os.SEEK_SET)
        raw = os.fdopen(self._fd, "rb", closefd=False)
        opened: object
        if self._suffix == ".gz":
            opened = gzip.GzipFile(fileobj=raw)
        elif self._suffix == ".bz2":
            opened = bz2.BZ2File(raw)
        elif self._suffix == ".xz":
            opened = lzma.LZMAFile(raw)  # noqa: SIM115
        else:
            opened = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True)
        self._stream, self._place = cast("IO[bytes]", opened), 0

    def close(self) -> None:
        self._stream = None
        super().close()
