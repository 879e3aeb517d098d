"""From bytes of a file to events: lines, encodings, groups, fields, templates, times."""

import json
import time
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.parsing import FilePlace, Lines, last_end, swap_ends, take_lines
from sidecar.parsing.grouping import Grouping, group_lines
from sidecar.parsing.lines import MAX_LINES
from sidecar.parsing.parsers import parse_lines
from sidecar.parsing.plain import frame_lines, frame_of
from sidecar.standin.behind import message_bytes
from sidecar.text import regexes
from sidecar.text.encodings import codec_of, encoding_of
from sidecar.text.regexes import parse_pattern, search_all
from sidecar.text.templates import field_text, parse_template
from sidecar.text.timestamps import by_format, by_unit
from tests.support.builders import builder, make
from tests.support.reports import NOW_MS

UTF8 = codec_of("utf-8", b"")
STILL = lambda: 0.0  # noqa: E731


def take(data: bytes, encoding: str = "utf-8", **more: Any) -> Lines:
    given: dict[str, Any] = {"max_line": 1000, "at_start": False} | more
    return take_lines(data, codec_of(encoding, data[:4] if given["at_start"] else b""), **given)


@pytest.mark.parametrize(
    ("data", "text", "consumed"),
    [
        (b"", "", 0),
        (b"no end", "", 0),
        (b"one\n", "one\n", 4),
        (b"one\ntwo\nthr", "one\ntwo\n", 8),
        (b"one\r\ntwo\r\n", "one\ntwo\n", 10),
        (b"a\rb\n", "a\rb\n", 4),
        (b"\n\n", "\n\n", 2),
        (b"nul \0 here\n", "nul \0 here\n", 11),
    ],
)
def test_whole_lines_are_taken(data: bytes, text: str, consumed: int) -> None:
    lines = take(data)
    assert (lines.text, lines.consumed, lines.count) == (text, consumed, text.count("\n"))
    assert sum(lines.sizes()) == consumed


def test_what_has_no_end_is_taken_only_at_the_end() -> None:
    assert take(b"one\ntwo", at_end=True).text == "one\ntwo\n"
    assert take(b"one\ntwo", at_end=True).sizes() == [4, 3]


def test_invalid_bytes_are_replaced_and_counted() -> None:
    lines = take(b"good\nbad \xff\xfe\ngood\n")
    assert (lines.text, lines.replaced) == ("good\nbad \ufffd\ufffd\ngood\n", 2)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_the_mark_at_the_start_is_no_text(encoding: str) -> None:
    data = "\ufeffone\ntwo\n".encode(encoding.replace("utf-16", "utf-16-le").replace("utf-32", "utf-32-le"))
    lines = take(data, encoding, at_start=True)
    assert (lines.text, lines.consumed) == ("one\ntwo\n", len(data))


TEXTS = {
    "utf-8": "中文 日志\nÄpfel\n",
    "utf-16-le": "中文\u0a0a ਊ日志\nÄ\n",
    "utf-16-be": "中\u0a00文\n\u000aÄ\n",
    "utf-32-be": "中文\nÄ\n",
    "gb18030": "中文日志\n㐀𠀀\n",
    "gbk": "中文\n日志\n",
    "big5": "中文\n功能\n",
    "latin-1": "Äpfel\nß\n",
    "shift_jis": "日本語\nソ\n",
}  # fmt: skip


@pytest.mark.parametrize("encoding", TEXTS)
def test_an_encoding_may_be_cut_anywhere(encoding: str) -> None:
    """Byte by byte: however much of the file is there, each line comes once, whole."""
    data = TEXTS[encoding].encode(encoding)
    for end in range(len(data) + 1):
        first = take(data[:end], encoding)
        second = take(data[first.consumed :], encoding)
        assert first.text + second.text == TEXTS[encoding]
        assert first.consumed + second.consumed == len(data)
        assert (first.replaced, second.replaced) == (0, 0)
        assert sum(second.sizes()) == second.consumed


@pytest.mark.parametrize(
    ("given", "usual"), [("UTF8", "utf-8"), ("ascii", "utf-8"), ("GBK", "gbk"), ("utf-16", "utf-16")]
)
def test_an_encoding_has_a_usual_name(given: str, usual: str) -> None:
    assert encoding_of(given) == usual


@pytest.mark.parametrize("name", ["utf-7", "klingon", "base64", "hz", "iso2022_jp", "cp037", "rot13", "idna"])
def test_an_encoding_in_which_no_line_can_be_found_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="an encoding such as utf-8"):
        encoding_of(name)


def test_half_a_character_takes_no_end_of_line_with_it() -> None:
    lines = take(b"\xb0\nnext\n", "gbk")
    assert lines.text.count("\n") == 2
    assert lines.text.endswith("\nnext\n")


def test_a_line_that_is_too_long_is_cut_and_does_not_stop_the_file() -> None:
    data = b"short\n" + b"x" * 2500 + b"\nnext\n"
    first = take(data)
    assert (first.text, first.cut, first.inside_line) == ("short\n" + "x" * 1000 + "\n", {1}, True)
    rest = data[first.consumed :]
    second = take(rest, inside_line=True)
    assert (second.text, second.inside_line, second.consumed) == ("next\n", False, len(rest))


def test_a_long_line_without_an_end_is_taken_and_the_rest_passed_over() -> None:
    first = take(b"y" * 1500)
    assert (first.count, first.consumed, first.inside_line) == (1, 1000, True)
    second = take(b"y" * 5000, inside_line=True)
    assert (second.count, second.consumed, second.inside_line) == (0, 5000, True)
    assert take(b"y\nend\n", inside_line=True).text == "end\n"


def test_a_line_is_cut_between_characters() -> None:
    lines = take(("ä" * 800 + "\n").encode(), max_line=999)
    assert lines.text == "ä" * 499 + "\n"


def test_a_line_of_just_the_limit_is_not_cut() -> None:
    assert take(b"x" * 1000 + b"\n").cut == frozenset()
    assert take(b"x" * 1001 + b"\n").cut == {0}


def test_a_block_has_a_limited_number_of_lines() -> None:
    lines = take(b"a\n" * (3 * MAX_LINES))
    assert 0 < lines.count <= MAX_LINES
    assert lines.consumed == 2 * lines.count


@given(st.lists(st.text(alphabet='ab"\\\n\t\x01\x7fäß中\r', max_size=12), max_size=12), st.integers(40, 400))
@pytest.mark.property
def test_a_block_at_once_is_what_line_by_line_would_be(texts: list[str], block_bytes: int) -> None:
    texts = [text.replace("\n", "") for text in texts]
    event = {"event_name": 'a"\\b', "target": "t", "event": {"content": ""}, "dimension": {"f": "\x01"}, "timestamp": 5}
    blocks = frame_lines("".join(f"{text}\n" for text in texts), frame_of(event), block_bytes)
    if blocks is None:
        assert "" in texts or any("\x7f" in text for text in texts)
        return
    events = [item for block in blocks for item in json.loads(b"[" + block.body + b"]")]
    assert events == [event | {"event": {"content": text}} for text in texts]
    assert sum(block.events for block in blocks) == len(texts)
    assert all(len(block.body) <= block_bytes or block.events == 1 for block in blocks)


AT_ONCE, ONE_BY_ONE = builder(), builder(where_not={"message": ["what no line says"]})


@given(st.lists(st.sampled_from(["", "", "a", "b\\", " ", "\x7f", "\r", "ä" * 30]), max_size=30))
@pytest.mark.property
def test_blank_lines_are_left_out_of_a_block_and_counted_as_they_are_one_by_one(texts: list[str]) -> None:
    text = "".join(f"{text}\n" for text in texts)
    assert make(AT_ONCE, text) == make(ONE_BY_ONE, text)


GROWING = st.sampled_from(["<b>", "&", "\b", "\f", "\u2028", "\u2029", "\\b", "\\", '"', "a", "\t", "ä"])


@given(st.lists(st.lists(GROWING, min_size=1).map("".join), min_size=1), st.sampled_from(["<{path}>&", "{path}"]))
@pytest.mark.property
def test_events_of_lines_grow_in_the_proxys_message_by_no_more_than_is_said_of_them(
    texts: list[str], dimension: str
) -> None:
    text = "".join(f"{text}\n" for text in texts)
    plain: dict[str, Any] = {}
    for careful in (plain, {"where_not": {"message": ["what no line says"]}}):
        made = make(builder(event={"dimension": {"d": dimension}}, **careful), text)
        for block in made.blocks:
            assert block.growth is not None
            whole = sum(message_bytes(item) for item in json.loads(b"[" + block.body + b"]"))
            assert len(block.body) + block.growth + 24 * block.events >= whole


def test_what_is_said_of_plain_lines_is_exact() -> None:
    (block,) = make(builder(), "a&b\n<c>\nC:\\back\n" * 3).blocks
    assert block.growth == 5 * 9


def test_nothing_is_said_of_metrics_whose_numbers_may_grow() -> None:
    (block,) = make(builder(event={"metrics": {"m": "{message}"}}), "1e20\n").blocks
    assert block.growth is None


def test_a_plain_tail_makes_events_of_lines() -> None:
    made = make(builder(), "one\n\ntwo\n", path="/var/log/a.log")
    assert made.events == [
        {
            "event_name": "app", "target": "0:10.0.0.9", "event": {"content": text},
            "dimension": {"file": "/var/log/a.log"}, "timestamp": NOW_MS,
        }
        for text in ("one", "two")
    ]  # fmt: skip
    assert made.counts.blank == 1


def test_an_event_that_would_be_too_large_is_cut() -> None:
    made = make(builder(event_bytes=5000), "\x01" * 3000 + "\nshort\n")
    long, short = made.events
    assert long["dimension"]["truncated"] == "true"
    assert len(json.dumps(long)) <= 5200
    assert set(long["event"]["content"]) == {"\x01"}
    assert short["event"]["content"] == "short"
    assert made.counts.cut == 1


START = Grouping(start=parse_pattern(r"^\d"), max_lines=4, max_bytes=100)
CONTINUE = Grouping(continuation=parse_pattern(r"^\s"), max_lines=4, max_bytes=100)


@pytest.mark.parametrize(
    ("rule", "lines", "at_end", "counts"),
    [
        (START, ["1", "a", "b", "2", "c"], False, [3]),
        (START, ["1", "a", "b", "2", "c"], True, [3, 2]),
        (START, ["a", "b", "1"], False, [2]),
        (START, ["1", "a", "b", "c", "d", "2"], False, [4, 1]),
        (START, ["1", "a" * 60, "b" * 60, "2"], False, [2, 1]),
        (START, ["1", "a", "b", "c"], False, [4]),
        (START, [], True, []),
        (CONTINUE, ["x", " a", " b", "y"], False, [3]),
        (CONTINUE, [" a", "x"], True, [1, 1]),
    ],
)
def test_lines_that_belong_together(rule: Grouping, lines: list[str], at_end: bool, counts: list[int]) -> None:
    assert group_lines(lines, [len(line) + 1 for line in lines], rule, STILL, at_end=at_end).counts == counts


JAVA = """2026-11-25 10:00:00 ERROR failed
java.lang.IllegalStateException: no

\tat com.example.A.b(A.java:1)
Caused by: java.io.IOException
\t... 3 more
"""
PYTHON = """Traceback (most recent call last):
  File "a.py", line 1, in <module>
    f()
ValueError: no
"""


def test_a_java_stack_trace_is_one_event() -> None:
    made = make(builder(multiline={"start": r"^\d{4}-"}), JAVA + "2026-11-25 10:00:01 INFO next\n", at_end=False)
    assert [event["event"]["content"] for event in made.events] == [JAVA.rstrip("\n")]
    assert made.consumed == len(JAVA)


def test_a_python_traceback_is_one_event() -> None:
    made = make(builder(multiline={"continue": r"^(\s|\w+Error: )"}), PYTHON + "INFO next\n")
    assert [event["event"]["content"] for event in made.events] == [PYTHON.rstrip("\n"), "INFO next"]


@pytest.mark.parametrize(
    ("form", "line", "fields"),
    [
        ("raw", "any", {"message": "any"}),
        ("json", '{"a":{"b":1}}', {"a": {"b": 1}}),
        ("json", "[1]", {"": [1]}),
        ("json", '{"a":', None),
        ("json", "[" * 5000, None),
        ("logfmt", 'level=info msg="a \\"b\\" c" ok n=1', {"level": "info", "msg": 'a "b" c', "ok": "true", "n": "1"}),
        ("logfmt", "no pairs here", None),
        ("logfmt", "a=1 =2", None),
        ("logfmt", 'a="open', None),
        ("logfmt", "a= b=2", {"a": "", "b": "2"}),
    ],
)
def test_fields_of_a_line(form: Any, line: str, fields: Any) -> None:
    assert parse_lines([line], form, STILL).fields == [fields]


def test_fields_of_a_pattern() -> None:
    pattern = parse_pattern(r"^(?P<level>\w+)( (?P<rest>.*))?$")
    assert pattern.groups == ("level", "rest")
    assert parse_lines(["INFO a b", "INFO", "-"], pattern, STILL).fields == [
        {"level": "INFO", "rest": "a b"}, {"level": "INFO", "rest": ""}, None,
    ]  # fmt: skip


def test_a_pattern_that_never_ends_costs_a_limited_time_and_no_other_line() -> None:
    evil = parse_pattern("(x+x+)+y")
    lines = ["x" * 5000, "xxy"] * 3
    searched = search_all(evil, lines, time.thread_time)  # without a limit it never ends
    assert [bool(match) for match in searched.matches] == [False, True] * 3
    assert searched.late == 3


def test_lines_that_use_up_the_time_of_a_block_take_no_other_line_with_them() -> None:
    evil = parse_pattern("(x+x+)+y")
    lines = ["x" * 5000] * 60 + ["xxy"] * 1000
    used_s = time.thread_time()
    searched = search_all(evil, lines, time.thread_time)
    assert [bool(match) for match in searched.matches] == [False] * 60 + [True] * 1000
    assert searched.late == 60
    assert time.thread_time() - used_s < 60 * 2 * 0.05  # the last of them had less time


class Starved:
    """A search in a thread that gets one part of the process' time in `of`, as the library and the thread count it."""

    def __init__(self, of: int, needs_s: float) -> None:
        self.of, self.needs_s, self.thread_s = of, needs_s, 0.0

    def search(self, _: str, *, timeout: float, concurrent: bool) -> str:
        assert concurrent
        self.thread_s += min(self.needs_s, timeout / self.of)
        if self.needs_s > timeout / self.of:
            raise TimeoutError
        return "found"


@pytest.mark.parametrize("of", [1, 3, 40, 1000])
def test_a_line_is_given_up_only_when_its_own_thread_used_the_time(of: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = parse_pattern("a")
    for needs_s, late in ((0.002, 0), (0.034, 0), (1000.0, 1)):
        starved = Starved(of, needs_s)
        monkeypatch.setattr(regexes, "_compiled", lambda _, starved=starved: starved)
        assert search_all(pattern, ["a"], lambda starved=starved: starved.thread_s).late == late  # type: ignore[misc]
        assert starved.thread_s < 10 * 0.05


@pytest.mark.parametrize(
    ("text", "fields", "made"),
    [
        ("plain 100 %", {}, "plain 100 %"),
        ("{a}", {"a": "x"}, "x"),
        ("app_{a}_{b.c}", {"a": "x", "b": {"c": 5}}, "app_x_5"),
        ("{{a}} {a}%s", {"a": "x"}, "{a} x%s"),
        ("{a.b}", {"a.b": "whole name first", "a": {"b": 1}}, "whole name first"),
        ("{a.1.b}", {"a": [0, {"b": True}]}, "true"),
        ("{none}{a.b.c}", {"a": "x"}, ""),
        ("{a}", {"a": None}, ""),
        ("{a}", {"a": {"b": [1, 2.5]}}, '{"b":[1,2.5]}'),
    ],
)
def test_templates(text: str, fields: dict[str, Any], made: str) -> None:
    assert parse_template(text).renderer()(fields) == made


@pytest.mark.parametrize("text", ["{", "}", "{}", "{a", "a}", "{a{b}}"])
def test_a_template_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="stands for a"):
        parse_template(text)


def test_a_field_is_looked_up_by_its_whole_name_first() -> None:
    assert field_text({"a": {"b": 1}, "a.b": 2}, "a.b") == "2"


def ms(text: str, zone: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


@pytest.mark.parametrize(
    ("form", "zone", "text", "expected"),
    [
        (
            "%Y-%m-%d %H:%M:%S,%f",
            "Asia/Shanghai",
            "2026-11-25 10:00:00,123",
            ms("2026-11-25 10:00:00.123", "Asia/Shanghai"),
        ),
        ("%Y-%m-%d %H:%M:%S.%f", "UTC", "2026-11-25 10:00:00.123456", ms("2026-11-25 10:00:00.123", "UTC")),
        ("%Y-%m-%d %H:%M:%S.%f", "UTC", "2026-11-25 10:00:00.5", ms("2026-11-25 10:00:00.500", "UTC")),
        ("%Y-%m-%d %H:%M:%S %z", "UTC", "2026-11-25 10:00:00 +0800", ms("2026-11-25 02:00:00", "UTC")),
        ("iso8601", "UTC", "2026-11-25T10:00:00.250+08:00", ms("2026-11-25 02:00:00.250", "UTC")),
        ("iso8601", "UTC", "2026-11-25T10:00:00Z", ms("2026-11-25 10:00:00", "UTC")),
        ("%Y-%m-%d %H:%M:%S", "America/New_York", "2026-07-01 00:00:00", ms("2026-07-01 04:00:00", "UTC")),
        ("%Y-%m-%d", "UTC", "no date", None),
        ("%Y-%m-%d %H:%M:%S,%f", "UTC", "2026-11-25 10:00:00", None),
        ("%Y-%m-%d", "UTC", "1999-01-01", None),
        # fractions of any length, anywhere
        ("%Y-%m-%d %H:%M:%S.%f %z", "UTC", "2025-01-01 00:00:00.123456789 +0000", ms("2025-01-01 00:00:00.123", "UTC")),
        ("%d.%m.%Y %H:%M:%S.%f", "UTC", "01.02.2025 00:00:00.123456789012", ms("2025-02-01 00:00:00.123", "UTC")),
        ("%Y-%m-%d %H:%M:%S:%f", "UTC", "2025-01-01 00:00:00:5", ms("2025-01-01 00:00:00.500", "UTC")),
        ("%H:%M:%S.%f %d/%m/%Y", "UTC", "10:00:00.25 02/01/2025", ms("2025-01-02 10:00:00.250", "UTC")),
        ("%Y-%m-%d %H:%M:%S.%f %z", "UTC", "2025-01-01 00:00:00 +0000", None),
        # names of zones
        ("%Y-%m-%d %H:%M:%S.%f %Z", "UTC", "2025-08-13 01:45:01.123 PDT", ms("2025-08-13 08:45:01.123", "UTC")),
        ("%Y-%m-%d %H:%M:%S %Z", "Asia/Shanghai", "2025-08-13 08:00:00 UTC", ms("2025-08-13 08:00:00", "UTC")),
        ("%Y-%m-%d %H:%M:%S %Z", "Asia/Shanghai", "2025-08-13 08:00:00 CST", ms("2025-08-13 00:00:00", "UTC")),
        ("%Y-%m-%d %H:%M:%S %Z", "UTC", "2025-08-13 08:00:00 CST", ms("2025-08-13 14:00:00", "UTC")),
        ("%Y-%m-%d %H:%M:%S %Z", "America/New_York", "2025-07-01 08:00:00 EST", ms("2025-07-01 13:00:00", "UTC")),
        ("%a %b %d %H:%M:%S %Z %Y", "UTC", "Tue Aug 12 17:45:01 JST 2025", ms("2025-08-12 08:45:01", "UTC")),
        ("%a %d %b %Y %I:%M:%S %p %Z", "UTC", "Wed 13 Aug 2025 08:45:01 AM Z", ms("2025-08-13 08:45:01", "UTC")),
        ("%Y-%m-%d %H:%M:%S %Z", "UTC", "2025-08-13 08:00:00 XQT", None),
        ("%Y-%m-%d %H:%M:%S %Z", "UTC", "2025-08-13 08:00:00", None),
        ("%Y-%m-%d %H:%M:%S.%f %z %Z", "UTC", "2025-01-01 08:00:00.5 +0800 CST", ms("2025-01-01 00:00:00.5", "UTC")),
        ("%Y-%m-%d %H:%M:%S%z", "UTC", "2025-01-01 08:00:00+08", ms("2025-01-01 00:00:00", "UTC")),
        ("%Y-%m-%d %H:%M:%S %Z", "America/Sao_Paulo", "2025-01-01 08:00:00 -03", ms("2025-01-01 11:00:00", "UTC")),
        ("%Y-%m-%d %H:%M:%S %Z", "UTC", "2025-01-01 08:00:00 +0545", ms("2025-01-01 02:15:00", "UTC")),
        ("%Y-%m-%d %H:%M:%S %z %Z", "UTC", "2025-01-01 08:00:00 -0300 -03", ms("2025-01-01 11:00:00", "UTC")),
        ("%Z %b %d %Y %H:%M:%S %z", "UTC", "CST Nov 25 2025 08:00:00 +0800", ms("2025-11-25 00:00:00", "UTC")),
        ("%z %Z %d %b %Y %H:%M:%S", "UTC", "+0800 CST 25 Nov 2025 08:00:00", ms("2025-11-25 00:00:00", "UTC")),
        # as in C
        ("%Y-%m-%d %X:%f", "UTC", "2025-01-02 03:04:05:678", ms("2025-01-02 03:04:05.678", "UTC")),
        ("%c", "UTC", "Thu Jan  2 03:04:05 2025", ms("2025-01-02 03:04:05", "UTC")),
        ("%F %T", "UTC", "2025-01-02 03:04:05", ms("2025-01-02 03:04:05", "UTC")),
    ],
)
def test_times_by_a_format(form: str, zone: str, text: str, expected: int | None) -> None:
    assert by_format(form, ZoneInfo(zone))(text, NOW_MS) == expected


def test_a_year_that_is_left_out_is_the_one_that_fits() -> None:
    clock = by_format("%b %d %H:%M:%S", UTC)
    new_year_ms = ms("2027-01-01 00:00:30", "UTC")
    assert clock("Dec 31 23:59:59", new_year_ms) == ms("2026-12-31 23:59:59", "UTC")
    assert clock("Jan  1 00:00:20", new_year_ms) == ms("2027-01-01 00:00:20", "UTC")


@pytest.mark.parametrize(
    ("now", "text", "expected"),
    [
        ("2026-11-28 12:00:00", "11:31:06,491", "2026-11-28 11:31:06.491"),
        ("2026-11-28 00:00:05", "23:59:59,000", "2026-11-27 23:59:59"),
        ("2026-11-28 23:59:58", "00:00:01,000", "2026-11-29 00:00:01"),
        ("2026-01-01 00:00:05", "23:59:59,000", "2025-12-31 23:59:59"),
        ("2026-11-28 12:00:00", "13:30:00,000", "2026-11-27 13:30:00"),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York"])
def test_a_time_without_a_date_is_that_of_today_or_of_the_day_that_fits(
    now: str, text: str, expected: str, zone: str
) -> None:
    assert by_format("%H:%M:%S,%f", ZoneInfo(zone))(text, ms(now, zone)) == ms(expected, zone)


def test_a_time_without_a_date_where_no_zone_is_given_is_as_this_hosts_clocks_show_it() -> None:
    now_ms = ms("2026-11-28 12:00:00", "UTC")
    shown = datetime.fromtimestamp(now_ms / 1000 - 60).astimezone()
    assert by_format("%H:%M:%S", None)(f"{shown:%H:%M:%S}", now_ms) == now_ms - 60_000


def test_the_29th_of_february_without_a_year_is_that_of_the_last_leap_year() -> None:
    clock = by_format("%b %d %H:%M:%S", UTC)
    assert clock("Feb 29 10:00:00", ms("2026-11-28 12:00:00", "UTC")) == ms("2024-02-29 10:00:00", "UTC")
    assert clock("Feb 29 10:00:00", ms("2028-03-01 12:00:00", "UTC")) == ms("2028-02-29 10:00:00", "UTC")


@pytest.mark.parametrize(
    ("unit", "text", "expected"),
    [
        ("s", "1700000000", 1700000000000), ("s", "1700000000.25", 1700000000250),
        ("ms", "1700000000123", 1700000000123),
        ("us", "1700000000123456", 1700000000123), ("ns", "1700000000123456789", 1700000000123),
        ("s", "soon", None), ("s", "-5", None), ("s", "1", None), ("ms", "", None),
    ],
)  # fmt: skip
def test_times_by_a_unit(unit: Any, text: str, expected: int | None) -> None:
    assert by_unit(unit)(text, NOW_MS) == expected


PARSED: dict[str, Any] = {
    "parse": {"regex": r"^(?P<time>\S+ \S+) (?P<level>\w+) (?P<message>.*)$"},
    "where": {"level": ["ERROR", "FATAL"]},
    "where_not": {"message": "known trouble"},
    "event": {
        "name": "app_{level}", "content": "{message}", "target": "0:10.0.0.1",
        "dimension": {"level": "{level}", "file": "{path}", "at": "{offset}"},
        "timestamp": {"field": "time", "format": "%Y-%m-%d %H:%M:%S,%f", "timezone": "UTC"},
    },
}  # fmt: skip
LOG = (
    "2023-11-14 22:00:00,123 ERROR disk full\n"
    "2023-11-14 22:00:00,124 INFO all is well\n"
    "2023-11-14 22:00:00,125 FATAL known trouble\n"
    "what is this\n"
    "2023-99-14 22:00:00,126 FATAL gone\n"
)


def test_a_line_is_parsed_filtered_and_made_an_event() -> None:
    made = make(builder(**PARSED), LOG)
    first, unparsed, untimed = made.events
    assert first == {
        "event_name": "app_ERROR", "target": "0:10.0.0.1", "event": {"content": "disk full"},
        "dimension": {"level": "ERROR", "file": "/x.log", "at": "0"}, "timestamp": ms("2023-11-14 22:00:00.123", "UTC"),
    }  # fmt: skip
    assert (unparsed["event"]["content"], unparsed["timestamp"]) == ("what is this", NOW_MS)
    assert unparsed["dimension"]["at"] == str(LOG.index("what"))
    assert (untimed["event"]["content"], untimed["timestamp"]) == ("gone", NOW_MS)
    assert (made.counts.filtered, made.counts.unparsed, made.counts.untimed) == (2, 1, 1)


def test_a_line_that_does_not_parse_may_be_left_out() -> None:
    made = make(builder(**PARSED, unparsed="drop"), LOG)
    assert len(made.events) == 2
    assert (made.counts.unparsed, made.counts.dropped) == (1, 1)


def test_a_line_that_does_not_parse_may_be_a_dead_letter() -> None:
    made = make(builder(**PARSED, unparsed="dead"), LOG)
    assert [(event["event"]["content"], why) for event, why in made.dead] == [
        ("what is this", "the line does not parse")
    ]


def test_an_event_of_the_future_waits_and_one_of_the_far_future_is_of_now() -> None:
    rule: dict[str, Any] = {"parse": "json", "event": {"timestamp": {"field": "t", "unit": "ms"}}}
    soon, never = NOW_MS + 2 * 3_600_000, NOW_MS + 365 * 86_400_000
    made = make(builder(**rule), f'{{"t":{NOW_MS}}}\n{{"t":{soon}}}\n{{"t":{never}}}\n')
    due = {block.due_ms: json.loads(b"[" + block.body + b"]") for block in made.blocks}
    assert [event["timestamp"] for event in due[None]] == [NOW_MS, NOW_MS]
    (later,) = [when for when in due if when is not None]
    assert soon - 3_600_000 <= later <= soon
    assert made.counts.untimed == 1


METRICS: dict[str, Any] = {
    "parse": "json",
    "event": {
        "metrics": {"load1": "{cpu.load1}", "procs": "{procs}"}, "dimension": {"host": "{host}"},
        "timestamp": {"field": "t", "unit": "s"},
    },
}  # fmt: skip


def test_a_time_series_from_lines() -> None:
    made = make(builder(**METRICS), '{"cpu":{"load1":0.75},"procs":120,"t":1700000000}\n{"procs":"7","t":1700000001}\n')
    assert made.events[0] == {
        "metrics": {"load1": 0.75, "procs": 120}, "target": "0:10.0.0.9", "dimension": {"host": "h"},
        "timestamp": 1700000000000,
    }  # fmt: skip
    assert made.events[1]["metrics"] == {"procs": 7}


@pytest.mark.parametrize("line", ['{"procs":"many"}', '{"other":1}', "no json", '{"procs":"nan"}', '{"procs":"1e999"}'])
def test_a_line_without_a_number_is_no_item_of_a_time_series(line: str) -> None:
    made = make(builder(**METRICS), line + "\n")
    assert (made.events, made.counts.dropped, made.counts.unparsed) == ([], 1, 1)


def test_a_field_of_the_line_goes_before_one_of_the_file() -> None:
    made = make(builder(parse="json", event={"dimension": {"p": "{path}", "l": "{line}"}}), '{"path":"/api"}\n{}\n')
    assert [event["dimension"] for event in made.events] == [
        {"p": "/api", "l": '{"path":"/api"}'},
        {"p": "/x.log", "l": "{}"},
    ]


def test_where_a_file_would_begin_that_is_there_already() -> None:
    assert last_end(b"one\ntwo\nthr", UTF8) == 8
    assert last_end(b"no end", UTF8) == 6
    assert last_end("one\nt".encode("utf-16-le"), codec_of("utf-16-le", b"")) == 8


def test_a_place_may_be_named_in_events() -> None:
    assert FilePlace("/a", "h").path == "/a"


def test_a_pattern_finds_a_whole_group_of_lines() -> None:
    pattern = r"^(?P<time>\S+ \S+) (?P<level>\w+) (?P<message>.*)$"
    grouped = builder(
        multiline={"start": r"^\d{4}-"},
        parse={"regex": pattern},
        where={"level": ["ERROR"]},
        event={"content": "{message}", "dimension": {"level": "{level}"}},
    )
    error = "2026-11-26 10:00:00 ERROR bad\njava.lang.X\n\tat a.B\n"
    made = make(grouped, error + "2026-11-26 10:00:01 WARN slow\n\tbut well\n")
    assert [(each["event"]["content"], each["dimension"]) for each in made.events] == [
        ("bad\njava.lang.X\n\tat a.B", {"level": "ERROR"})
    ]
    assert (made.counts.unparsed, made.counts.filtered) == (0, 1)


@pytest.mark.parametrize(("encoding", "mark"), [("utf-8", b"\xef\xbb\xbf"), ("utf-16", b"\xff\xfe")])
@pytest.mark.parametrize("settings", [{}, {"multiline": {"start": "^x"}}])
def test_a_file_with_nothing_but_a_mark_is_a_blank_line(encoding: str, mark: bytes, settings: dict[str, Any]) -> None:
    lines = take(mark, encoding=encoding, at_start=True, at_end=True)
    assert (lines.consumed, lines.count, lines.text) == (len(mark), 1, "\n")
    made = builder(**settings).make(lines, FilePlace("/x", "h"), offset=0, now_ms=NOW_MS, at_end=True)
    assert (made.blocks, made.consumed, made.counts.blank) == ([], len(mark), 1)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-32-be"])
@pytest.mark.parametrize(("text", "lines"), [("one\npartial", ["one", "partial\ufffd"]), ("one\n", ["one", "\ufffd"]),
                                            ("", ["\ufffd"])])  # fmt: skip
def test_half_a_character_at_the_end_is_taken_with_the_rest(encoding: str, text: str, lines: list[str]) -> None:
    data = text.encode(encoding) + b"\0"
    taken = take(data, encoding=encoding, at_end=True)
    assert (taken.consumed, taken.text.splitlines(), taken.replaced) == (len(data), lines, 1)
    assert sum(taken.sizes()) == len(data)
    assert take(data, encoding=encoding).text == text[: text.find("\n") + 1], "it may go on"


NULS = bytes(3338)


@pytest.mark.parametrize(
    ("data", "text", "nuls", "consumed"),
    [
        (NULS + b"one\ntwo\n", "one\ntwo\n", 3338, 3346),
        (b"before\n" + b"\0" * 5 + b"after\n\0\0last\n", "before\nafter\nlast\n", 7, 25),
        (b"\0" * 50, "", 0, 0),  # it may still be written over
        (b"\0" * 5000, "", 5000, 5000),  # more than a line can have
        (NULS + b"no end", "", 3338, 3338),
        (b"in\0side\n", "in\0side\n", 0, 8),
    ],
)
def test_bytes_that_nobody_wrote_are_passed_over(data: bytes, text: str, nuls: int, consumed: int) -> None:
    lines = take(data, max_line=4000)
    assert (lines.text, lines.nuls, lines.consumed) == (text, nuls, consumed)
    assert sum(lines.sizes()) + lines.skipped == consumed


@pytest.mark.parametrize("run", [4096, 200_000, 700_000])
def test_a_long_run_of_nuls_swallows_no_line_however_it_is_cut_into_blocks(run: int) -> None:
    data = b"before\n" + bytes(run) + b"the line after the crash\nnext\n"
    text, place, nuls = "", 0, 0
    while place < len(data):
        lines = take(data[place : place + 512 * 1024], max_line=256 * 1024)
        assert lines.consumed
        assert not lines.cut
        text, nuls, place = text + lines.text, nuls + lines.nuls, place + lines.consumed
    assert (text, nuls) == ("before\nthe line after the crash\nnext\n", run)


def test_a_line_of_utf_16_may_begin_with_a_zero_byte() -> None:
    data = "ab\ncd\n".encode("utf-16-be")
    assert take(data, "utf-16-be").text == "ab\ncd\n"


@pytest.mark.parametrize(
    ("text", "plain", "with_units"),
    [
        ("3", 3, 3), ("-1.5e3", -1500.0, -1500.0), ("3ms", None, 3), ("12%", None, 12), ("12.5 %", None, 12.5),
        ("1,234", None, 1234), ("1,234,567.5 B/s", None, 1234567.5), ("+7 µs", None, 7), ("12,34", None, None),
        ("fast", None, None), ("3 4", None, None), ("%", None, None), ("1e400", None, None), ("3ms5", None, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("units", [False, True])
def test_numbers_of_metrics(text: str, plain: float | None, with_units: float | None, *, units: bool) -> None:
    settings: dict[str, Any] = {"parse": "json", "event": {"metrics": {"a": "{a}", "b": "{b}"}, "units": units}}
    made = make(builder(**settings), json.dumps({"a": text, "b": 1}) + "\n")
    expected = with_units if units else plain
    assert [item["metrics"] for item in made.events] == [{"b": 1} if expected is None else {"a": expected, "b": 1}]
    assert made.counts.not_numbers == (expected is None)


def test_a_line_without_any_number_becomes_nothing_and_is_counted() -> None:
    made = make(builder(parse="json", event={"metrics": {"a": "{a}"}}), '{"a": "fast"}\n')
    assert (made.events, made.counts.not_numbers, made.counts.dropped) == ([], 1, 1)


@pytest.mark.parametrize(
    ("condition", "passing"),
    [
        ("500", [500]), (["500", "404"], [404, 500]), ("5xx", []), ({"matches": "^5"}, [500, 503]),
        ({"in": "500..599"}, [500, 503]),
        ({"at_least": 500}, [500, 503]), ({"at_most": 404}, [200, 404]), ({"contains": "0"}, [200, 404, 500, 503]),
        ({"contains": ["04", "03"]}, [404, 503]), ({"matches": "3$", "at_least": 500}, [503]),
        ({}, [200, 404, 500, 503]),
        ({"is": ["200"], "at_least": 300}, []),
    ],
)  # fmt: skip
def test_conditions_for_a_field(condition: Any, passing: list[int]) -> None:
    text = "".join(f'{{"status": {status}}}\n' for status in (200, 404, 500, 503))
    made = make(builder(parse="json", where={"status": condition}), text)
    assert [json.loads(event["event"]["content"])["status"] for event in made.events] == passing
    assert made.counts.filtered == 4 - len(passing)
    made = make(builder(parse="json", where_not={"status": condition}), text)
    assert made.counts.filtered == len(passing)


def test_raw_lines_can_be_chosen_by_their_content_and_by_what_every_line_has() -> None:
    text = "one error\ntwo\nERROR three\n"
    by_pattern = make(builder(where={"message": {"matches": "(?i)error"}}), text)
    assert [event["event"]["content"] for event in by_pattern.events] == ["one error", "ERROR three"]
    by_line = make(builder(where={"line": {"contains": "two"}}), text)
    assert [event["event"]["content"] for event in by_line.events] == ["two"]
    by_path = make(builder(where={"path": {"matches": "x"}}), text)
    assert len(by_path.events) == 3


def test_a_condition_that_never_ends_counts_as_late_and_does_not_hold() -> None:
    made = make(builder(where={"message": {"matches": "(x+x+)+y"}}), "x" * 5000 + "\nxxy\n")
    assert [event["event"]["content"] for event in made.events] == ["xxy"]
    assert (made.counts.late, made.counts.late_in) == (1, frozenset({"where"}))


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("%d %b %Y", "27 nov. 2025"), ("%d. %b %Y", "27. Okt 2025"), ("%d %B %Y", "27 décembre 2025"),
        ("%d %b %Y", "27 мая 2025"), ("%d %B %Y", "27 listopada 2025"), ("%b %d %Y", "11月 27 2025"),
        ("%d-%b-%Y", "27-Mär-2025"), ("%d %b %Y", "27 AGO 2025"), ("%d %b %Y", "27 Jul 2025"),
        ("%Y %b %d", "2025 1월 27"),
    ],
)  # fmt: skip
def test_months_of_other_languages(form: str, text: str) -> None:
    months = {"nov": 11, "Okt": 10, "déc": 12, "мая": 5, "lis": 11, "11月": 11, "Mär": 3, "AGO": 8, "Jul": 7, "1월": 1}
    month = next(number for word, number in months.items() if word in text)
    found = by_format(form, ZoneInfo("UTC"))(text, NOW_MS)
    assert found == int(datetime(2025, month, 27, tzinfo=UTC).timestamp() * 1000)


def test_a_month_that_is_none_is_no_time() -> None:
    assert by_format("%d %b %Y", ZoneInfo("UTC"))("27 foo 2025", NOW_MS) is None


@pytest.mark.parametrize("end", ["\r", "\0", ";"])
def test_lines_may_end_in_another_character(end: str) -> None:
    data = f"one{end}two\nlines{end}thr".encode()
    lines = take(swap_ends(data, end))
    made = builder(line_end=end).make(lines, FilePlace("/x", "h"), offset=0, now_ms=NOW_MS)
    events = [event for block in made.blocks for event in json.loads(b"[%b]" % block.body)]
    assert [event["event"]["content"] for event in events] == ["one", "two\nlines"]
    assert made.consumed == len(data) - 3
