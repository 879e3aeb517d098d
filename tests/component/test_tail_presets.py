"""Presets on samples of what the programs write: each event with its time and its fields."""

import json
from pathlib import Path
from typing import Any

import pytest

from sidecar.config import Options, load_config, preset_names
from sidecar.config.show import effective
from sidecar.parsing import EventBuilder, FilePlace, LineCounts, take_lines
from sidecar.text.encodings import codec_of
from sidecar.text.regexes import Pattern
from tests.support.builders import builder, tail_of
from tests.support.preset_events import EXPECTED, READ

SAMPLES = Path(__file__).parent.parent / "support" / "presets"
STAMP = {"timezone": "Asia/Shanghai"}


def fields(name: str) -> list[str]:
    rule = tail_of(parse=name).parse.fields
    assert isinstance(rule, Pattern)
    return list(rule.groups)


def events_of(made: EventBuilder, data: bytes) -> tuple[list[dict[str, Any]], LineCounts]:
    lines = take_lines(data, codec_of("utf-8", b""), max_line=262_144, at_start=False)
    built = made.make(lines, FilePlace("/x.log", "h"), offset=0, now_ms=READ, at_end=True)
    assert built.consumed == len(data)
    return [event for block in built.blocks for event in json.loads(b"[%b]" % block.body)], built.counts


def found_in(event: dict[str, Any]) -> dict[str, Any]:
    content, dimension = event["event"]["content"], event["dimension"]
    return {
        **dimension,
        "timestamp": event["timestamp"],
        "content": content,
        "lines": content.rstrip("\n").count("\n") + 1,
        "parsed": any(value for key, value in dimension.items() if key != "host"),
    }


def sample_of(name: str) -> bytes:
    return (SAMPLES / f"{'log4j' if name == 'logback' else name}.log").read_bytes()


@pytest.mark.parametrize("name", preset_names())
def test_what_a_program_writes_becomes_events_with_fields(name: str) -> None:
    dimension = {each: f"{{{each}}}" for each in fields(name)}
    events, counts = events_of(builder(parse=name, event={"timestamp": STAMP, "dimension": dimension}), sample_of(name))
    assert counts.late == 0
    assert len(events) == len(EXPECTED[name])
    for event, wanted in zip(events, EXPECTED[name], strict=True):
        found = found_in(event)
        assert {key: found.get(key) for key in wanted} == wanted, event


def test_each_preset_has_a_sample() -> None:
    assert set(EXPECTED) == set(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_finds_the_same_in_a_container(name: str) -> None:
    """With lines that its runtime has wrapped; the time is then the preset's."""
    wrapped = b"".join(b"2026-11-27T10:00:00Z stdout F %b\n" % line for line in sample_of(name).splitlines())
    stamp = {"timestamp": STAMP}
    plain, _ = events_of(builder(parse=name, event=stamp), sample_of(name))
    inside, _ = events_of(builder(parse={"format": "cri", "then": name}, event=stamp), wrapped)
    assert [(one["event"], one["timestamp"]) for one in inside] == [
        (one["event"], one["timestamp"] if one["timestamp"] != READ else READ) for one in plain
    ]


def shown(tmp_path: Path, tail: dict[str, Any]) -> dict[str, tuple[str, str]]:
    document = {
        "proxy": {"urls": ["http://127.0.0.1:1"]},
        "streams": {"s": {"data_id": 1, "access_token": "t"}},
        "tails": {"t": {"paths": ["/x"], "stream": "s", **tail}},
    }
    path = tmp_path / "c.yml"
    path.write_text(json.dumps(document))
    rows = effective(load_config(Options(config=path, state=tmp_path), {"HOST_IP": "127.0.0.1"}))
    return {row.key.removeprefix("tails.t."): (row.value, row.origin) for row in rows}


def test_check_shows_what_a_preset_comes_to_and_where_it_is_from(tmp_path: Path) -> None:
    rows = shown(tmp_path, {"parse": "redis"})
    assert "(?P<role>" in rows["parse.regex"][0]
    assert rows["parse.regex"][1] == rows["multiline.start"][1] == rows["event.timestamp.format"][1] == "preset redis"


def test_what_the_tail_gives_itself_counts(tmp_path: Path) -> None:
    own = {"multiline": {"continue": "^x"}, "event": {"content": "{message}", "timestamp": {"timezone": "UTC"}}}
    rows = shown(tmp_path, {"parse": {"format": "redis", "path": "/(?P<dir>[^/]*)"}, **own})
    assert (rows["multiline.start"][0], rows["multiline.continue"][0]) == ("-", "^x")
    assert rows["event.timestamp.timezone"][0] == "UTC"
    assert rows["event.timestamp.field"] == ("[time]", "preset redis")
    assert rows["parse.path"][0] == "/(?P<dir>[^/]*)"
    whole = shown(tmp_path, {"parse": "redis", "event": {"timestamp": {"field": "pid", "unit": "s"}}})
    assert whole["event.timestamp.format"][0] == "[]"
    inside = shown(tmp_path, {"parse": {"format": "cri", "then": {"format": "nginx"}}})
    assert inside["parse.then.regex"][1] == "preset nginx"
    assert inside["parse.format"][0] == "cri"
