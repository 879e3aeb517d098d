"""Unwraps what a container runtime writes around the lines of a program, and joins the parts of long ones. Pure.

    cri      2026-11-27T10:00:00.730832241+08:00 stdout P the beginning of a long line,      containerd, CRI-O
             2026-11-27T10:00:00.730908438+08:00 stdout F  and its end
    docker   {"log":"a line\\n","stream":"stdout","time":"2026-11-27T10:00:00.730832241Z"}    json-file

The lines of stdout and stderr stand in one file, in the order in which they came; parts, and groups of lines, are those
of one stream. One that is not whole stays in the file, and so does everything behind its beginning: the checkpoint is
one place, and nothing before it may be missing, nothing behind it sent. So that nothing waits for long, something open
counts as whole

- when a line of any stream is later than it by more than `max_wait_ms`, by the times that the runtime wrote;
- when the file has gone on for `max_bytes` since it began;
- at the end of a file that does not go on.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from sidecar.parsing.finishing import without_escapes
from sidecar.parsing.grouping import Grouping
from sidecar.text.regexes import search_all
from sidecar.text.timestamps import ISO, by_format

ContainerFormat = Literal["cri", "docker"]
_CRI = re.compile(r"(\S+) (stdout|stderr) ([FP])\S*(?: (.*))?", re.DOTALL)
_read_time = by_format(ISO, None)


class _DockerLine(msgspec.Struct):
    log: str
    stream: str = ""
    time: str = ""


_decode_docker = msgspec.json.Decoder(_DockerLine).decode


class ContainerRule(msgspec.Struct, frozen=True, kw_only=True):
    """Say how lines are wrapped, and how long one that is not whole may be, and may wait."""

    format: ContainerFormat
    max_bytes: int
    max_wait_ms: int
    strip_ansi: bool = False


class ContainerLine(msgspec.Struct):
    """A line of the program, or a group of them. `start` and `end` are the bytes of the block that it takes.

    `fields` None: no runtime wrote it. `count`: lines of the file. `is_open`: it may go on.
    """

    text: str
    start: int
    end: int
    fields: Mapping[str, str] | None
    count: int = 1
    is_open: bool = False
    cut: bool = False
    last_time: str = ""  # of its last part

    @property
    def stream(self) -> str:
        """Return the stream of the program; "" if no runtime wrote it."""
        return self.fields["stream"] if self.fields is not None else ""


class Unwrapped(msgspec.Struct, frozen=True):
    """The lines of the programs in the order of their ends; `consumed` bytes of the block are in them.

    `late`: lines for which the pattern of the grouping took too long.
    """

    lines: list[ContainerLine]
    consumed: int
    late: int


def unwrap(
    texts: Sequence[str],
    sizes: Sequence[int],
    cut: frozenset[int],
    rule: ContainerRule,
    grouping: Grouping | None,
    clock: Callable[[], float],
    *,
    at_end: bool,
) -> Unwrapped:
    """Return the whole lines, or groups, of the programs. `sizes` are those in the file; `at_end`: none will follow."""
    parts = _parts(texts, sizes, cut, rule)
    joined = _join(parts, rule)
    late = 0
    if grouping is not None:
        joined, late = _group(joined, grouping, clock)
    if not at_end:
        _close_overdue(joined, parts, rule)
    limit = sum(sizes) if at_end else _limit(joined, sum(sizes))
    done = sorted((line for line in joined if line.end <= limit), key=lambda line: line.end)
    return Unwrapped(done, limit, late)


def _parts(texts: Sequence[str], sizes: Sequence[int], cut: frozenset[int], rule: ContainerRule) -> list[ContainerLine]:
    read = _read_cri if rule.format == "cri" else _read_docker
    found, place = [], 0
    for number, (text, size) in enumerate(zip(texts, sizes, strict=True)):
        inside, fields, is_open = read(text)
        if rule.strip_ansi:  # in JSON they are escaped
            inside = without_escapes(inside)
        line = ContainerLine(inside, place, place + size, fields)
        line.cut = number in cut
        line.is_open = is_open and not line.cut
        line.last_time = fields["time"] if fields is not None else ""
        found.append(line)
        place += size
    return found


def _read_cri(line: str) -> tuple[str, Mapping[str, str] | None, bool]:
    found = _CRI.fullmatch(line)
    if found is None:
        return line, None, False
    time, stream, tag, text = found.groups("")
    return text, {"time": time, "stream": stream}, tag == "P"


def _read_docker(line: str) -> tuple[str, Mapping[str, str] | None, bool]:
    try:
        read = _decode_docker(line)
    except (msgspec.MsgspecError, RecursionError):
        return line, None, False
    text = read.log.removesuffix("\n")
    return text.removesuffix("\r"), {"time": read.time, "stream": read.stream}, text == read.log


def _join(parts: Sequence[ContainerLine], rule: ContainerRule) -> list[ContainerLine]:
    """Join the parts of lines. The last of a stream may stay open."""
    lines: list[ContainerLine] = []
    open_lines: dict[str, ContainerLine] = {}
    for part in parts:
        if part.fields is None:
            lines.append(part)
            continue
        begun = open_lines.pop(part.stream, None)
        if begun is not None and part.end - begun.start > rule.max_bytes:
            begun.is_open, begun.cut, begun = False, True, None
        if begun is None:
            begun = msgspec.structs.replace(part)
            lines.append(begun)
        else:
            _add(begun, part, "")
        if begun.is_open:
            open_lines[part.stream] = begun
    return lines


def _group(
    lines: Sequence[ContainerLine], rule: Grouping, clock: Callable[[], float]
) -> tuple[list[ContainerLine], int]:
    """Join lines that belong together. The last group of a stream stays open."""
    pattern = rule.start or rule.continuation
    assert pattern is not None
    searched = search_all(pattern, [line.text for line in lines], clock)
    groups: list[ContainerLine] = []
    open_groups: dict[str, ContainerLine] = {}
    counts: dict[str, int] = {}
    for line, match in zip(lines, searched.matches, strict=True):
        if line.fields is None:
            groups.append(line)
            continue
        begun = open_groups.get(line.stream)
        begins = bool(match) == (rule.start is not None)
        is_full = begun is not None and (
            counts[line.stream] >= rule.max_lines or line.end - begun.start > rule.max_bytes
        )
        if begun is not None and (begins or is_full):
            begun.is_open, begun = False, None
        if begun is None:
            begun = msgspec.structs.replace(line)
            groups.append(begun)
            open_groups[line.stream], counts[line.stream] = begun, 0
        else:
            _add(begun, line, "\n")
        begun.is_open = True
        counts[line.stream] += 1
        if counts[line.stream] >= rule.max_lines and not line.is_open:
            begun.is_open = False
            del open_groups[line.stream]
    return groups, searched.late


def _add(begun: ContainerLine, more: ContainerLine, between: str) -> None:
    begun.text += between + more.text
    begun.end, begun.count, begun.is_open = more.end, begun.count + more.count, more.is_open
    begun.cut, begun.last_time = begun.cut or more.cut, more.last_time


def _close_overdue(lines: Sequence[ContainerLine], parts: Sequence[ContainerLine], rule: ContainerRule) -> None:
    """Take for whole what would have gone on by now."""
    waiting = [line for line in lines if line.is_open]
    if not waiting:
        return
    newest_ms = _time_ms(next((part.last_time for part in reversed(parts) if part.last_time), ""))
    end = parts[-1].end
    for line in waiting:
        if end - line.start > rule.max_bytes or newest_ms - _time_ms(line.last_time) > rule.max_wait_ms:
            line.is_open = False


def _time_ms(text: str) -> int:
    return _read_time(text, 0) or 0


def _limit(lines: Sequence[ContainerLine], size: int) -> int:
    """Return how far all is whole: the last place inside of no line. `lines` are in the order of their starts."""
    limit = reached = 0
    for line in lines:
        if line.start >= reached:
            limit = line.start
        reached = size + 1 if line.is_open else max(reached, line.end)
    return size if reached <= size else limit
