"""Cuts what arrives on a socket into blocks of whole lines. Pure.

It knows nothing of what stands in the lines; a line that is too long is reported as such, and the stream found again
behind its end.
"""

import re
from collections.abc import Iterator

import msgspec


class Overlong(msgspec.Struct, frozen=True):
    """A line that was not kept: it was longer than allowed, or there was no room for what was there of it."""

    reason: str


Piece = bytes | Overlong
"""A block of whole lines, each with its `\\n` and none of them blank; or a line that is missing between two blocks."""

_BLANK = re.compile(rb"\n[ \t\r\n]+")
_BLOCK_BYTES = 32_768
"""Bytes of a block of lines: large enough to share its cost, small enough to fit into a queue that is nearly full."""


class LineFramer:
    """The lines of one connection. Holds no more than one line that has no end yet."""

    __slots__ = ("_discarding", "_max_bytes", "_unfinished")

    def __init__(self, max_line_bytes: int) -> None:
        self._max_bytes = max_line_bytes
        self._unfinished = bytearray()  # the beginning of a line that has no end yet
        self._discarding = False  # up to its end, a line that is too long

    @property
    def unfinished_bytes(self) -> int:
        """Return the bytes of the line that has no end yet."""
        return len(self._unfinished)

    def feed(self, data: bytes) -> list[Piece]:
        """Return what is whole now, in order."""
        pieces: list[Piece] = []
        if self._discarding:
            end = data.find(b"\n") + 1
            if not end:
                return pieces
            self._discarding, data = False, data[end:]
        end = data.rfind(b"\n") + 1
        if end:
            block = bytes(self._unfinished) + data[:end] if self._unfinished else data[:end]
            self._unfinished = bytearray()
            pieces += self._split(block)
        if end < len(data):
            self._unfinished += data[end:]
            if self.unfinished_bytes > self._max_bytes:
                pieces.append(self.discard(self._too_long()))
        return pieces

    def discard(self, reason: str) -> Overlong:
        """Give up the unfinished line, up to its end wherever that is."""
        self._unfinished = bytearray()
        self._discarding = True
        return Overlong(reason)

    def end(self) -> bool:
        """Note that the client sends no more; return whether it left a line without an end."""
        left = bool(self._unfinished.strip())
        self._unfinished = bytearray()
        return left

    def _too_long(self) -> str:
        return f"longer than {self._max_bytes} bytes (max_line)"

    def _split(self, block: bytes) -> list[Piece]:
        # In a block this short no line can be too long, so nobody needs to look at single lines.
        if len(block) <= self._max_bytes:
            return list(_cut(without_blank_lines(block)))
        pieces: list[Piece] = []
        run: list[bytes] = []
        for line in without_blank_lines(block).split(b"\n")[:-1]:
            if len(line) <= self._max_bytes:
                run.append(line + b"\n")
                continue
            pieces += _cut(b"".join(run))
            pieces.append(Overlong(self._too_long()))
            run = []
        return [*pieces, *_cut(b"".join(run))]


def without_blank_lines(block: bytes) -> bytes:
    """Return `block`, which ends with a line's end, without lines of nothing but white space."""
    if b"\r" in block:
        block = block.replace(b"\r\n", b"\n")
    return _BLANK.sub(b"\n", block.lstrip(b" \t\r\n"))


def each_line(block: bytes) -> list[bytes]:
    """Return the lines of `block`, which ends with a line's end, each with its own."""
    return [line + b"\n" for line in block.split(b"\n")[:-1]]


def _cut(block: bytes) -> Iterator[bytes]:
    start = 0
    while len(block) - start > _BLOCK_BYTES:
        end = block.rfind(b"\n", start, start + _BLOCK_BYTES) + 1 or block.index(b"\n", start) + 1
        yield block[start:end]
        start = end
    if start < len(block):
        yield block[start:]
