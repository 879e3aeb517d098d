"""Tails and their tests in the configuration: what is right, and every mistake with its place."""

from pathlib import Path
from typing import Any

import pytest

from sidecar.config import Config, Options, load_config
from sidecar.config.show import effective
from sidecar.config.tails import tail_warnings
from sidecar.core.errors import ConfigError
from sidecar.text.filters import Span

HEAD = """proxy: {urls: [http://10.0.0.1:10205]}
streams:
  app: {data_id: 1, access_token: t}
  events: {data_id: 2, access_token: t, kind: event}
  load: {data_id: 3, access_token: t, kind: time_series}
tails:
  a:
"""
GOOD = "    paths: [/var/log/a.log]\n    stream: app\n"


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "c.yml"
    path.write_text(HEAD + text)
    return load_config(Options(config=path, state=tmp_path), {"HOST_IP": "10.0.0.9"}).config


def test_short_forms(tmp_path: Path) -> None:
    tail = load(tmp_path, GOOD + "    parse: json\n    where: {code: 500, ok: true, none: null}\n").tails["a"]
    assert tail.parse.format == "json"
    assert {name: condition.one_of for name, condition in tail.where.items()} == {
        "code": ("500",), "ok": ("true",), "none": ("",),
    }  # fmt: skip
    assert tail.unparsed == "raw"
    assert str(tail.event.dimension["file"]) == "{path}"


def test_what_is_in_force_can_be_shown(tmp_path: Path) -> None:
    path = tmp_path / "c.yml"
    path.write_text(HEAD + GOOD + "    multiline: {continue: '^ '}\n    event: {dimension: {a: '{line}'}}\n")
    rows = effective(load_config(Options(config=path, state=tmp_path), {}))
    shown = {row.key: (row.value, row.origin) for row in rows if row.key.startswith("tails.")}
    assert shown["tails.a.multiline.continue"] == ("^ ", f"{path}:10")
    assert shown["tails.a.event.dimension.a"] == ("{line}", f"{path}:11")
    assert shown["tails.a.max_line"] == ("262,144 bytes", "default")
    assert shown["tails.a.start_at"] == ("end", "default")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("    stream: app\n", "tails.a.paths: missing"),
        ("    paths: []\n    stream: app\n", ":8: tails.a.paths: empty, expected at least one path"),
        ("    paths: [var/log]\n    stream: app\n", ":8: tails.a.paths[0]: expected an absolute path such as"),
        ("    paths: ['/x/[z-a]*']\n    stream: app\n", "tails.a.paths[0]: expected a pattern such as *.gz"),
        (GOOD + "    exclude: ['[z-a]']\n", "tails.a.exclude[0]: expected a pattern such as *.gz"),
        ("    paths: [/x]\n    stream: ap\n", ":9: tails.a.stream: no stream ap is configured; did you mean app?"),
        (GOOD + "    encoding: utf-7\n", ":10: tails.a.encoding: expected an encoding such as utf-8, utf-16, gb18030"),
        (GOOD + "    encoding: undefined\n", "tails.a.encoding: expected an encoding such as"),
        (GOOD + "    max_line: 8MB\n", "tails.a.max_line: expected a size from 64 bytes to 1MiB, got 8MB"),
        (GOOD + "    parse: xml\n", "tails.a.parse.format: expected raw, json, logfmt, cri, docker, csv, w3c, zeek"),
        (GOOD + "    parse: {columns: [a]}\n", "tails.a.parse.columns: only for format: csv"),
        (GOOD + "    parse: {format: csv, delimiter: ab}\n", "parse.delimiter: expected one character, got ab"),
        (GOOD + "    parse: csv\n    multiline: {start: x}\n", "in which every line is a row"),
        (GOOD + "    parse: {then: json}\n", "tails.a.parse.then.format: only for what is inside of format: cri or"),
        (GOOD + "    parse: {format: cri, then: {regex: x, format: json}}\n", "parse.then.format: set beside regex"),
        (GOOD + "    parse: {each: a}\n", "tails.a.parse.each: only for format: json"),
        (GOOD + "    mask: [{field: line, pattern: x}]\n", "mask[0].field: expected one of content, name, target"),
        (GOOD + "    mask: [{pattern: '(x', with: y}]\n", "mask[0].pattern: expected a regular expression"),
        (GOOD + "    mask: [{pattern: '(x)', with: '\\2'}]\n", "mask[0].with: expected text in which"),
        (GOOD + "    mask: [{with: x}]\n", "mask[0].pattern: missing"),
        (GOOD + "    line_end: ab\n", "tails.a.line_end: expected one other ASCII character"),
        (GOOD + '    line_end: "\\r"\n    encoding: utf-16\n', "tails.a.line_end: set beside encoding"),
        (GOOD + "    dedupe: 1s\n    event: {metrics: {x: '{line}'}}\n", "tails.a.dedupe: set beside metrics"),
        (GOOD + "    throttle: {every: 1s}\n", "tails.a.throttle.at_most: missing"),
        (GOOD + "    map: {level: {a: b}}\n", "map.level: {level}: there is no such field"),
        (GOOD + "    sample: 0%\n", "tails.a.sample: expected a percentage above 0%"),
        (GOOD + "    parse: {path: /var/log}\n", "tails.a.parse.path: expected named groups such as"),
        (GOOD + "    parse: {regex: '(?P<a>x'}\n", "tails.a.parse.regex: expected a regular expression: missing )"),
        (GOOD + f"    parse: {{regex: '{'(' * 3000}'}}\n", "tails.a.parse.regex: expected a regular expression"),
        (GOOD + "    parse: {regex: x, format: json}\n", "tails.a.parse.format: set beside regex; keep one of them"),
        (GOOD + "    multiline: {start: x, continue: y}\n", "tails.a.multiline.continue: set beside start; keep one"),
        (GOOD + "    multiline: {start: x, max_lines: 50000}\n", "multiline.max_lines: expected at most 10000"),
        (GOOD + "    event: {name: 'app_{level}'}\n", "event.name: {level}: there is no such field"),
        (GOOD + "    where: {level: [ERROR]}\n", "tails.a.where.level: {level}: there is no such field"),
        (GOOD + "    event: {name: 'app_{'}\n", "event.name: expected text in which {FIELD} stands"),
        (GOOD + "    event: {timestamp: {unit: s}}\n", "tails.a.event.timestamp.field: missing"),
        (GOOD + "    event: {timestamp: {field: line}}\n", "tails.a.event.timestamp: expected either format, such as"),
        (GOOD + "    event: {timestamp: {field: line, format: '%H %H'}}\n", "event.timestamp.format: expected a"),
        (GOOD + "    event: {timestamp: {field: line, format: '%d %H:%M'}}\n", "expected month and day, or no date"),
        (GOOD + "    event: {timestamp: {field: line, format: '%a %H:%M'}}\n", "expected month and day, or no date"),
        (GOOD + "    event: {timestamp: {field: line, format: '%Y %H:%M'}}\n", "a year needs a month and a day"),
        (GOOD + "    event: {timestamp: {field: line, format: '%z'}}\n", "expected a date, such as %Y-%m-%d, or a"),
        (GOOD + "    event: {timestamp: {field: line, format: '%Y-%m-%d %Q'}}\n", "is a bad directive"),
        (GOOD + "    event: {timestamp: {field: line, unit: s, timezone: Moon}}\n", "expected a time zone such as"),
        (GOOD + "    event: {metrics: {x-y: '{line}'}}\n", "metrics.x-y: expected a name of letters"),
        (GOOD + "    event: {metrics: {x: '{line}'}, name: n}\n", "tails.a.event.name: set beside metrics"),
        (GOOD + "    event: {metrics: {x: 'cpu.load1'}}\n", "x: expected {FIELD}, or a number, got cpu.load1; did you"),
        (GOOD + "    event: {metrics: {x: ''}}\n", "tails.a.event.metrics.x: expected {FIELD}, or a number"),
        (GOOD + "    event: {timestamp: {field: line, format: yyyy-MM-dd}}\n", "strptime, such as %Y-%m-%d, got yyyy"),
        (GOOD + "    multiline: {max_lines: 10}\n", "tails.a.multiline.max_lines: set, but neither start nor continue"),
        (GOOD + "    unparsed: raw\n    event: {metrics: {x: '{line}'}}\n", "tails.a.unparsed: set beside metrics"),
        ("    paths: [/x]\n    stream: events\n    event: {metrics: {x: '1'}}\n", "the stream is for events"),
        ("    paths: [/x]\n    stream: load\n", "tails.a.event.metrics: missing, stream load is for time series"),
        (GOOD + "    tailed: yes\n", "tails.a.tailed: unknown key; did you mean"),
        (GOOD + "tests: {t: {tail: b, lines: [x], events: []}}\n", "tests.t.tail: no tail b is configured"),
        (GOOD + "tests: {t: {tail: a, lines: [x], events: {}}}\n", "tests.t.events: expected a list of events"),
    ],
)  # fmt: skip
def test_a_mistake_names_its_place_and_what_would_be_right(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert any(problem in line for line in caught.value.problems), caught.value.problems


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD.replace("app", "none") + "    where: {x: y}\n    event: {timestamp: {field: line}}\n")
    assert len(caught.value.problems) == 3


def test_events_of_a_test_are_what_yaml_says(tmp_path: Path) -> None:
    test = "tests: {t: {tail: a, lines: [x], events: [{a: {b: [1, true, null, c]}}]}}\n"
    events: Any = load(tmp_path, GOOD + test).tests["t"].events
    assert events == [{"a": {"b": [1, True, None, "c"]}}]


def test_conditions(tmp_path: Path) -> None:
    conditions = "{s: {in: 500..599}, t: {at_least: 5, at_most: 7.5}, m: {matches: '^a', contains: [x, y]}}"
    text = f"    parse: json\n    where: {conditions}\n"
    where = load(tmp_path, GOOD + text).tails["a"].where
    assert (where["s"].within, where["t"].at_least, where["t"].at_most) == (Span(500, 599), 5, 7.5)
    assert (str(where["m"].matches), where["m"].contains, where["m"].one_of) == ("^a", ("x", "y"), ())


@pytest.mark.parametrize(
    ("condition", "problem"),
    [
        ("{in: 599..500}", "where.s.in: expected two numbers such as 500..599, the lower one first, got 599..500"),
        ("{in: 5xx}", "where.s.in: expected two numbers"),
        ("{at_least: many}", "where.s.at_least: expected a number"),
        ("{matches: '('}", "where.s.matches: expected a regular expression"),
        ("{match: a}", "where.s.match: unknown key; did you mean matches?"),
    ],
)
def test_conditions_that_are_none(tmp_path: Path, condition: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, GOOD + f"    parse: json\n    where: {{s: {condition}}}\n")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("group", "value", "warned"),
    [
        (r"\\d+", "5xx", True), (r"\\d+", "500", False), (r"\\w+", "5xx", False), (r"(?:a|b[)])+", "c", True),
        (r"(?:a|b[)])+", "ab)", False), (r"\\d+(?= )", "5xx", False), (r"INFO|ERROR", "error", True),
    ],
)  # fmt: skip
def test_a_value_that_its_group_can_never_hold_is_a_warning(
    tmp_path: Path, group: str, value: str, *, warned: bool
) -> None:
    text = f'    parse: {{regex: "^(?P<s>{group}) (?P<rest>.*)$"}}\n    where: {{s: ["{value}"]}}\n'
    path = tmp_path / "c.yml"
    path.write_text(HEAD + GOOD + text)
    config = load_config(Options(config=path, state=tmp_path), {}).config
    warnings = list(tail_warnings(config))
    assert len(warnings) == warned
    if warned:
        assert f"tails.a.where.s: {value} can never match" in warnings[0]
