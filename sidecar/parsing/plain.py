"""A block of lines as events at once, where all that differs from line to line is the content.

What stands before and behind the content is the same for all of them, so that one replacement of the ends of lines
makes the whole block: nothing is done for a single line.
"""

from collections.abc import Iterator

import msgspec

from sidecar.core.model import Block
from sidecar.text.growth import html_growth, string_growth

_encode = msgspec.json.Encoder().encode
_END = "\x7f"
"""A placeholder character (DEL). JSON writes it unchanged, in one byte, and logs do not contain it."""
_MARKS = tuple(chr(number) for number in range(1, 9))


class EventTemplate(msgspec.Struct, frozen=True):
    """The JSON before and behind the content of an event, and by how much these two grow in the proxy's message."""

    before: bytes
    behind: bytes
    growth: int


def frame_of(event: dict[str, object]) -> EventTemplate:
    """Return the frame of events that are as `event`, whose content is empty, but for that."""
    before, _, behind = _encode(event).partition(b'"event":{"content":""}')
    return EventTemplate(before + b'"event":{"content":"', b'"}' + behind, string_growth(before + behind))


def frame_lines(text: str, frame: EventTemplate, block_bytes: int) -> list[Block] | None:
    """Return an event for each line of `text`, each with its end.

    None if a line is empty, or it cannot be done at once.

    JSON writes an end of line, and a backslash, as two characters, and the first of these is also that of others. So
    characters that are not in the text stand for both until all else is written.
    """
    between = frame.behind + b"," + frame.before
    if _END in text or _END.encode() in between:
        return None
    mark = ""
    if "\\" in text:
        mark = next((mark for mark in _MARKS if mark not in text and _inside(mark) not in between), "")
        if not mark:
            return None
        text = text.replace("\\", mark)
    only_html = text.isascii() and "\b" not in text and "\f" not in text
    empty = frame.before + frame.behind  # so long that it is found, or not, in no time
    blocks = []
    for body, count, lines in _framed(_inside(text.replace("\n", _END)), frame, block_bytes):
        if empty in body:
            return None
        growth = (html_growth if only_html else string_growth)(lines) + count * frame.growth
        blocks.append(Block(body.replace(_inside(mark), rb"\\") if mark else body, count, growth=growth))
    return blocks


def _framed(inside: bytes, frame: EventTemplate, block_bytes: int) -> Iterator[tuple[bytes, int, bytes]]:
    """Events, how many, and their lines, for runs of lines that fit `block_bytes`; a larger one is alone."""
    mark, between = _END.encode(), frame.behind + b"," + frame.before
    start, window = 0, block_bytes
    while start < len(inside):
        end = inside.rfind(mark, start, start + window)
        if end < 0:
            end = inside.index(mark, start)
        lines = inside[start:end]
        middle = lines.replace(mark, between)
        count = 1 + (len(middle) - len(lines)) // (len(between) - len(mark))
        size = len(middle) + len(between)
        window = max(1, block_bytes * len(lines) // size)  # what would have fitted, if all is alike
        if size > block_bytes and count > 1:
            continue
        yield b"%b%b%b" % (frame.before, middle, frame.behind), count, lines
        start = end + 1


def _inside(text: str) -> bytes:
    """Return `text` as the inside of a string in JSON."""
    return _encode(text)[1:-1]
