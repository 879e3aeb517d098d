"""Lines of containers: unwrapped, joined for each stream, grouped by their content, and none of them twice."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.parsing import EventBuilder, FilePlace, take_lines
from sidecar.text.encodings import codec_of
from tests.support.builders import builder
from tests.support.reports import NOW_MS

UTF8 = codec_of("utf-8", b"")
CRI = "2023-11-14T10:00:{:02d}.730832241+08:00 {} {} {}\n"
POD = FilePlace("/var/log/pods/shop_cart-0_ab12/app/0.log", "host")


def cri(*lines: tuple[str, str, str], second: int = 0) -> str:
    return "".join(CRI.format(second, stream, tag, text) for stream, tag, text in lines)


def docker(*lines: tuple[str, str, str]) -> str:
    return "".join(
        json.dumps(
            {"log": text + ("" if tag == "P" else "\n"), "stream": stream, "time": "2023-11-14T02:00:00.730832241Z"}
        )
        + "\n"
        for stream, tag, text in lines
    )


def read(made: EventBuilder, text: str, *, at_once: int = 0, is_over: bool = True, **more: Any) -> list[dict[str, Any]]:
    """Read a file as a tail does: so many bytes come at once, and what is not consumed is read again."""
    data, place, size = text.encode(), 0, at_once or len(text.encode())
    events: list[dict[str, Any]] = []
    seen = 0
    while place < len(data):
        seen = max(seen, place)
        seen = min(len(data), seen + size)
        over = seen == len(data)
        lines = take_lines(data[place:seen], UTF8, max_line=more.get("max_line", 1000), at_start=False, at_end=over)
        built = made.make(lines, POD, offset=place, now_ms=NOW_MS, at_end=over and is_over)
        events += [event for block in built.blocks for event in json.loads(b"[%b]" % block.body)]
        events += [json.loads(body) | {"dead": why} for body, why in built.dead]
        place += built.consumed
        if over and not built.consumed:
            break
    return events


def contents(events: list[dict[str, Any]]) -> list[str]:
    return [event["event"]["content"] for event in events]


@pytest.mark.parametrize(("form", "write"), [("cri", cri), ("docker", docker)])
def test_parts_are_joined_for_each_stream(form: str, write: Any) -> None:
    text = write(
        ("stdout", "F", "a short line A"),
        ("stdout", "P", "the longer line B, part one,"),
        ("stdout", "F", " and the end of B"),
        ("stdout", "P", "line C, part one,"),
        ("stderr", "F", "line D on stderr"),
        ("stdout", "F", " the end of C"),
    )
    events = read(builder(parse=form, event={"dimension": {"stream": "{stream}"}}), text)
    assert contents(events) == [
        "a short line A", "the longer line B, part one, and the end of B", "line D on stderr",
        "line C, part one, the end of C",
    ]  # fmt: skip
    assert [event["dimension"]["stream"] for event in events] == ["stdout", "stdout", "stderr", "stdout"]
    assert {event["timestamp"] for event in events} == {1699927200730}, "the time of the runtime"


def test_what_is_inside_is_parsed_in_turn() -> None:
    text = cri(("stdout", "F", '{"level":"warn","msg":"slow"}'), ("stderr", "F", "no JSON"))
    event = {"name": "{level}", "content": "{msg}", "dimension": {"stream": "{stream}"}}
    events = read(builder(parse={"format": "cri", "then": "json"}, event=event), text)
    assert [(one["event_name"], one["event"]["content"]) for one in events] == [("warn", "slow"), ("app", "no JSON")]
    regex = builder(
        parse={"format": "cri", "then": {"regex": r"^(?P<level>\w+) (?P<rest>.*)"}}, event={"name": "{level}"}
    )
    assert read(regex, cri(("stdout", "F", "ERROR it broke")))[0]["event_name"] == "ERROR"


def test_a_trace_is_one_event_and_streams_do_not_mix() -> None:
    text = cri(
        ("stdout", "F", "ERROR it broke"),
        ("stderr", "F", "WARN low"),
        ("stdout", "F", "  at a.b(C.java:1)"),
        ("stdout", "P", "  at a.b(C.java"),
        ("stderr", "F", "  on disk 1"),
        ("stdout", "F", ":2)"),
        ("stdout", "F", "INFO well again"),
    )
    made = builder(parse="cri", multiline={"start": r"^[A-Z]+ "})
    assert contents(read(made, text)) == [
        "WARN low\n  on disk 1", "ERROR it broke\n  at a.b(C.java:1)\n  at a.b(C.java:2)", "INFO well again",
    ]  # fmt: skip


def test_what_is_open_stays_in_the_file_with_all_behind_it() -> None:
    made = builder(parse="cri")
    first, rest = cri(("stdout", "F", "one")), cri(("stdout", "P", "two, "), ("stderr", "F", "three"))
    assert contents(read(made, first + rest, is_over=False)) == ["one"]
    assert contents(read(made, first + rest)) == ["one", "two, ", "three"]
    assert contents(read(made, first + rest + cri(("stdout", "F", "its end")), is_over=False)) == [
        "one", "three", "two, its end",
    ]  # fmt: skip


def test_a_part_whose_end_never_comes_holds_nothing_up_for_longer_than_it_may() -> None:
    made = builder(parse="cri", multiline={"flush_after": "5s"})
    text = cri(("stdout", "P", "broken off")) + cri(("stderr", "F", "later"), second=5)
    assert contents(read(made, text, is_over=False)) == []
    assert contents(read(made, text + cri(("stderr", "F", "still later"), second=6), is_over=False)) == [
        "broken off", "later", "still later",
    ]  # fmt: skip
    many = cri(("stdout", "P", "broken off"), *[("stderr", "F", "x" * 50)] * 20)
    assert len(read(builder(parse="cri", max_line="1000B"), many, is_over=False)) == 21, "or for so many bytes"


def test_a_line_that_is_too_long_is_cut_where_its_parts_are() -> None:
    made = builder(parse="cri", max_line="1000B")
    events = read(made, cri(*[("stdout", "P", "x" * 100)] * 12, ("stdout", "F", "end")))
    assert "".join(contents(events)) == "x" * 1200 + "end"
    assert [event["dimension"].get("truncated") for event in events] == ["true", None]


@pytest.mark.parametrize("form", ["cri", "docker"])
def test_what_no_runtime_wrote_is_taken_as_it_is(form: str) -> None:
    line = "rotated by hand"
    assert contents(read(builder(parse=form), f"{line}\n")) == [line]
    assert read(builder(parse=form, unparsed="drop"), f"{line}\n") == []
    assert read(builder(parse=form, unparsed="dead"), f"{line}\n")[0]["dead"] == "the line does not parse"
    lines = take_lines(f"{line}\n".encode(), UTF8, max_line=1000, at_start=True)
    assert builder(parse=form).make(lines, POD, offset=0, now_ms=NOW_MS).counts.unparsed == 1


def test_empty_lines_of_a_container_are_no_events() -> None:
    assert contents(read(builder(parse="cri"), cri(("stdout", "F", ""), ("stdout", "F", "x")))) == ["x"]
    assert contents(read(builder(parse="cri"), "2026-11-27T10:00:00Z stdout F\n")) == []


def test_fields_of_the_path() -> None:
    path = r"/var/log/pods/(?P<namespace>[^_/]+)_(?P<pod>[^_/]+)_[^/]+/(?P<container>[^/]+)/"
    event = {"dimension": {"ns": "{namespace}", "pod": "{pod}", "container": "{container}"}}
    made = builder(parse={"format": "cri", "path": path}, event=event, where={"namespace": ["shop"]})
    assert read(made, cri(("stdout", "F", "x")))[0]["dimension"] == {"ns": "shop", "pod": "cart-0", "container": "app"}
    other = builder(parse={"format": "cri", "path": path}, where_not={"namespace": ["shop"]})
    assert read(other, cri(("stdout", "F", "x"))) == []
    raw = builder(parse={"path": path}, event=event)
    assert read(raw, "x\n")[0]["dimension"]["pod"] == "cart-0"
    elsewhere = builder(parse={"path": "/nowhere/(?P<pod>.*)"}, event={"dimension": {"pod": "{pod}"}})
    assert read(elsewhere, "x\n")[0]["dimension"] == {"pod": ""}


TEXTS = st.text(alphabet="ab ", max_size=8)
LINES = st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), st.sampled_from("FFP"), TEXTS), max_size=25)


@given(LINES, st.integers(60, 400), st.booleans(), st.sampled_from(["cri", "docker"]))
def test_however_a_file_comes_its_lines_are_the_same(
    lines: list[tuple[str, str, str]], at_once: int, grouped: bool, form: str
) -> None:
    text = {"cri": cri, "docker": docker}[form](*lines)
    rule: dict[str, Any] = {"multiline": {"start": "^a"}} if grouped else {}
    made = builder(parse=form, max_line="100KB", **rule)
    at_first, in_pieces = read(made, text), read(made, text, at_once=at_once)
    assert sorted(contents(in_pieces)) == sorted(contents(at_first))
    for stream in ("stdout", "stderr"):
        said = "".join(part for each, _, part in lines if each == stream)
        made = builder(parse=form, max_line="100KB", where={"stream": [stream]}, **rule)
        assert "".join(contents(read(made, text, at_once=at_once))).replace("\n", "") == said


@given(
    st.lists(st.sampled_from(["one\n", *(CRI.format(0, "stdout", tag, "x") for tag in "FP"), "{", '{"log":1}\n', "\n"]))
)
def test_anything_in_a_file_becomes_something_or_is_blank(pieces: list[str]) -> None:
    for form in ("cri", "docker"):
        read(builder(parse=form), "".join(pieces))
