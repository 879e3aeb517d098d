"""What is done to the texts of events before they leave; lines that hold several events; samples; odd lines."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.parsing import FilePlace, take_lines
from sidecar.parsing.finishing import without_escapes
from sidecar.text.encodings import codec_of
from tests.support.builders import builder, make
from tests.support.reports import NOW_MS

RED = "\x1b[31;1mred\x1b[0m"


def contents(text: str, **settings: Any) -> list[str]:
    return [event["event"]["content"] for event in make(builder(**settings), text).events]


@pytest.mark.parametrize(
    "text",
    [
        RED,
        "\x1b]0;a title\x07red",
        "\x1b]8;;http://x\x1b\\red",
        "\x1b[2K\x1b[1Gred",
        "\x1bMred",
        "r\x1b[38;5;196med\x1b[m",
    ],
)
def test_colours_are_taken_out(text: str) -> None:
    assert without_escapes(text) == "red"
    assert contents(f"{text}\nplain\n", strip_ansi=True) == ["red", "plain"]


def test_colours_hide_no_beginning_of_a_group_and_no_field() -> None:
    text = f"{RED} one\n  more\n{RED} two\n"
    assert contents(text, strip_ansi=True, multiline={"start": "^red"}) == ["red one\n  more", "red two"]
    assert contents(f"{RED} one\n", strip_ansi=True, parse={"regex": "^red (?P<a>.*)"}, event={"content": "{a}"}) == [
        "one"
    ]
    escaped = '{"log":"\\u001b[31mred\\u001b[0m\\n","stream":"stdout","time":"2023-11-14T10:00:00Z"}\n'
    assert contents(escaped, strip_ansi=True, parse="docker") == ["red"]
    assert contents('{"m":"\\u001b[31mred"}\n', strip_ansi=True, parse="json", event={"content": "{m}"}) == ["red"]


@given(st.text())
def test_what_holds_no_escape_stays(text: str) -> None:
    assert without_escapes(text.replace("\x1b", "")) == text.replace("\x1b", "")
    assert without_escapes(text).count("\n") == text.count("\n")


def test_texts_are_trimmed() -> None:
    assert contents("  a b \t\n", trim=True) == ["a b"]
    made = make(builder(trim=True, parse="json", event={"dimension": {"d": "{d}"}}), '{"d":" x "}\n')
    assert made.events[0]["dimension"] == {"d": "x"}


MASKS = [
    {"field": "content", "pattern": r"(password=)\S+", "with": r"\1***"},
    {"pattern": r"\b\d{3}(\d{4})\d{4}\b", "with": r"***\1****"},
]


def test_what_is_not_to_be_known_is_masked() -> None:
    event = {"name": "n", "content": "{m}", "dimension": {"phone": "{phone}", "other": "password=1"}}
    made = make(
        builder(parse="json", event=event, mask=MASKS), '{"m":"password=x 13812345678","phone":"13812345678"}\n'
    )
    assert made.events[0]["event"]["content"] == "password=*** ***1234****"
    assert made.events[0]["dimension"] == {"phone": "***1234****", "other": "password=1"}


@pytest.mark.parametrize("unparsed", ["raw", "dead"])
def test_a_line_that_does_not_parse_is_masked_too(unparsed: str) -> None:
    made = make(builder(parse="json", unparsed=unparsed, mask=MASKS), "password=secret\n")
    events = made.events + [event for event, _ in made.dead]
    assert [event["event"]["content"] for event in events] == ["password=***"]


def test_a_time_series_is_masked_too() -> None:
    event = {"metrics": {"n": "{n}"}, "dimension": {"phone": "{phone}"}}
    made = make(builder(parse="json", event=event, mask=MASKS), '{"n":1,"phone":"13812345678"}\n')
    assert made.events[0]["dimension"] == {"phone": "***1234****"}


@pytest.mark.parametrize(
    ("pattern", "text", "left"),
    [
        ('"password":"[^"]*"', 'one "password":"a" two "password":"gehe', "one *** two ***"),
        ('"password":"[^"]*"', "nothing of the kind", "nothing of the kind"),
        (r"(?:\d{4}-){3}\d{4}", "card 1234-1234-1234-1234 and 1234-12", "card *** and ***"),
        (r"(\w+)@secret", "some word", "some ***"),
        (r"(x+x+)+y", "x" * 5000, "***"),
    ],
)
def test_at_the_end_of_a_line_that_was_cut_the_beginning_of_a_secret_is_hidden(
    pattern: str, text: str, left: str
) -> None:
    lines = take_lines(f"{text}{'z' * 9000}\n".encode(), codec_of("utf-8", b""), max_line=len(text), at_start=False)
    masked = builder(mask=[{"pattern": pattern}])
    made = masked.make(lines, FilePlace("/x.log", "h"), offset=0, now_ms=NOW_MS, at_end=True)
    assert json.loads(made.blocks[0].body)["event"]["content"] == left


def test_what_cannot_be_masked_does_not_leave() -> None:
    made = make(builder(mask=[{"pattern": "(x+x+)+y"}]), "x" * 5000 + "\nxxy\n")
    assert [event["event"]["content"] for event in made.events] == ["***", "***"]
    assert (made.counts.late, made.counts.late_in) == (1, {"mask"})


def test_values_are_mapped() -> None:
    settings: dict[str, Any] = {
        "parse": {"regex": r"^(?P<level>\S) (?P<m>.*)"},
        "map": {"level": {"#": "warning", "*": "notice"}},
        "event": {"name": "{level}"},
    }
    events = make(builder(**settings), "# a\n* b\n- c\n").events
    assert [event["event_name"] for event in events] == ["warning", "notice", "-"]


def test_an_array_is_several_events() -> None:
    json: dict[str, Any] = {"parse": "json", "event": {"content": "{a}{b.c}"}}
    assert contents('[{"a":1},{"b":{"c":2}}]\n{"a":3}\n[]\n', **json) == ["1", "2", "3"]
    assert contents('[{"a":1},2]\n', **json) == ['[{"a":1},2]']
    each: dict[str, Any] = {"parse": {"format": "json", "each": "records"}, "event": {"content": "{from} {a}"}}
    assert contents('{"from":"h","records":[{"a":1},{"a":2}]}\n{"a":3}\n', **each) == ["h 1", "h 2", " 3"]
    inner = each | {"parse": {"format": "json", "each": "a.b"}}
    assert contents('{"from":"h","a":{"b":[{"a":1}]}}\n', **inner) == ["h 1"]
    cri = {"parse": {"format": "cri", "then": "json"}, "event": {"content": "{stream} {a}"}}
    assert contents('2023-11-14T10:00:00Z stderr F [{"a":1},{"a":2}]\n', **cri) == ["stderr 1", "stderr 2"]


def test_a_line_that_does_not_parse_takes_the_raw_shape() -> None:
    event = {"name": "app_{level}", "content": "{m}", "dimension": {"level": "{level}", "file": "{path}", "m": "x"}}
    made = make(builder(parse="json", event=event), "odd\n")
    assert made.events[0]["event_name"] == "app", "the tail's name, and no half of another"
    assert made.events[0]["dimension"] == {"file": "/x.log", "m": "x"}
    empty = make(builder(parse="json", event={"name": "{level}"}), '{"m":1}\n')
    assert empty.events[0]["event_name"] == "app"


def test_a_sample_is_the_same_lines_however_often_they_are_read() -> None:
    text = "".join(f"line {number}\n" for number in range(2000))
    made, again = make(builder(sample="10%"), text), make(builder(sample="10%"), text)
    assert made.events == again.events
    assert 120 < len(made.events) < 280
    assert made.counts.sampled == 2000 - len(made.events)
    assert len(make(builder(sample="100%"), text).events) == 2000


def test_the_time_may_be_in_two_fields_and_in_several_formats() -> None:
    stamp = {"field": ["date", "time"], "format": ["iso8601", "%d.%m.%Y %H:%M"], "timezone": "UTC"}
    lines = '{"date":"2023-11-14","time":"10:00:00"}\n{"date":"14.11.2023","time":"10:00"}\n{"date":"x"}\n'
    made = make(builder(parse="json", event={"timestamp": stamp}), lines)
    assert [event["timestamp"] for event in made.events[:2]] == [1699956000000] * 2
    assert made.counts.untimed == 1
