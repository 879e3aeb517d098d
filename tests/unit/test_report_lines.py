"""Bare events, one a line: the good ones go, the bad ones are named, and the two ways of checking agree."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.errors import Rejected
from sidecar.report import CheckedLines, Rules, check_items, check_lines
from sidecar.report.fast import judge_plain_lines
from tests.support.reports import NOW_MS, event, report, sample, without
from tests.support.strategies import items

RULES = Rules(default_target="0:10.0.0.1")


def block(*lines: Any) -> bytes:
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


def check(*lines: Any, rules: Rules = RULES, block_bytes: int = 40_000, event_bytes: int = 490_000) -> CheckedLines:
    return check_lines(block(*lines), rules, now_ms=NOW_MS, block_bytes=block_bytes, event_bytes=event_bytes)


def taken(checked: CheckedLines) -> dict[str, list[Any]]:
    for blocks in checked.blocks.values():
        assert all(len(json.loads(b"[%b]" % part.body)) == part.events for part in blocks)
    return {
        kind: [item for part in blocks for item in json.loads(b"[%b]" % part.body)]
        for kind, blocks in checked.blocks.items()
    }


def told(checked: CheckedLines) -> dict[int, str]:
    """Return what is wrong with lines, by their number."""
    return {number: why.message for number, why in checked.rejected}


def test_plain_events_travel_as_they_came() -> None:
    first, second = event(), event()
    checked = check(first, second)
    assert [part.body for part in checked.blocks["event"]] == [block(first, second)[:-1].replace(b"\n", b",")]
    assert not checked.rejected
    assert not checked.reports


def test_a_missing_target_and_timestamp_are_filled_in() -> None:
    checked = check(without(event(), "target", "timestamp"))
    [item] = taken(checked)["event"]
    assert (item["target"], item["timestamp"]) == ("0:10.0.0.1", NOW_MS)


def test_each_bad_line_is_named_and_the_others_go() -> None:
    good = event()
    checked = check(good, b"{bad", event(target=5), good, b"[]", b"null", b"\xff{", event(dimension={"a": []}))
    assert taken(checked) == {"event": [good, good]}
    assert [number for number, _ in checked.rejected] == [1, 2, 4, 5, 6, 7]
    assert told(checked)[2] == "target: expected a string, got 5"
    assert told(checked)[4] == "expected an object, got an array"
    assert told(checked)[1].startswith("not valid JSON")
    assert told(checked)[7] == "dimension.a: expected a string, got an array"


def test_a_line_that_is_nested_too_deep_and_bad_costs_no_other() -> None:
    good = event()
    bad = block(event(event={"content": "BAD"})).replace(b'"event_name"', b'"z": %b, "event_name"' % nested(2000))
    checked = check(good, bad.replace(b'"BAD"', rb'"\q"')[:-1], good)
    assert taken(checked) == {"event": [good, good]}
    assert [(number, "not valid JSON" in why.problem) for number, why in checked.rejected] == [(1, True)]


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def test_reports_among_events_are_handed_back() -> None:
    line = json.dumps(report(event())).encode()
    checked = check(event(), line, {"stream": "x", "data": []}, event() | {"data": [1]})
    assert [number for number, _ in checked.reports] == [1, 2]
    assert checked.reports[0][1] == line
    assert len(taken(checked)["event"]) == 2


def test_the_two_kinds_are_kept_apart() -> None:
    assert {kind: len(found) for kind, found in taken(check(event(), sample(), event())).items()} == {
        "event": 2,
        "time_series": 1,
    }
    checked = check(event(), sample(), rules=Rules(kind="time_series"))
    assert [number for number, _ in checked.rejected] == [0]


def test_mangled_characters_are_replaced_and_counted() -> None:
    checked = check(json.dumps(event()).encode().replace(b"login failed", b"login \xff"), b'{"event_name":"\\ud800",'
                    b'"event":{"content":""},"dimension":{},"timestamp":0}')  # fmt: skip
    assert checked.repaired == 2
    names = [item["event_name"] for item in taken(checked)["event"]]
    assert names == ["login_failed", "\ufffd"]


def test_an_event_that_is_too_large_is_refused_alone() -> None:
    big = event(event={"content": "x" * 3000})
    checked = check(event(), big, event(), event_bytes=2000)
    assert [number for number, _ in checked.rejected] == [1]
    assert "the proxy takes at most 2000 for one event" in checked.rejected[0][1].problem


@pytest.mark.parametrize("size", [1, 200, 500, 1000, 5000])
def test_blocks_are_cut_between_lines(size: int) -> None:
    sent = [event() for _ in range(20)]
    checked = check(*sent, block_bytes=size)
    assert taken(checked) == {"event": sent}
    longest = max(len(json.dumps(item)) for item in sent)
    assert all(len(part.body) <= max(size, longest) for part in checked.blocks["event"])
    fits = size // (longest + 1)
    assert len(checked.blocks["event"]) <= 20 // max(1, fits) + 1


@pytest.mark.parametrize(
    "lines",
    [
        b'{"event_name":"x"\n"target":"t","event":{"content":""},"dimension":{},"timestamp":1587218838000}\n',
        b"{A}{A}\n",
        b"{A},{A}\n",
        b"{A},{A}\n{B}\n{C}\n",
        b'{"event_name":"x}\n{","target":"t","event":{"content":""},"dimension":{},"timestamp":1587218838000}\n',
        b"{A} {A}\n{B\n}\n",
    ],
)
def test_what_is_no_event_on_one_line_is_never_taken_for_one(lines: bytes) -> None:
    good = b'{"event_name":"x","target":"t","event":{"content":""},"dimension":{},"timestamp":1587218838000}'
    half = good.split(b',"dimension"')
    text = lines.replace(b"{A}", good).replace(b"{B}", half[0] + b"}").replace(b"{C}", b'{"dimension"' + half[1])
    assert judge_plain_lines(text, None, NOW_MS) is None


@pytest.mark.property
@given(
    st.lists(items(("event_name", "target", "event", "dimension", "timestamp")), min_size=1, max_size=6),
    st.sampled_from([None, "event", "time_series"]),
    st.integers(1, 3000),
)
def test_a_block_is_judged_as_its_lines_are_one_by_one(sent: list[Any], kind: Any, block_bytes: int) -> None:
    rules = Rules(kind=kind, default_target="0:10.0.0.1")
    checked = check(*sent, rules=rules, block_bytes=block_bytes)
    refused, reports = told(checked), dict(checked.reports)
    expected: dict[str, list[Any]] = {}
    for number, item in enumerate(sent):
        if number in reports:
            continue
        line = json.dumps(item).encode()
        try:
            alone = check_items(b"[%b]" % line, rules, now_ms=NOW_MS, block_bytes=10**6, event_bytes=490_000)
        except Rejected:
            assert number in refused
            continue
        assert number not in refused
        expected.setdefault(alone.kind, []).extend(json.loads(b"[%b]" % alone.blocks[0].body))
    found = taken(checked)
    assert {kind: sorted(map(json.dumps, group)) for kind, group in found.items()} == {
        kind: sorted(map(json.dumps, group)) for kind, group in expected.items()
    }
