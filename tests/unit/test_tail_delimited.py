"""Files that name their columns: CSV, W3C, Zeek; also from the middle, and with names that change."""

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.parsing import DelimitedRule, last_columns
from sidecar.parsing.delimited import COMMENT, read_rows
from tests.support.builders import builder, make

CSV, W3C, ZEEK = (DelimitedRule(format=form) for form in ("csv", "w3c", "zeek"))
IIS = "#Software: Microsoft Internet Information Services 10.0\n#Fields: date time cs-method\n2026-11-27 02:00:00 GET\n"


def rows(text: str, rule: DelimitedRule, columns: Any = (), *, at_start: bool = True) -> list[Any]:
    return list(read_rows(text.split("\n"), rule, columns, at_start=at_start).found)


def test_the_first_line_of_a_csv_file_names_the_columns() -> None:
    assert rows('time,"a, b"\n1,"x ""y"", z"\n2', CSV) == [COMMENT, {"time": "1", "a, b": 'x "y", z'}, None]
    assert rows("1,2", CSV, ("a", "b"), at_start=False) == [{"a": "1", "b": "2"}]
    assert rows("1,2", CSV, at_start=False) == [None], "nobody knows what they are"


def test_columns_that_are_configured_need_no_line() -> None:
    rule = DelimitedRule(format="csv", delimiter=";", columns=("a", "b"))
    assert rows("1;2\na;b\n3;4", rule) == [{"a": "1", "b": "2"}, COMMENT, {"a": "3", "b": "4"}]
    assert rows("a;b\n1;2", rule) == [COMMENT, {"a": "1", "b": "2"}]


def test_names_of_w3c_and_zeek_hold_until_others_come() -> None:
    text = "#Version: 1.0\n#Fields: a b\n1 -\n#Fields: b c\n3 4\n5"
    assert rows(text, W3C) == [COMMENT, COMMENT, {"a": "1", "b": ""}, COMMENT, {"b": "3", "c": "4"}, None]
    assert rows("#separator \\x09\n#fields\tts\tuid\n1.5\t(empty)\n#close\t2026", ZEEK) == [
        COMMENT, COMMENT, {"ts": "1.5", "uid": ""}, COMMENT,
    ]  # fmt: skip


def reader(data: bytes) -> Any:
    return lambda size, offset: data[offset : offset + size]


@given(st.integers(0, 3000), st.integers(1, 200))
@example(place=17, first=1)  # just before a line that names them
def test_who_reads_on_in_the_middle_finds_the_names_that_hold_there(place: int, first: int) -> None:
    text = b"#Fields: a b\n" + b"1 2\n" * first + b"#Fields: c d\n" + b"3 4\n" * 300
    offset = text.rfind(b"\n", 0, min(place, len(text))) + 1
    holds = ("c", "d") if offset > text.index(b"#Fields: c") else ("a", "b")
    assert last_columns(reader(text), offset, W3C) == (holds if offset else ())


def test_names_are_found_however_far_back() -> None:
    text = b"#Fields: a b\n" + b"1 2\n" * 700_000
    assert last_columns(reader(text), len(text), W3C) == ("a", "b")
    assert last_columns(reader(text[13:]), len(text) - 13, W3C) == ()
    assert last_columns(reader("\ufeffa,b\r\n1,2\n".encode()), 7, CSV) == ("a", "b")


@pytest.mark.parametrize(
    ("settings", "text", "contents"),
    [
        ({"parse": "csv", "event": {"content": "{b}"}}, "a,b\n1,x\n", ["x"]),
        (
            {"parse": {"format": "csv", "delimiter": ";", "columns": ["a", "b"]}, "event": {"content": "{b}"}},
            "1;x\n",
            ["x"],
        ),
        ({"parse": "w3c", "event": {"content": "{cs-method} {line}"}}, IIS, ["GET 2026-11-27 02:00:00 GET"]),
        ({"parse": "zeek", "event": {"content": "{uid}"}}, "#fields\tts\tuid\n1\tC1\n", ["C1"]),
        ({"parse": "csv", "where": {"a": {"at_least": 2}}, "event": {"content": "{b}"}}, "a,b\n1,x\n2,y\n", ["y"]),
    ],
)
def test_rows_become_events(settings: dict[str, Any], text: str, contents: list[str]) -> None:
    assert [event["event"]["content"] for event in make(builder(**settings), text).events] == contents


def test_a_row_that_does_not_fit_is_a_line_that_does_not_parse() -> None:
    made = make(builder(parse="csv"), "a,b\n1,2\nodd\n")
    assert [event["event"]["content"] for event in made.events] == ["1,2", "odd"]
    assert (made.counts.unparsed, made.counts.blank) == (1, 1)


@given(st.text(alphabet='a,"\n\t #-\\\0', max_size=60))
def test_any_text_is_rows(text: str) -> None:
    for rule in (CSV, W3C, ZEEK):
        assert len(rows(text, rule)) == text.count("\n") + 1
