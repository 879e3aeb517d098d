"""`sidecar send`: from options and lines of a file to reports."""

import json
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from sidecar.cli.send.event import Given, Item, make_event, read_metrics, read_pairs, with_fields
from sidecar.cli.send.lines import Line, LineCutter, items_of
from sidecar.cli.send.outbox import Pipe, Report, SendLimits, gather
from sidecar.core.errors import Rejected

NOW_MS = 1_700_000_000_000
PIPE = Pipe(None, "", "app-events")
BARE = {"event_name": "a", "event": {"content": "b"}}


def item(text: str = '{"event":{}}', kind: Any = "event", *, has_target: bool = True, line: int = 1) -> Item:
    return Item(text.encode(), kind, has_target, line=line)


def test_an_event_from_options() -> None:
    made = make_event(Given(name="login_failed", content="用户", dimension={"module": "db"}), NOW_MS)
    assert json.loads(made.json) == {
        "event_name": "login_failed", "event": {"content": "用户"}, "dimension": {"module": "db"}, "timestamp": NOW_MS,
    }  # fmt: skip
    assert (made.kind, made.has_target) == ("event", False)


def test_a_time_series_from_options() -> None:
    made = make_event(Given(metrics=read_metrics(["a=1", "b=-0.5"]), target="0:1.2.3.4", timestamp_ms=5), NOW_MS)
    assert json.loads(made.json) == {
        "metrics": {"a": 1, "b": -0.5}, "target": "0:1.2.3.4", "dimension": {}, "timestamp": 5,
    }  # fmt: skip
    assert b'"a":1,' in made.json
    assert (made.kind, made.has_target) == ("time_series", True)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Given(name="a"), "--content is missing"),
        (Given(content="a"), "--name is missing"),
        (Given(), "--name is missing"),
        (Given(name="a", metrics={"b": 1}), "either --metric, or --name and --content"),
    ],
)
def test_what_options_must_say(given: Given, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_event(given, NOW_MS)


def test_pairs() -> None:
    assert read_pairs(["a=b", "c=", "d=e=f"]) == {"a": "b", "c": "", "d": "e=f"}
    for wrong in (["a"], ["=b"], ["a=b", "a=c"]):
        with pytest.raises(ValueError, match="given twice" if len(wrong) > 1 else "expected NAME=VALUE"):
            read_pairs(wrong)
    for wrong in (["a=b"], ["a="], ["a=nan"], ["a=inf"], ["a=1_0"]):
        with pytest.raises(ValueError, match="expected NAME=NUMBER"):
            read_metrics(wrong)


@for_all(st.dictionaries(st.text(), st.integers()), st.dictionaries(st.sampled_from("xyz"), st.text()))
@pytest.mark.property
def test_fields_are_put_in_front_of_any_object(event: dict[str, int], more: dict[str, str]) -> None:
    text = json.dumps(event).replace("{", "{ ", 1)
    assert json.loads(with_fields(text.encode(), more)) == {**more, **event}


@for_all(st.lists(st.binary(max_size=12)), st.lists(st.integers(1, 9)))
@pytest.mark.property
def test_lines_come_out_the_same_in_whatever_pieces_they_come_in(parts: list[bytes], cuts: list[int]) -> None:
    text = b"\n".join(parts)
    expected = [Line(n, part.strip() if len(part) <= 9 else None) for n, part in enumerate(text.split(b"\n"), 1)]
    cutter, rest = LineCutter(max_bytes=9), text
    found: list[Line] = []
    for cut in cuts:
        found += cutter.feed(rest[:cut])
        rest = rest[cut:]
    found += [*cutter.feed(rest), *cutter.end()]
    assert found == [line for line in expected if line.text is None or line.text]


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert list(LineCutter().feed(b"\xef\xbb\xbf{}\n\xef\xbb\xbf\n")) == [Line(1, b"{}"), Line(2, b"\xef\xbb\xbf")]


def items(line: str | bytes, given: Given | None = None, pipe: Pipe | None = PIPE) -> tuple[Pipe, list[Item]]:
    text = line if isinstance(line, bytes) else line.encode()
    return items_of(Line(3, text), pipe, given or Given(), NOW_MS)


@pytest.mark.parametrize(
    ("event", "given", "expected"),
    [
        (BARE, Given(), BARE | {"timestamp": NOW_MS}),
        (BARE | {"timestamp": 0}, Given(), BARE | {"timestamp": NOW_MS}),
        (BARE | {"timestamp": 7}, Given(timestamp_ms=9), BARE | {"timestamp": 7}),
        (BARE, Given(timestamp_ms=9), BARE | {"timestamp": 9}),
        (BARE, Given(target="t"), BARE | {"timestamp": NOW_MS, "target": "t"}),
        (BARE | {"target": "own"}, Given(target="t"), BARE | {"timestamp": NOW_MS, "target": "own"}),
        (BARE, Given(dimension={"a": "b"}), BARE | {"timestamp": NOW_MS, "dimension": {"a": "b"}}),
        (
            BARE | {"dimension": {"a": "own"}}, Given(dimension={"a": "b", "c": "d"}),
            BARE | {"timestamp": NOW_MS, "dimension": {"a": "own", "c": "d"}},
        ),
        (BARE | {"dimension": 5}, Given(dimension={"a": "b"}), BARE | {"timestamp": NOW_MS, "dimension": 5}),
    ],
)  # fmt: skip
def test_options_fill_in_what_an_event_leaves_out(event: Any, given: Given, expected: Any) -> None:
    pipe, (made,) = items(json.dumps(event), given)
    assert json.loads(made.json) == expected
    assert (pipe, made.line, made.index, made.has_target) == (PIPE, 3, None, "target" in expected)


def test_an_event_that_lacks_nothing_travels_as_it_was_written() -> None:
    text = '{ "event":{"content":"\\u00e9"}, "x":1e2,"timestamp":5,"target":"t" }'
    assert items(text)[1][0].json == text.encode()


def test_characters_that_are_none_cost_no_event() -> None:
    _, (made,) = items(b'{"event":{"content":"\xff \\ud800"}}')
    assert json.loads(made.json)["event"]["content"] == "\ufffd \ufffd"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{bad", "not valid JSON: .* expected an event such as"),
        ("{} {}", "not valid JSON"),
        ("[1]", "expected an event such as .*, got an array"),
        ('{"stream":"x","data":[]}', "expected an event, got a report"),
        ("[" * 100_000, "nested too deep"),
    ],
)
def test_what_is_no_event(line: str, message: str) -> None:
    with pytest.raises(Rejected, match=message):
        items(line)


def test_lines_that_are_too_long() -> None:
    with pytest.raises(Rejected, match="longer than 5000000 bytes"):
        items_of(Line(3, None), PIPE, Given(), NOW_MS)


def test_a_report_is_taken_apart() -> None:
    text = json.dumps({"data_id": 5, "access_token": "x", "data": [BARE, BARE | {"target": "t"}]})
    pipe, (first, second) = items(text, pipe=None)
    assert pipe == Pipe(5, "x", None)
    assert (first.line, first.index, second.index) == (3, 0, 1)
    assert (first.size_bytes, second.size_bytes) == (len(text) + 1, 0)
    assert "***" in repr(pipe)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (json.dumps(BARE), "data_id: missing.*for bare events say --stream NAME"),
        ('{"stream":"x","data":[]}', "data: empty"),
        ('{"stream":"x","data":[{}, 5]}', r"data\[1\]: expected an event such as .*, got 5"),
        ("{bad", "^not valid JSON"),
    ],
)
def test_what_is_no_report(line: str, message: str) -> None:
    with pytest.raises(Rejected, match=message):
        items(line, pipe=None)


def test_a_report_is_one_line_with_all_that_its_pipe_needs() -> None:
    report = Report(PIPE, (item('{"a":1}', has_target=False), item('{"b":2}')))
    assert report.body("0:h") == b'{"stream":"app-events","data":[{"target":"0:h","a":1},{"b":2}]}'
    assert report.body(None) == b'{"stream":"app-events","data":[{"a":1},{"b":2}]}'
    assert Report(Pipe(5, "tok", None), (item("{}"),)).body(None) == b'{"data_id":5,"access_token":"tok","data":[{}]}'


def sizes(found: list[Any], limits: SendLimits) -> list[Any]:
    return [report and len(report.items) for report in gather(iter(found), limits)]


def test_events_are_gathered_up_to_the_limits() -> None:
    found = [(PIPE, item()) for _ in range(10)]
    assert sizes(found, SendLimits(4, 10_000)) == [4, 4, 2]
    assert sizes(found, SendLimits(100, len(PIPE.head) + 2 + 3 * 13)) == [3, 3, 3, 1]
    assert sizes(found, SendLimits(100, 1)) == [1] * 10
    assert sizes([], SendLimits(4, 10_000)) == []


def test_pipes_and_kinds_are_kept_apart_and_pauses_let_go() -> None:
    other = Pipe(5, "", None)
    found = [(PIPE, item()), (other, item()), (other, item(kind="time_series")), (other, item(kind="time_series"))]
    assert sizes(found, SendLimits(100, 10_000)) == [1, 1, 2]
    assert sizes([(PIPE, item()), None, None, (PIPE, item())], SendLimits(100, 10_000)) == [1, None, None, 1]


@for_all(st.lists(st.tuples(st.integers(0, 200), st.booleans()), max_size=40), st.integers(1, 9), st.integers(1, 900))
@pytest.mark.property
def test_no_report_passes_the_limit_but_a_single_event(
    events: list[tuple[int, bool]], most: int, limit_bytes: int
) -> None:
    found = [(PIPE, item('{"x":"%s"}' % ("y" * size), has_target=target)) for size, target in events]
    reports = [report for report in gather(found, SendLimits(most, limit_bytes)) if report is not None]
    assert [one for report in reports for one in report.items] == [one for _, one in found]
    for report in reports:
        assert len(report.items) <= most
        assert len(report.items) == 1 or len(report.body("0:123.123.123.123")) <= limit_bytes


def test_halves() -> None:
    report = Report(PIPE, tuple(item(line=n) for n in range(5)))
    assert [[one.line for one in half.items] for half in report.halves()] == [[0, 1], [2, 3, 4]]
    assert Report(PIPE, (item(),)).halves() == []
    assert Report(PIPE, (item(), item()), divisible=False).halves() == []
