"""Takes whole lines off the front of a file's bytes, as UTF-8, and says how many bytes they were.

    bytes from the position on ──> [ rest of a line that was cut ][ whole lines ][ the beginning of another ]
                                     passed over                    taken          stays, until it is whole

A line that is longer than `max_line` is cut there, and the rest of it passed over, so that it never stops the file.
"""

import itertools
import re

import msgspec

from sidecar.text.counting import count_byte
from sidecar.text.encodings import TextCodec

_BOM = "\ufeff"
_LONG_RUN = b"\n" + bytes(1024)
"""A run of NULs that is read as a block of its own, so that it is no part of a line, however long it is."""
_NULS = re.compile("\n\0+")
MAX_LINES = 16_384
"""The most lines of a block, so that the events that are made of it have a limit too."""


class Lines(msgspec.Struct, frozen=True):
    """Lines of a file. `text` has an end behind each line; `sizes` are the bytes that each takes in the file.

    `skipped` bytes stand in front of the first; `consumed` is all of it together. `cut` are the numbers of lines that
    were cut; `inside_line`: so was the last one, and what follows is the rest of it. `replaced` characters were none.
    `nuls` are the bytes before lines that nobody wrote.
    """

    text: str
    count: int
    skipped: int
    consumed: int
    raw: bytes
    newline: bytes
    cut: frozenset[int] = frozenset()
    inside_line: bool = False
    replaced: int = 0
    nuls: int = 0

    def sizes(self) -> list[int]:
        """Return the bytes that each line takes in the file, its end included."""
        width = len(self.newline)
        if width == 1:
            sizes = [len(part) + 1 for part in self.raw.split(b"\n")]
            sizes[-1] -= 1
        else:
            units = range(0, len(self.raw), width)
            ends = [place + width for place in units if self.raw[place : place + width] == self.newline]
            sizes = [end - before for before, end in zip([0, *ends], [*ends, len(self.raw)], strict=True)]
        return sizes if sizes[-1] else sizes[:-1]


def first_lines(lines: Lines, consumed: int) -> Lines:
    """Return those of `lines` that stand in the first `consumed` bytes, which end behind one of them."""
    ends = itertools.accumulate(lines.sizes(), initial=lines.skipped)
    count = sum(end <= consumed for end in ends) - 1
    text = "".join(line + "\n" for line in lines.text.split("\n", count)[:count])
    return msgspec.structs.replace(
        lines,
        text=text,
        count=count,
        consumed=consumed,
        raw=lines.raw[: consumed - lines.skipped],
        cut=frozenset(number for number in lines.cut if number < count),
        inside_line=False,
        replaced=min(lines.replaced, text.count("\ufffd")),
    )


def take_lines(
    data: bytes, codec: TextCodec, *, max_line: int, at_start: bool, inside_line: bool = False, at_end: bool = False
) -> Lines:
    """Return the whole lines in `data`, at most `MAX_LINES`; `at_end`: also what has no end. `at_start` of the file."""
    skipped = 0
    if inside_line:
        skipped = _end_of_line(data, 0, codec)
        if not skipped:
            whole = len(data) if at_end else len(data) - len(data) % codec.width
            return Lines("", 0, whole, whole, b"", codec.newline, inside_line=not at_end)
    nuls = _nuls(data, skipped, 0 if at_end else max_line, codec)
    skipped += nuls
    if skipped == len(data) and nuls:
        return Lines("", 0, skipped, skipped, b"", codec.newline, nuls=nuls)
    limit, count = _limit(data, skipped, codec)
    limit = _before_nuls(data, skipped, limit, codec) or limit
    end = _last_end(data, skipped, limit, codec)
    if at_end and limit == len(data) - len(data) % codec.width:  # also half a unit, which is no character
        end = len(data)
    elif limit - end > max_line:
        return _noting(nuls, _with_long(data, skipped, limit, codec, max_line, at_start=at_start))
    raw = data[skipped:end]
    if _has_long(raw, max_line, codec):
        return _noting(nuls, _with_long(data, skipped, end, codec, max_line, at_start=at_start))
    text, replaced = _text(raw, codec, at_start=at_start)
    if codec.width > 1 or not raw.endswith(b"\n"):
        count = text.count("\n")
    # One character is found, or not, in a tenth of the time that two take.
    if codec.width == 1 and "\0" in text and "\n\0" in text:  # short runs, inside the block
        clean = _NULS.sub("\n", text)
        nuls, text = nuls + len(text) - len(clean), clean
    return Lines(text, count, skipped, end, raw, codec.newline, replaced=replaced, nuls=nuls)


def swap_ends(data: bytes, end: str | None) -> bytes:
    """Return `data` with the character `end` in place of each end of line, and the other way round; None: as it is."""
    return data if end is None else data.translate(bytes.maketrans(b"\n" + end.encode(), end.encode() + b"\n"))


def _noting(nuls: int, lines: Lines) -> Lines:
    return msgspec.structs.replace(lines, nuls=nuls) if nuls else lines


def _nuls(data: bytes, start: int, max_line: int, codec: TextCodec) -> int:
    """Return the number of NUL bytes at `start` that nobody wrote: a file system leaves them after a power cut.

    Those at the end of the data may still be written over, unless there are more than a line can have.
    """
    if codec.width > 1 or data[start : start + 1] != b"\0":
        return 0
    rest = len(data[start:].lstrip(b"\0"))
    nuls = len(data) - start - rest
    return nuls if rest or nuls > max_line else 0


def _before_nuls(data: bytes, start: int, limit: int, codec: TextCodec) -> int:
    """Return where a long run of NULs begins at the beginning of a line; 0 if there is none."""
    if codec.width > 1:
        return 0
    return data.find(_LONG_RUN, start, limit) + 1


def last_end(data: bytes, codec: TextCodec) -> int:
    """Return the offset behind the last whole line; if there is none, the end of all whole units."""
    whole = len(data) - len(data) % codec.width
    return _last_end(data, 0, whole, codec) or whole


def _limit(data: bytes, start: int, codec: TextCodec) -> tuple[int, int]:
    """Return where to look no further, since there are lines enough before; and how many ends of lines are before."""
    end = len(data) - len(data) % codec.width
    if codec.width > 1:  # bytes that look like ends of lines are in many characters
        return end, 0
    while (lines := count_byte(data[start:end], b"\n")) > MAX_LINES:
        shorter = start + (end - start) * MAX_LINES // lines
        end = _last_end(data, start, shorter, codec)
        if end == start:
            end, lines = _end_of_line(data, start, codec), 1
            break
    return end, lines


def _end_of_line(data: bytes, start: int, codec: TextCodec) -> int:
    """Return where the line ends that begins at `start`; 0 if it does not."""
    if codec.width == 1:
        return data.find(b"\n", start) + 1
    newline = codec.newline
    # The bytes of an end may also be the second half of one character and the first of the next.
    found = data.find(newline, start)
    while found >= 0 and found % codec.width:
        found = data.find(newline, found + 1)
    return found + codec.width if found >= 0 else 0


def _last_end(data: bytes, start: int, limit: int, codec: TextCodec) -> int:
    """Behind the last whole line before `limit`; `start` if there is none."""
    if codec.width == 1:
        return max(start, data.rfind(b"\n", start, limit) + 1)
    newline = codec.newline
    found = data.rfind(newline, start, limit)
    while found >= 0 and found % codec.width:
        found = data.rfind(newline, start, found + codec.width - 1)
    return max(start, found + codec.width) if found >= 0 else start


def _has_long(raw: bytes, max_line: int, codec: TextCodec) -> bool:
    """Return whether a line is longer than `max_line`; looks only at a place or two in so many bytes."""
    place = 0
    while len(raw) - place > max_line:
        end = _last_end(raw, place, place + max_line + codec.width, codec)
        if end == place:
            return True
        place = end
    return False


def _with_long(data: bytes, start: int, limit: int, codec: TextCodec, max_line: int, *, at_start: bool) -> Lines:
    """Return the lines up to the first that is too long, and that one cut."""
    place = start
    while (end := _end_of_line(data, place, codec)) and end <= limit and end - place <= max_line + codec.width:
        place = end
    whole = data[start:place]
    head = max_line - max_line % codec.width
    text, replaced = _text(whole, codec, at_start=at_start)
    beginning = data[place : place + head].decode(codec.name, "ignore")  # a character may be cut in two
    if at_start and place == start:
        beginning = beginning.removeprefix(_BOM)
    text += beginning.replace("\n", "") + "\n"
    consumed = place + head
    count = text.count("\n")
    raw = data[start:consumed]
    return Lines(text, count, start, consumed, raw, codec.newline, frozenset((count - 1,)), True, replaced)


def _text(raw: bytes, codec: TextCodec, *, at_start: bool) -> tuple[str, int]:
    """Whole lines as text, each with its end, and how many characters were replaced."""
    text, replaced = codec.decode(raw)
    if (
        codec.width == 1 and replaced and text.count("\n") != raw.count(b"\n")
    ):  # what is no character took an end with it
        decoded = [codec.decode(line) for line in raw.split(b"\n")]
        text, replaced = "\n".join([line for line, _ in decoded]), sum([bad for _, bad in decoded])
    if at_start:
        text = text.removeprefix(_BOM)
    if raw and not text.endswith("\n"):  # also where there was nothing but a mark of the order of bytes
        text += "\n"
    return text.replace("\r\n", "\n") if "\r" in text else text, replaced
