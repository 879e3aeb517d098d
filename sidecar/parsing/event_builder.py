"""Makes blocks of events from the lines of a file, for one tail: as a block where that is possible, else one by one."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from sidecar.core.model import Block, Kind
from sidecar.parsing.careful import EventSpec, LineCounts, LineParser, LineRecord
from sidecar.parsing.containers import unwrap
from sidecar.parsing.delimited import COMMENT, Columns, DelimitedRule, read_rows
from sidecar.parsing.finishing import FinishRule, without_escapes
from sidecar.parsing.grouping import Grouping, group_lines
from sidecar.parsing.lines import Lines, first_lines
from sidecar.parsing.plain import EventTemplate, frame_lines, frame_of
from sidecar.report import cut
from sidecar.text.growth import string_growth
from sidecar.text.regexes import search_all
from sidecar.text.templates import Template

_BLANK = re.compile(r"\n\n+")
_SAME_FOR_ALL = {"path", "host"}
_WHOLE_LINE = ("line", "message")


class FilePlace(msgspec.Struct, frozen=True):
    """The file that lines are from, as people call it, and the host it is on.

    `columns`: as the file itself has named them before these lines; `state`: what the lines before left behind.
    """

    path: str
    host: str
    columns: Columns = ()
    state: bytes = b""


class Built(msgspec.Struct, frozen=True):
    """The result of building events. `consumed`: bytes of the file that it covers; the rest is in an open group.

    `columns`: as the file has named them behind these lines; `state`: what these lines leave behind for the next.
    """

    blocks: list[Block]
    dead: list[tuple[bytes, str]]
    consumed: int
    counts: LineCounts
    columns: Columns = ()
    state: bytes = b""

    @property
    def events(self) -> int:
        """Return the events in all blocks."""
        return sum([block.events for block in self.blocks])

    @property
    def size(self) -> int:
        """Return the bytes on their way to the queue."""
        return sum([len(block.body) for block in self.blocks]) + sum([len(body) for body, _ in self.dead])


class EventBuilder:
    """Makes events of one tail's lines. `cpu_clock`: seconds for which this thread had a processor."""

    def __init__(
        self,
        shape: EventSpec,
        grouping: Grouping | None,
        *,
        block_bytes: int,
        event_bytes: int,
        cpu_clock: Callable[[], float],
    ) -> None:
        self._shape, self._grouping, self._cpu_clock = shape, grouping, cpu_clock
        self._block_bytes, self._event_bytes = block_bytes, event_bytes
        self._careful = LineParser(shape, event_bytes, cpu_clock)
        self._plain = grouping is None and _is_plain(shape)

    @property
    def line_end(self) -> str | None:
        """Return the character that ends a line; None: the usual one."""
        return self._shape.line_end

    @property
    def kind(self) -> Kind:
        """Return what the lines become."""
        return self._shape.kind

    def make(
        self, lines: Lines, place: FilePlace, *, offset: int, now_ms: int, skew_ms: int = 0, at_end: bool = False
    ) -> Built:
        """Return the events of `lines`, which begin at `offset` of the file; `at_end`: no line will follow."""
        counts = LineCounts(replaced=lines.replaced, nul_bytes=lines.nuls)
        at_end = at_end or lines.inside_line
        if self._shape.finish.strip_ansi:
            lines = msgspec.structs.replace(lines, text=without_escapes(lines.text))
        if self._plain and not lines.cut:
            blocks = self._at_once(lines, place, now_ms)
            if blocks is not None:
                counts.blank = lines.count - sum([block.events for block in blocks])
                return Built(blocks, [], lines.consumed, counts)
        columns: Columns = ()
        if self._shape.delimited is not None:
            records, consumed, columns = self._rows(lines, offset, place.columns, self._shape.delimited, counts)
        else:
            split = self._records if self._shape.container is None else self._container_records
            records, consumed = split(lines, offset, counts, at_end=at_end)
        made = self._careful.make(
            records,
            known=self._known(place),
            state=place.state,
            now_ms=now_ms,
            skew_ms=skew_ms,
            counts=counts,
            at_end=at_end,
        )
        if made.open_at is not None:  # what is before it is counted, and leaves, without what is left
            before = first_lines(lines, _hold(records, made.open_at) - offset)
            return self.make(before, place, offset=offset, now_ms=now_ms, skew_ms=skew_ms, at_end=True)
        blocks = [block for due, items in made.good.items() for block in cut(items, self._block_bytes, due)]
        if self.kind == "event":  # all that is in them are strings, and a timestamp
            blocks = [msgspec.structs.replace(block, growth=string_growth(block.body)) for block in blocks]
        return Built(blocks, made.dead, consumed, counts, columns, made.state)

    def _at_once(self, lines: Lines, place: FilePlace, now_ms: int) -> list[Block] | None:
        frame, text = self._frame(place, now_ms), lines.text
        blocks = frame_lines(text, frame, self._block_bytes)
        if blocks is None:
            blocks = frame_lines(_BLANK.sub("\n", text).lstrip("\n"), frame, self._block_bytes)
        too_large = blocks is None or any(len(block.body) > self._event_bytes for block in blocks)
        return None if too_large else blocks

    def _known(self, place: FilePlace) -> dict[str, Any]:
        """Return the fields that are the same for all lines of a file."""
        known = {"path": place.path, "host": place.host}
        if self._shape.path is not None:
            found = search_all(self._shape.path, (place.path,), self._cpu_clock).matches[0]
            known = (found.groupdict("") if found else dict.fromkeys(self._shape.path.groups, "")) | known
        return known

    def _frame(self, place: FilePlace, now_ms: int) -> EventTemplate:
        fields, shape = self._known(place), self._shape
        return frame_of(
            {
                "event_name": shape.name.renderer()(fields),
                "target": shape.target.renderer()(fields) or shape.own_target,
                "event": {"content": ""},
                "dimension": {name: template.renderer()(fields) for name, template in shape.dimension.items()},
                "timestamp": now_ms,
            }
        )

    def _texts(self, lines: Lines) -> list[str]:
        texts, end = lines.text.split("\n")[:-1], self._shape.line_end
        return texts if end is None else [text.replace(end, "\n") for text in texts]

    def _records(self, lines: Lines, offset: int, counts: LineCounts, *, at_end: bool) -> tuple[list[LineRecord], int]:
        texts = self._texts(lines)
        sizes = lines.sizes()
        if self._grouping is None:
            groups = [1] * len(texts)
        else:
            grouped = group_lines(texts, sizes, self._grouping, self._cpu_clock, at_end=at_end)
            counts.too_late(grouped.late, "multiline.start" if self._grouping.start else "multiline.continue")
            groups = grouped.counts
        records = []
        start, place = 0, offset + lines.skipped
        for count in groups:
            text = "\n".join(texts[start : start + count]).strip("\n")
            if text:
                records.append(
                    LineRecord(text, place, any(number in lines.cut for number in range(start, start + count)))
                )
            else:
                counts.blank += count
            place += sum(sizes[start : start + count])
            start += count
        # An open group stays in the file: the checkpoint stops before it, so a crash loses none of its lines.
        return records, place - offset if start < len(texts) else lines.consumed

    def _container_records(
        self, lines: Lines, offset: int, counts: LineCounts, *, at_end: bool
    ) -> tuple[list[LineRecord], int]:
        assert self._shape.container is not None
        texts = self._texts(lines)
        found = unwrap(
            texts, lines.sizes(), lines.cut, self._shape.container, self._grouping, self._cpu_clock, at_end=at_end
        )
        if self._grouping is not None:
            counts.too_late(found.late, "multiline.start" if self._grouping.start else "multiline.continue")
        records = []
        for line in found.lines:
            if text := line.text.strip("\n"):
                place = offset + lines.skipped + line.start
                records.append(LineRecord(text, place, line.cut, line.fields, is_foreign=line.fields is None))
            else:
                counts.blank += line.count
        whole = found.consumed == sum(lines.sizes())
        return records, lines.consumed if whole else lines.skipped + found.consumed

    def _rows(
        self, lines: Lines, offset: int, columns: Columns, rule: DelimitedRule, counts: LineCounts
    ) -> tuple[list[LineRecord], int, Columns]:
        texts = self._texts(lines)
        table = read_rows(texts, rule, columns, at_start=offset == 0)
        records, place = [], offset + lines.skipped
        for number, (text, row, size) in enumerate(zip(texts, table.found, lines.sizes(), strict=True)):
            if not text or row is COMMENT:
                counts.blank += 1
            else:
                records.append(LineRecord(text, place, number in lines.cut, row, is_foreign=row is None))
            place += size
        return records, lines.consumed, table.columns

    @property
    def delimited(self) -> DelimitedRule | None:
        """Return how lines are split into columns that the file names; None: they are not."""
        return self._shape.delimited


def _hold(records: Sequence[LineRecord], number: int) -> int:
    """Return where in the file that begins which is left, if the record with this number and all behind it are.

    Of containers they stand in the order of their ends: what lies behind that place is left, too.
    """
    hold = min(record.offset for record in records[number:])
    while (first := next((at for at, one in enumerate(records[:number]) if one.offset > hold), None)) is not None:
        number = first
        hold = min(record.offset for record in records[number:])
    return hold


def _is_plain(shape: EventSpec) -> bool:
    """Return whether events differ in nothing but their content, which is the line."""
    content = shape.content is None or shape.content.parts in [("", name, "") for name in _WHOLE_LINE]
    same_for_all = _SAME_FOR_ALL.union(shape.path.groups if shape.path is not None else ())
    same = all(same_for_all.issuperset(template.fields) for template in _templates(shape))
    filtered = shape.where or shape.where_not
    return (
        shape.parse == "raw"
        and shape.container is None
        and shape.delimited is None
        and content
        and same
        and not filtered
        and shape.clock is None
        and not shape.metrics
        and shape.finish == FinishRule(strip_ansi=shape.finish.strip_ansi)
        and shape.line_end is None
        and shape.sample is None
        and shape.throttle is None
        and shape.repeats is None
    )


def _templates(shape: EventSpec) -> Iterator[Template]:
    yield from (shape.name, shape.target, *shape.dimension.values())
