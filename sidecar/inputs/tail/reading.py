"""Reads one block of a file and makes events of it, or says why there are none."""

from collections.abc import Callable
from functools import partial

import msgspec

from sidecar.inputs.tail.messages import ReadBlock
from sidecar.inputs.tail.tracked_file import TrackedFile
from sidecar.parsing import EventBuilder, FilePlace, swap_ends, take_lines

_BLOCK_BYTES = 512 * 1024
_SMALLEST_BLOCK = 16 * 1024


class ReadingRules(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what is the same for all files of a tail."""

    builder: EventBuilder
    encoding: str
    max_line: int
    host: str
    skew_ms: Callable[[], int]
    expect: Callable[[], None] = lambda: None
    """Raises Unavailable while events cannot be made yet."""


class NothingRead(msgspec.Struct, frozen=True):
    """Say that there is nothing to make events of; `left` bytes begin a line, or a group, that may go on."""

    left: int


def block_bytes(max_line: int) -> int:
    """Return how much is read at once: so much that there is always a whole line in it, or one that is too long."""
    return max(_BLOCK_BYTES, _whole_units(2 * max_line))


def _whole_units(size: int) -> int:
    """Return at least `size` bytes that end between two characters, in every encoding."""
    return size + -size % 4


def read_block(
    file: TrackedFile, rules: ReadingRules, now_ms: int, final: tuple[bool, bool]
) -> ReadBlock | NothingRead:
    """Return the next events of `file`, which is open; they are in flight then.

    `final`: whether a line without an end, and a group, will not go on. Raises OSError, EOFError (damaged), or Changed.
    """
    size = file.block_bytes or block_bytes(rules.max_line)
    data = file.read(size)
    if not data:
        return NothingRead(0)
    more, start, codec = len(data) == size, file.reached, file.codec(rules.encoding)
    # After a power cut, and where a program has reserved room, NULs may still be written over.
    may_be_whole = file.is_rotated or codec.width > 1 or not data.endswith(b"\0")
    lines = take_lines(
        swap_ends(data, rules.builder.line_end),
        codec,
        max_line=rules.max_line,
        at_start=start.offset == 0,
        inside_line=start.inside_line,
        at_end=final[0] and not more and may_be_whole,
    )
    make = partial(
        rules.builder.make,
        lines,
        FilePlace(
            file.path.encode(errors="surrogateescape").decode(errors="replace"),
            rules.host,
            file.columns(rules.builder.delimited) if rules.builder.delimited is not None else (),
            start.state,
        ),
        offset=start.offset,
        now_ms=now_ms,
        skew_ms=rules.skew_ms(),
    )
    made = make(at_end=final[1] and not more)
    if not made.consumed and more and not file.block_bytes:
        made = make(at_end=True)  # what is open is longer than a block
    if not made.consumed:
        if more and file.block_bytes:
            file.read_by(0 if file.block_bytes * 2 >= block_bytes(rules.max_line) else file.block_bytes * 2)
            return read_block(file, rules, now_ms, final)
        file.remember_beginning(data)
        return NothingRead(len(data))
    file.know_columns(made.columns)
    advance = file.take(data, made.consumed, now_ms, inside_line=lines.inside_line, state=made.state)
    return ReadBlock(file, made.blocks, made.dead, made.size, made.events, advance, made.counts)


def read_less(file: TrackedFile, rules: ReadingRules) -> None:
    """Read smaller blocks of `file` from now on, since there may never be room for such large ones."""
    file.read_by(max(_SMALLEST_BLOCK, _whole_units((file.block_bytes or block_bytes(rules.max_line)) // 2)))
