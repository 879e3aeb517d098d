"""Lines as events one by one: fields are found, lines chosen by them, templates filled in, times read.

A line that does not parse goes as the tail says: as an event with the whole line as its content, not at all, or as a
dead letter.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal
from zlib import crc32

import msgspec

from sidecar.core.future_window import due_ms, latest_ms
from sidecar.core.model import Kind
from sidecar.parsing.containers import ContainerRule
from sidecar.parsing.delimited import DelimitedRule
from sidecar.parsing.finishing import Finish, FinishRule, finisher
from sidecar.parsing.parsers import ELEMENTS, Fields, Format, parse_lines
from sidecar.parsing.repeats import ROOM_BYTES, RepeatRule, Repeats
from sidecar.parsing.throttle import Throttle, ThrottleRule
from sidecar.text.filters import ALWAYS, Condition, Filter, passes
from sidecar.text.regexes import Pattern
from sidecar.text.templates import Template, field_text, field_value, parse_template
from sidecar.text.timestamps import ISO, Clock, by_format

_encode = msgspec.json.Encoder().encode
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?\s*", re.ASCII)
_INTEGER = re.compile(r"\s*[+-]?\d{1,18}\s*", re.ASCII)
_WITH_UNIT = re.compile(
    r"\s*([+-]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][+-]?\d{1,3})?)\s*(?:%|[^\W\d_]{1,12}(?:/[^\W\d_]{1,12})?)?\s*"
)
_LARGEST = 1e300
_CONTAINER_CLOCK = by_format(ISO, None)
Wanted = Mapping[str, Condition]
Render = Callable[[Mapping[str, Any]], str]


class EventSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The rules that make an event of a line, with all templates of the tail. `content` None: the whole line."""

    kind: Kind
    parse: Format | Pattern
    container: ContainerRule | None
    delimited: DelimitedRule | None
    path: Pattern | None
    where: Wanted
    where_not: Wanted
    unparsed: Literal["raw", "drop", "dead"]
    name: Template
    own_name: str
    target: Template
    own_target: str
    content: Template | None
    dimension: Mapping[str, Template]
    metrics: Mapping[str, Template]
    units: bool
    time_fields: Sequence[str]
    clock: Clock | None
    max_ahead_ms: int
    finish: FinishRule
    maps: Mapping[str, Mapping[str, str]]
    each: str | None
    sample: float | None
    throttle: ThrottleRule | None
    repeats: RepeatRule | None
    line_end: str | None


class LineCounts(msgspec.Struct):
    """Lines that became no event, or not quite the one they were to be, by what happened to them.

    `late_in` are the keys of the patterns that took too long. `nul_bytes` were passed over before lines.
    `not_numbers` are metrics that were left out of items of time series. `sampled` were left out by
    chance, `throttled` since there were too many, `repeated` became one event with others.
    """

    filtered: int = 0
    unparsed: int = 0
    dropped: int = 0
    untimed: int = 0
    cut: int = 0
    replaced: int = 0
    late: int = 0
    late_in: frozenset[str] = frozenset()
    blank: int = 0
    nul_bytes: int = 0
    not_numbers: int = 0
    sampled: int = 0
    throttled: int = 0
    repeated: int = 0

    def too_late(self, lines: int, key: str) -> None:
        """Count that the pattern of `key` took too long for so many lines."""
        if lines:
            self.late += lines
            self.late_in |= {key}


class LineRecord(msgspec.Struct, frozen=True):
    """A line, or a group of them. `offset` is where it begins in the file.

    `fields` are those that are known before it is parsed. `is_foreign`: it is not such a line as all should be.
    """

    text: str
    offset: int
    cut: bool = False
    fields: Mapping[str, str] | None = None
    is_foreign: bool = False


class Made(msgspec.Struct, frozen=True):
    """Events as JSON, by when they are due (None: now), and what is dead, with the reason.

    `open_at`: the number of the record from which on equal events may go on. `state`: for what follows.
    """

    good: dict[int | None, list[bytes]]
    dead: list[tuple[bytes, str]]
    open_at: int | None
    state: bytes


Found = tuple[int, LineRecord, Fields | None]
"""A record with its number, and the fields that were found in it; None: it does not parse."""


class LineParser:
    """Makes events as `shape` says. `event_bytes` is the most that one may have."""

    def __init__(self, shape: EventSpec, event_bytes: int, cpu_clock: Callable[[], float]) -> None:
        self._shape, self._cpu_clock = shape, cpu_clock
        self._event_bytes = event_bytes if shape.repeats is None else event_bytes - ROOM_BYTES
        by = shape.throttle.by if shape.throttle is not None else None
        self._throttle_key = by.renderer() if by is not None else None
        self._name, self._target = shape.name.renderer(), shape.target.renderer()
        self._content = shape.content.renderer() if shape.content is not None else None
        self._dimension = [(name, template.renderer()) for name, template in shape.dimension.items()]
        self._metrics = [(name, template.renderer()) for name, template in shape.metrics.items()]
        self._time_text = parse_template(" ".join(f"{{{name}}}" for name in shape.time_fields)).renderer()
        known = {*ALWAYS, *(shape.path.groups if shape.path is not None else ())}
        self._raw_dimension = [pair for pair in self._dimension if known.issuperset(shape.dimension[pair[0]].fields)]
        self._filters = [*(Filter(name, condition, True) for name, condition in shape.where.items()),
                         *(Filter(name, condition, False) for name, condition in shape.where_not.items())]  # fmt: skip
        self._is_timed = shape.clock is not None or shape.container is not None
        self._may_expand = shape.parse == "json" or shape.container is not None or shape.delimited is not None
        self._asks_for_known = any(each.name in known for each in self._filters)

    def make(
        self,
        records: Sequence[LineRecord],
        *,
        known: Mapping[str, Any],
        state: bytes,
        now_ms: int,
        skew_ms: int,
        counts: LineCounts,
        at_end: bool,
    ) -> Made:
        """Return the events of `records`. `known`: fields that are the same for all; `state`: of what was before."""
        shape = self._shape
        parsed = parse_lines([record.text for record in records], shape.parse, self._cpu_clock)
        counts.too_late(parsed.late, "parse.regex")
        latest = latest_ms(now_ms + skew_ms)
        good: dict[int | None, list[bytes]] = {None: []}
        dead: list[tuple[bytes, str]] = []
        finish = finisher(shape.finish, self._cpu_clock, counts.too_late)
        throttle = Throttle(shape.throttle, state) if shape.throttle is not None else None
        repeats = Repeats(shape.repeats, good) if shape.repeats is not None else None
        for number, record, fields in self._found(records, parsed.fields, known, counts):
            all_fields = {"line": record.text, "offset": record.offset, **known}
            stamp_ms = now_ms
            if fields is not None:
                all_fields.update(fields)
                if shape.maps:
                    self._map(all_fields)
                if self._is_timed:
                    stamp_ms = self._stamp(record, all_fields, now_ms, counts)
            if throttle is not None and not self._admits(throttle, fields, all_fields, stamp_ms):
                counts.throttled += 1
                continue
            item = self._item(record, fields, all_fields, stamp_ms if repeats is None else 0, counts, finish)
            if item is None:
                self._unparsed(record, all_fields, stamp_ms, dead, counts, finish)
                continue
            # What the proxy would refuse today may not share a block with the rest.
            due = due_ms(stamp_ms) if stamp_ms > latest else None
            if repeats is None:
                good.setdefault(due, []).append(item)
            else:
                repeats.add(number, record.offset, item, stamp_ms, due)
        open_at = None
        if repeats is not None:
            open_at = repeats.end(at_end=at_end)
            counts.repeated += repeats.joined
        return Made(good, dead, open_at, throttle.state() if throttle is not None else b"")

    def _found(
        self,
        records: Sequence[LineRecord],
        fields: Sequence[Fields | None],
        known: Mapping[str, Any],
        counts: LineCounts,
    ) -> Iterator[Found]:
        """Return what is to become events; what a tail does not ask for costs nothing."""
        found: Iterator[Found] = zip(itertools.count(), records, fields, strict=False)
        if self._may_expand:
            found = self._expanded(found, counts)
        if self._filters or self._shape.sample is not None:
            found = self._chosen(found, known, counts)
        return found

    def _expanded(self, found: Iterator[Found], counts: LineCounts) -> Iterator[Found]:
        """Yield each record with all of its fields, and one that holds several events once for each."""
        each = self._shape.each
        for number, record, fields in found:
            if record.is_foreign or fields is None:
                yield number, record, None
                continue
            if record.fields is not None:
                fields = {**record.fields, "message": record.text, **fields}
            parts = fields.get(ELEMENTS) if each is None else field_value(fields, each)
            if type(parts) is not list:
                yield number, record, None if ELEMENTS in fields else fields
            elif not all(type(part) is dict for part in parts):
                yield number, record, None
            else:
                counts.blank += not parts
                yield from ((number, record, {**fields, **part}) for part in parts)

    def _chosen(self, found: Iterator[Found], known: Mapping[str, Any], counts: LineCounts) -> Iterator[Found]:
        """Yield what passes the filters, and is one of the sample."""
        share = self._shape.sample
        for number, record, fields in found:
            if fields is not None and self._filters and not self._passes(fields, record, known, counts):
                counts.filtered += 1
            elif share is not None and not _is_chosen(known["path"], record.offset, share):
                counts.sampled += 1
            else:
                yield number, record, fields

    def _map(self, fields: Fields) -> None:
        for name, texts in self._shape.maps.items():
            text = field_text(fields, name)
            fields[name] = texts.get(text, text)

    def _stamp(self, record: LineRecord, fields: Fields, now_ms: int, counts: LineCounts) -> int:
        if self._shape.clock is not None:
            return self._time(self._shape.clock, self._time_text(fields), now_ms, counts)
        if record.fields is not None and self._shape.container is not None:
            return self._time(_CONTAINER_CLOCK, record.fields["time"], now_ms, counts)
        return now_ms

    def _admits(self, throttle: Throttle, fields: Fields | None, all_fields: Fields, stamp_ms: int) -> bool:
        """Count what becomes an event. What does not is nobody's burden."""
        if fields is None and self._shape.unparsed != "raw":
            return True
        return throttle.admits(self._throttle_key(all_fields) if self._throttle_key is not None else "", stamp_ms)

    def _passes(self, fields: Fields, record: LineRecord, known: Mapping[str, Any], counts: LineCounts) -> bool:
        subject: Mapping[str, Any] = fields
        if self._asks_for_known:
            subject = {"line": record.text, "offset": record.offset, **known, **fields}
        return passes(subject, self._filters, self._cpu_clock, counts.too_late)

    def _item(
        self,
        record: LineRecord,
        fields: Fields | None,
        all_fields: Fields,
        stamp_ms: int,
        counts: LineCounts,
        finish: Finish | None,
    ) -> bytes | None:
        if self._metrics:
            if fields is None:
                return None
            return self._series_item(all_fields, stamp_ms, counts, finish, cut=record.cut)
        if fields is None:
            if self._shape.unparsed != "raw":
                return None
            counts.unparsed += 1
            return self._event(record.text, None, all_fields, stamp_ms, counts, finish, cut=record.cut)
        content = self._content(all_fields) if self._content is not None else record.text
        return self._event(content, self._name(all_fields), all_fields, stamp_ms, counts, finish, cut=record.cut)

    def _event(
        self,
        content: str,
        name: str | None,
        fields: Fields,
        stamp_ms: int,
        counts: LineCounts,
        finish: Finish | None,
        *,
        cut: bool,
    ) -> bytes:
        """Return an event as JSON; `name` None: its line did not parse, so only what every line has is filled in."""
        wanted = self._raw_dimension if name is None else self._dimension
        dimension = {key: render(fields) for key, render in wanted}
        target = self._target(fields)
        if finish is not None:
            content, target = finish("content", content, cut), finish("target", target, cut)
            name = name and finish("name", name, cut)
            dimension = {key: finish(key, text, cut) for key, text in dimension.items()}
        event = {
            "event_name": name or self._shape.own_name,
            "target": target or self._shape.own_target,
            "event": {"content": content},
            "dimension": dimension | {"truncated": "true"} if cut else dimension,
            "timestamp": stamp_ms,
        }
        encoded = _encode(event)
        counts.cut += cut or len(encoded) > self._event_bytes
        return encoded if len(encoded) <= self._event_bytes else _shortened(event, len(encoded), self._event_bytes)

    def _series_item(
        self, fields: Fields, stamp_ms: int, counts: LineCounts, finish: Finish | None, *, cut: bool
    ) -> bytes | None:
        """Make a time-series item of the metrics that are numbers; None if there are none."""
        metrics: dict[str, float] = {}
        for name, render in self._metrics:
            text = render(fields)
            if not text:
                continue
            number = _number(_without_unit(text) if self._shape.units else text)
            if number is None:
                counts.not_numbers += 1
            else:
                metrics[name] = number
        if not metrics:
            return None
        dimension, target = {name: render(fields) for name, render in self._dimension}, self._target(fields)
        if finish is not None:
            target = finish("target", target, cut)
            dimension = {name: finish(name, text, cut) for name, text in dimension.items()}
        item = {
            "metrics": metrics,
            "target": target or self._shape.own_target,
            "dimension": dimension,
            "timestamp": stamp_ms,
        }
        encoded = _encode(item)
        return encoded if len(encoded) <= self._event_bytes else None

    def _unparsed(
        self,
        record: LineRecord,
        fields: Fields,
        stamp_ms: int,
        dead: list[tuple[bytes, str]],
        counts: LineCounts,
        finish: Finish | None,
    ) -> None:
        counts.unparsed += 1
        if self._shape.unparsed == "dead":
            event = self._event(record.text, None, fields, stamp_ms, counts, finish, cut=record.cut)
            dead.append((event, "the line does not parse"))
        else:
            counts.dropped += 1

    def _time(self, clock: Clock, text: str, now_ms: int, counts: LineCounts) -> int:
        """Return when it happened; the time of reading if the line does not say, or says what cannot be."""
        found = clock(text, now_ms)
        if found is None or found > latest_ms(now_ms + self._shape.max_ahead_ms):
            counts.untimed += 1
            return now_ms
        return found


def _is_chosen(path: str, offset: int, share: float) -> bool:
    """Return whether a line is one of a sample: always the same lines, however often they are read."""
    return crc32(f"{path}:{offset}".encode()) < share * 2**32


def _without_unit(text: str) -> str:
    """Return the number of `3ms`, `12 %` or `1,234` without its unit and its commas; else the text as it is."""
    found = _WITH_UNIT.fullmatch(text)
    return found[1].replace(",", "") if found else text


def _number(text: str) -> float | None:
    if _INTEGER.fullmatch(text):
        return int(text)
    number = float(text) if _NUMBER.fullmatch(text) else None
    return number if number is not None and abs(number) <= _LARGEST else None


def _shortened(event: dict[str, Any], size: int, limit: int) -> bytes:
    """Return the event with its content, or if need be its dimensions, cut until it fits."""
    event = event | {"dimension": event["dimension"] | {"truncated": "true"}}
    while size > limit:
        content = event["event"]["content"]
        if content:
            # Escapes make JSON longer than the text: at least a tenth goes at a time, so that it ends soon.
            event["event"] = {"content": content[: int(len(content) * min(0.9, limit / size))]}
        else:
            half = {name: value[: len(value) // 2] for name, value in event["dimension"].items()}
            event["dimension"] = half | {"truncated": "true"}
            event["event_name"] = event["event_name"][:1024]
            event["target"] = event["target"][:1024]
        encoded = _encode(event)
        size = len(encoded)
    return encoded
