"""Bare events, one a line: the good ones go, the bad ones are named, and the two ways of checking agree."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.core.errors import Rejected, Rejection
from sidecar.core.model import Kind
from sidecar.report import CheckedLines, Rules, check_items, check_lines
from sidecar.report.fast import judge_plain_lines
from tests.support.reports import NOW_MS, event, growing, report, sample, without
from tests.support.strategies import items

RULES = Rules(default_target="0:10.0.0.1")


def block(*lines: Any) -> bytes:
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


def check(
    *lines: Any, rules: Rules = RULES, block_bytes: int = 40_000, event_bytes: int = 490_000, skew_ms: int = 0
) -> CheckedLines:
    return check_lines(
        block(*lines), rules, now_ms=NOW_MS, block_bytes=block_bytes, event_bytes=event_bytes, skew_ms=skew_ms
    )


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
    assert checked.repaired == 0


@pytest.mark.parametrize(("make", "kind", "other"), [(event, "event", "time_series"), (sample, "time_series", "event")])
def test_plain_lines_are_recognised_as_a_block(make: Any, kind: Kind, other: Kind) -> None:
    """Or each would be looked at one by one, which takes many times as long."""
    lines = block(make(), make(dimension={}), make(dimension={"a": "b"}))
    assert judge_plain_lines(lines, None, NOW_MS) == judge_plain_lines(lines, kind, NOW_MS) == kind
    assert judge_plain_lines(lines, other, NOW_MS) is None


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
    assert told(checked)[1] == "not valid JSON: object keys must be strings (byte 1)"
    assert told(checked)[7] == "dimension.a: expected a string, got an array"
    assert all((why.status, why.scope) == (400, "event") for _, why in checked.rejected)


def test_a_line_that_is_nested_too_deep_and_bad_costs_no_other() -> None:
    good = event()
    bad = block(event(event={"content": "BAD"})).replace(b'"event_name"', b'"z": %b, "event_name"' % nested(2000))
    checked = check(good, bad.replace(b'"BAD"', rb'"\q"')[:-1], good)
    assert taken(checked) == {"event": [good, good]}
    assert [(number, "not valid JSON" in why.problem) for number, why in checked.rejected] == [(1, True)]


def test_a_bad_line_with_a_bare_tab_that_is_nested_too_deep_costs_no_other() -> None:
    good = event()
    checked = check(good, b'{"z":"\t","x":%b}' % nested(2000), good)
    assert taken(checked) == {"event": [good, good]}
    assert [(number, why.status, why.scope) for number, why in checked.rejected] == [(1, 400, "event")]


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


def test_reports_among_events_are_handed_back() -> None:
    line = json.dumps(report(event())).encode()
    checked = check(event(), line, {"stream": "x", "data": []}, event() | {"data": [1]})
    assert [number for number, _ in checked.reports] == [1, 2]
    assert checked.reports[0][1] == line
    assert len(taken(checked)["event"]) == 2


@pytest.mark.parametrize("item", [sample() | {"data": [1]}, {"data": 5}, {"tags": [1]}])
def test_what_is_no_report_is_not_handed_back(item: Any) -> None:
    assert not check(item).reports


def test_a_report_with_a_bare_control_character_is_one() -> None:
    line = json.dumps(report(event())).encode().replace(b"login failed", b"login\tfailed")
    assert check(line).reports == [(0, line)]


@pytest.mark.parametrize("others", [[], [without(event(), "timestamp")]])
@pytest.mark.parametrize(("skew_s", "due"), [(0, True), (7000, False), (-7200, True)])
def test_a_line_from_the_future_waits_by_the_clock_of_the_proxy(skew_s: int, due: bool, others: list[Any]) -> None:
    later = event(timestamp=NOW_MS + 2 * 3_600_000)
    blocks = check(later, *others, skew_ms=skew_s * 1000).blocks["event"]
    [found] = [part.due_ms for part in blocks if later in json.loads(b"[%b]" % part.body)]
    assert found == (NOW_MS + 3_600_000 if due else None)


def test_the_two_kinds_are_kept_apart() -> None:
    assert {kind: len(found) for kind, found in taken(check(event(), sample(), event())).items()} == {
        "event": 2,
        "time_series": 1,
    }
    checked = check(event(), sample(), rules=Rules(kind="time_series"))
    assert [number for number, _ in checked.rejected] == [0]
    assert not check(event(), rules=Rules(kind="time_series")).blocks
    assert not check(sample(), rules=Rules(kind="event")).blocks


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
    size = len(json.dumps(big))
    assert checked.rejected[0][1].problem.endswith(" bytes, the proxy takes at most 2000 for one event")
    assert checked.rejected[0][1].scope == "event"
    assert not check(event(), big, event(), event_bytes=size).rejected
    assert check(event(), big, event(), event_bytes=size - 1).rejected == [
        (1, Rejection(413, f"{size} bytes, the proxy takes at most {size - 1} for one event", (), "event"))
    ]


def test_an_event_that_would_become_too_large_is_refused_alone() -> None:
    checked = check(event(), growing(10**6), event(), event_bytes=2_000_000)
    problem = "grows by over 1000000 bytes when normalised"
    assert checked.rejected == [(1, Rejection(413, problem, ("dimension",), "event"))]
    assert len(taken(checked)["event"]) == 2


@pytest.mark.parametrize("size", [1, 200, 500, 1000, 5000])
def test_blocks_are_cut_between_lines(size: int) -> None:
    sent = [event() for _ in range(20)]
    checked = check(*sent, block_bytes=size)
    assert taken(checked) == {"event": sent}
    longest = max(len(json.dumps(item)) for item in sent)
    assert all(len(part.body) <= max(size, longest) for part in checked.blocks["event"])
    fits = size // (longest + 1)
    assert len(checked.blocks["event"]) <= 20 // max(1, fits) + 1


@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=30),
    st.integers(1, 5),
    st.integers(-1, 1),
    st.booleans(),
)
@example([5, 5, 5], 2, -1, False)
def test_a_block_is_as_full_as_it_can_be(lengths: list[int], lines: int, more: int, plain: bool) -> None:
    """Whether its lines are looked at one by one or not; where the first of them fit just so, or just do not."""
    sent = [event(event={"content": "x" * length}) for length in lengths]
    if not plain:
        sent[0]["more"] = 1
    sizes, first = [len(json.dumps(item)) for item in sent], 0
    block_bytes = sum(sizes[:lines]) + lines - 1 + more
    blocks = check(*sent, block_bytes=block_bytes).blocks["event"]
    for part in blocks:
        behind = first + part.events
        assert len(part.body) == sum(sizes[first:behind]) + part.events - 1
        assert len(part.body) <= block_bytes or part.events == 1
        assert behind == len(sent) or len(part.body) + 1 + sizes[behind] > block_bytes
        first = behind
    assert first == len(sent)


@pytest.mark.parametrize(
    "lines",
    [
        b'{"event_name":"x"\n"target":"t","event":{"content":""},"dimension":{},"timestamp":1587218838000}\n',
        b"{A}{A}\n",
        b"{A},{A}\n",
        b"{A},{A}\n{B}\n{C}\n",
        b'{"event_name":"x}\n{","target":"t","event":{"content":""},"dimension":{},"timestamp":1587218838000}\n',
        b"{A} {A}\n{B\n}\n",
        b"{A},{A}\n{D}\n",
    ],
)
def test_what_is_no_event_on_one_line_is_never_taken_for_one(lines: bytes) -> None:
    good = b'{"event_name":"x","target":"t","event":{"content":""},"dimension":{},"timestamp":1587218838000}'
    half = good.split(b',"dimension"')
    text = lines.replace(b"{A}", good).replace(b"{B}", half[0] + b"}").replace(b"{C}", b'{"dimension"' + half[1])
    text = text.replace(b"{D}", half[0] + b'\n"dimension"' + half[1])
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


@pytest.mark.parametrize("first", [True, False])
def test_a_raw_control_character_is_mended_also_beside_a_field_that_is_nested_too_deep(first: bool) -> None:
    """Each of the two alone is taken, and so is the event in a report."""
    deep, text = b'"x":' + b"[" * 2000 + b"]" * 2000, json.dumps(event(event={"content": "a\tb"})).encode()
    text = text.replace(rb"\t", b"\t")
    line = b"{" + deep + b"," + text[1:] if first else text[:-1] + b"," + deep + b"}"
    checked = check(line)
    assert not checked.rejected
    assert taken(checked)["event"][0]["event"]["content"] == "a\tb"
    assert checked.repaired == 1
