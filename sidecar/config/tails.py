"""Checks what concerns more than one key of a tail: which fields there are, what goes with what, where events go."""

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping

from sidecar.config.model import Config, Event, Parse, Stream, Tail, TailTest, Timestamp
from sidecar.core.model import METRIC_NAME
from sidecar.text.encodings import codec_of
from sidecar.text.filters import ALWAYS, CONTAINER_FIELDS
from sidecar.text.regexes import Pattern, Replacement, check_replacement
from sidecar.text.templates import Template
from sidecar.text.timestamps import ISO, check_format

_MOST_LINES = 10_000
_FIELD_NAME = re.compile(r"[\w.@-]+")
Problem = tuple[str, str]


def tail_problems(
    tails: Mapping[str, Tail], streams: Mapping[str, Stream], names: Iterable[str], origins: Mapping[str, str]
) -> Iterator[str]:
    """Return every mistake, each with its place. `tails` by full name, such as `tails.app`; `names` of all streams."""
    for name, tail in tails.items():
        given = {key.removeprefix(f"{name}.") for key in origins if key.startswith(f"{name}.")}
        for key, why in _problems(tail, streams.get(f"streams.{tail.stream}"), list(names), given):
            yield f"{origins.get(f'{name}.{key}') or origins[f'{name}.stream']}: {name}.{key}: {why}"


def test_problems(tests: Mapping[str, TailTest], tails: Iterable[str], origins: Mapping[str, str]) -> Iterator[str]:
    """Return the same for the tests of tails."""
    known = list(tails)
    for name, test in tests.items():
        if test.tail not in known:
            yield f"{origins[f'{name}.tail']}: {name}.tail: no tail {test.tail} is configured{_hint(test.tail, known)}"
        if not isinstance(test.events, list) or not all(isinstance(event, dict) for event in test.events):
            yield f"{origins[f'{name}.events']}: {name}.events: expected a list of events, each with its fields"


def _problems(tail: Tail, stream: Stream | None, names: list[str], given: set[str]) -> Iterator[Problem]:
    if not tail.paths:
        yield "paths", "empty, expected at least one path such as /var/log/app/*.log"
    if tail.stream not in names:
        yield "stream", f"no stream {tail.stream} is configured{_hint(tail.stream, names)}"
    yield from _multiline_problems(tail, given)
    yield from _parse_problems(tail.parse, given)
    if tail.event.metrics:
        yield from _metrics_problems(tail.event, stream, given)
    elif stream is not None and stream.kind == "time_series":
        yield "event.metrics", f"missing, stream {tail.stream} is for time series"
    yield from _line_end_problems(tail)
    yield from _mask_problems(tail)
    if tail.throttle.at_most is None and ("throttle.by" in given or "throttle.every" in given):
        yield "throttle.at_most", "missing, expected how many events may pass in the period"
    yield from _timestamp_problems(tail.event.timestamp)
    yield from _unknown_fields(tail)


def _multiline_problems(tail: Tail, given: set[str]) -> Iterator[Problem]:
    if tail.multiline.start is not None and tail.multiline.continuation is not None:
        yield "multiline.continue", "set beside start; keep one of them"
    if tail.multiline.start is None and tail.multiline.continuation is None:
        unused = ["multiline.max_lines"] if tail.parse.container else ["multiline.max_lines", "multiline.flush_after"]
        for key in unused:
            if key in given:
                yield key, "set, but neither start nor continue is, so that every line stands alone"
    elif tail.parse.delimited is not None:
        yield "multiline", f"set beside parse: {tail.parse.format}, in which every line is a row"
    if tail.multiline.max_lines > _MOST_LINES:
        yield "multiline.max_lines", f"expected at most {_MOST_LINES}, got {tail.multiline.max_lines}"


def _line_end_problems(tail: Tail) -> Iterator[Problem]:
    end = tail.line_end
    if end is not None and (len(end) != 1 or not end.isascii() or end == "\n"):
        yield "line_end", f'expected one other ASCII character, such as "\\r" or "\\0", got {end!r}'
    elif end is not None and codec_of(tail.encoding, b"").width > 1:
        yield "line_end", f"set beside encoding: {tail.encoding}, whose lines end as they do"


def _parse_problems(parse: Parse, given: set[str]) -> Iterator[Problem]:
    if parse.regex is not None and "parse.format" in given:
        yield "parse.format", "set beside regex; keep one of them"
    then = next((key for key in ("parse.then.format", "parse.then.regex") if key in given), None)
    if then is not None and parse.container is None:
        yield then, "only for what is inside of format: cri or docker"
    elif parse.then.regex is not None and "parse.then.format" in given:
        yield "parse.then.format", "set beside regex; keep one of them"
    for key in ("parse.delimiter", "parse.columns"):
        if key in given and parse.format != "csv":
            yield key, "only for format: csv"
    if len(parse.delimiter) != 1 or parse.delimiter in '"\n\r':
        yield "parse.delimiter", f"expected one character, got {parse.delimiter}"
    if parse.each is not None and parse.fields != "json":
        yield "parse.each", "only for format: json, or then: json"
    if parse.path is not None and not parse.path.groups:
        yield "parse.path", "expected named groups such as (?P<pod>[^_]+), which are the fields"


def _mask_problems(tail: Tail) -> Iterator[Problem]:
    known = ["content", "name", "target", *tail.event.dimension]
    for number, mask in enumerate(tail.mask):
        if mask.field is not None and mask.field not in known:
            yield f"mask[{number}].field", f"expected one of {', '.join(known)}, got {mask.field}"
        try:
            check_replacement(Replacement(mask.pattern, mask.replacement))
        except ValueError as error:
            yield f"mask[{number}].with", f"expected {error}"


def _metrics_problems(event: Event, stream: Stream | None, given: set[str]) -> Iterator[Problem]:
    if stream is not None and stream.kind == "event":
        yield "event.metrics", "the stream is for events; expected name and content, or a stream for time series"
    for key in ("event.name", "event.content"):
        if key in given:
            yield key, "set beside metrics; a time series has none"
    if "dedupe" in given:
        yield "dedupe", "set beside metrics; equal items of a time series are still items"
    if "unparsed" in given:
        yield "unparsed", "set beside metrics; a line without numbers is no item of a time series, and always left out"
    for name, template in event.metrics.items():
        if not template.fields and not _is_number(template.text):
            hint = f"; did you mean {{{template.text}}}?" if _FIELD_NAME.fullmatch(template.text) else ""
            yield f"event.metrics.{name}", f"expected {{FIELD}}, or a number, got {template.text}{hint}"
    for part, names in (("metrics", event.metrics), ("dimension", event.dimension)):
        for name in names:
            if not METRIC_NAME.fullmatch(name):
                yield (
                    f"event.{part}.{name}",
                    "expected a name of letters, digits and _ that does not begin with a digit",
                )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _timestamp_problems(rule: Timestamp) -> Iterator[Problem]:
    if not rule.field:
        if rule.format or rule.unit is not None:
            yield "event.timestamp.field", "missing, expected the field that says when it was"
        return
    if bool(rule.format) == (rule.unit is not None):
        yield "event.timestamp", "expected either format, such as %Y-%m-%d %H:%M:%S,%f, or unit: s, ms, us or ns"
    for form in rule.format:
        if form == ISO:
            continue
        if "%" not in form:
            yield "event.timestamp.format", f"expected a format as for strptime, such as %Y-%m-%d, got {form}"
            continue
        try:
            check_format(form)
        except ValueError as error:
            yield "event.timestamp.format", f"expected a format as for strptime, or iso8601: {error}"


def _unknown_fields(tail: Tail) -> Iterator[Problem]:
    """Find fields that cannot be: with a pattern, or without parsing, it is known which fields there are."""
    rule = tail.parse.fields
    if isinstance(rule, Pattern):
        known = [*rule.groups, *ALWAYS]
    elif tail.parse.delimited is not None and not tail.parse.columns:
        return
    elif rule == "raw":
        known = ["message", *tail.parse.columns, *ALWAYS]
    else:
        return
    if tail.parse.container is not None:
        known += [name for name in CONTAINER_FIELDS if name not in known]
    if tail.parse.path is not None:
        known += tail.parse.path.groups
    for key, field in _fields(tail):
        if field not in known:
            yield key, f"{{{field}}}: there is no such field; there are: {', '.join(known)}"


def _fields(tail: Tail) -> Iterator[tuple[str, str]]:
    event = tail.event
    templates: dict[str, Template | None] = {
        "event.name": event.name,
        "event.content": event.content,
        "event.target": event.target,
        **{f"event.dimension.{name}": template for name, template in event.dimension.items()},
        **{f"event.metrics.{name}": template for name, template in event.metrics.items()},
    }
    for key, template in templates.items():
        for field in template.fields if template is not None else ():
            yield key, field
    for field in tail.throttle.by.fields if tail.throttle.by is not None else ():
        yield "throttle.by", field
    for field in tail.map:
        yield f"map.{field}", field
    for part, wanted in (("where", tail.where), ("where_not", tail.where_not)):
        for field in wanted:
            yield f"{part}.{field}", field
    for field in event.timestamp.field:
        yield "event.timestamp.field", field


def tail_warnings(config: Config) -> Iterator[str]:
    """Yield what is no mistake of form, and yet hardly meant: values that the field's own group can never hold."""
    for name, tail in config.tails.items():
        rule = tail.parse.fields
        if not isinstance(rule, Pattern):
            continue
        for part, conditions in (("where", tail.where), ("where_not", tail.where_not)):
            for field, condition in conditions.items():
                for value in condition.one_of:
                    if not rule.may_hold(field, value):
                        yield (
                            f"tails.{name}.{part}.{field}: {value} can never match, since parse.regex finds nothing"
                            " like it there; for more than one text use {matches: ...}, {in: 500..599}, {contains: ...}"
                        )


def _hint(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are: {', '.join(known) or 'none'}"
