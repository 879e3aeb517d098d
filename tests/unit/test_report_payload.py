"""What clients of the agent send becomes events; nothing of it is refused, since nobody would hear it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.report import CheckedPayload, Rules, TextRule, check_payload
from tests.support.agent import gsecmdline_line
from tests.support.reports import NOW_MS, event, sample
from tests.support.strategies import weird

RULE = TextRule(event_name="raw", target="0:10.0.0.1")


def check(
    payload: bytes,
    rules: Rules = Rules(),  # noqa: B008
    sent_s: int = 0,
    event_bytes: int = 100_000,
    skew_ms: int = 0,
) -> CheckedPayload:
    return check_payload(
        payload, rules, RULE, sent_s=sent_s, now_ms=NOW_MS, block_bytes=40_000, event_bytes=event_bytes, skew_ms=skew_ms
    )


def taken(checked: CheckedPayload) -> dict[str, list[Any]]:
    return {
        kind: [item for block in blocks for item in json.loads(b"[%b]" % block.body)]
        for kind, blocks in checked.blocks.items()
    }


def test_the_data_of_a_beat_goes_as_it_is() -> None:
    sent = [event(metrics={}), event()]
    checked = check(json.dumps({"dataid": 5, "data": sent, "time": 1}).encode())
    assert taken(checked) == {"event": sent}
    assert not checked.dead


def test_both_kinds_may_come_in_one_frame() -> None:
    one, two = event(), sample()
    assert taken(check(json.dumps({"data": [one, two]}).encode())) == {"event": [one], "time_series": [two]}


@pytest.mark.parametrize(
    ("payload", "contents"),
    [
        (gsecmdline_line("This service is offline."), ["This service is offline."]),
        (b'{"_value_":["a",5,{"b":1}],"_server_":"x"}', ["a", "5", '{"b":1}']),
        (b"bare bytes\n", ["bare bytes"]),
        (b"C string\0", ["C string"]),
        (b"X marks the spot X", ["X marks the spot X"]),
        (b'{"k":0,"_server_":"127.0.0.1"}', ['{"k":0,"_server_":"127.0.0.1"}']),
        (b"[1,2]", ["[1,2]"]),
        (b'"text"', ['"text"']),
        (b"{half", ["{half"]),
        (b"\xff\xfe", ["\ufffd\ufffd"]),
        ("中文".encode(), ["中文"]),
    ],
)
def test_text_becomes_an_event_by_the_rule_of_the_stream(payload: bytes, contents: list[str]) -> None:
    found = taken(check(payload))["event"]
    assert [item["event"]["content"] for item in found] == contents
    assert all((item["event_name"], item["target"]) == ("raw", "0:10.0.0.1") for item in found)


def test_a_single_event_or_sample_is_itself() -> None:
    one, two = event(), sample()
    assert taken(check(json.dumps(one).encode())) == {"event": [one]}
    assert taken(check(json.dumps(two).encode())) == {"time_series": [two]}


@pytest.mark.parametrize(
    ("sent_s", "stamp"),
    [
        (1_600_000_000, 1_600_000_000_000),
        (10**9, 10**12),
        (NOW_MS // 1000 - 1, NOW_MS - 1000),
        (0, NOW_MS),
        (7, NOW_MS),
        (10**9 - 1, NOW_MS),
        (NOW_MS // 1000 + 60, NOW_MS),
        (2**32 - 1, NOW_MS),
    ],
)
def test_text_is_dated_when_it_was_sent_if_that_can_be_true(sent_s: int, stamp: int) -> None:
    assert taken(check(b"x", sent_s=sent_s))["event"][0]["timestamp"] == stamp


@pytest.mark.parametrize(
    ("payload", "repaired"),
    [
        (json.dumps({"data": [event(), event()]}).encode(), False),
        (json.dumps({"data": [event(), 5]}).encode(), False),
        (b"plain text", False),
        (b"plain\ttext", False),
        ("中文".encode(), False),
        (b"latin \xe9", True),
        (json.dumps({"data": [event(event_name="BAD")]}).encode().replace(b"BAD", b"latin \xe9"), True),
        (json.dumps({"data": [event(event_name="BAD"), 5]}).encode().replace(b"BAD", b"latin \xe9"), True),
        (json.dumps({"data": [event(event_name="BAD")]}).encode().replace(b"BAD", b"a\tb"), True),
        (json.dumps({"data": [event(), event(Target=5)]}).encode(), True),
        (json.dumps({"data": [event(Target=5), 5, event()]}).encode(), True),
        (b'{"data":[%b]}' % b",".join([b'"latin \xe9"'] * 5001), True),
    ],
)
def test_it_is_known_whether_something_had_to_be_replaced_or_left_out(payload: bytes, repaired: bool) -> None:
    checked = check(payload)
    assert checked.repaired is repaired
    assert checked.all_dead("unknown").repaired is repaired


def test_an_event_with_bare_control_characters_is_no_text() -> None:
    item = event(event={"content": "one\ttwo\nthree"})
    payload = json.dumps({"data": [item]}).encode().replace(b"\\t", b"\t").replace(b"\\n", b"\n")
    assert taken(check(payload)) == {"event": [item]}


@pytest.mark.parametrize("others", [[], [5]])
@pytest.mark.parametrize(("skew_s", "due"), [(0, True), (7000, False), (-7200, True)])
def test_what_is_from_the_future_waits_by_the_clock_of_the_proxy(skew_s: int, due: bool, others: list[Any]) -> None:
    later = event(timestamp=NOW_MS + 2 * 3_600_000)
    [block] = check(json.dumps({"data": [later, *others]}).encode(), skew_ms=skew_s * 1000).blocks["event"]
    assert block.due_ms == (NOW_MS + 3_600_000 if due else None)


def test_what_is_bad_becomes_a_dead_letter_and_the_rest_goes() -> None:
    good = event()
    checked = check(json.dumps({"data": [good, event(target=""), 5, good]}).encode())
    assert taken(checked) == {"event": [good, good]}
    assert [reason for _, _, reason in checked.dead] == [
        "target: empty, expected a string such as 0:192.168.0.1",
        "expected an object, got 5",
    ]
    assert json.loads(checked.dead[1][1]) == 5


def test_what_cannot_even_be_decoded_is_a_dead_event() -> None:
    assert check(b'{"data":[{"metrics":{"a":1e999}}]}').dead == [
        ("event", b'{"metrics":{"a":1e999}}', "a number is out of range")
    ]


def test_text_for_a_stream_of_time_series_is_dead() -> None:
    checked = check(b"text", Rules(kind="time_series"))
    assert not checked.blocks
    [(kind, body, reason)] = checked.dead
    assert kind == "event"
    assert json.loads(body)["event"]["content"] == "text"
    assert "expected a time series" in reason


def test_text_that_the_proxy_would_not_take_is_cut_and_says_so() -> None:
    for text in ("x" * 500_000, "\0\1" * 250_000, "中" * 200_000):
        [item] = taken(check(text.encode(), event_bytes=20_000))["event"]
        assert item["dimension"] == {"truncated": "true"}
        assert text.strip("\0").startswith(item["event"]["content"])
        assert 2_000 < len(json.dumps(item, ensure_ascii=False).encode()) <= 20_000


def test_text_is_cut_only_if_it_must_be() -> None:
    text = "x" * 30_000
    [block] = check(text.encode()).blocks["event"]
    assert check(text.encode(), event_bytes=len(block.body)).blocks["event"] == [block]
    [item] = taken(check(text.encode(), event_bytes=len(block.body) - 1))["event"]
    assert (item["event"]["content"], item["dimension"]) == (text[:15_000], {"truncated": "true"})
    [item] = taken(check(text.encode() * 20, event_bytes=20_000))["event"]
    assert len(item["event"]["content"]) == 20_000 - 4_096


def test_an_event_that_is_too_large_is_dead() -> None:
    item = event(event={"content": "x" * 30_000})
    size, payload = len(json.dumps(item)), json.dumps({"data": [item, 5]}).encode()
    assert taken(check(payload, event_bytes=size)) == {"event": [item]}
    checked = check(payload, event_bytes=size - 1)
    assert checked.blocks == {}
    assert checked.dead[0][2] == f"{size} bytes, the proxy takes at most {size - 1} for one event"


@pytest.mark.parametrize("depth", [50, 127, 128, 129, 500, 970, 980, 990, 1000, 1100, 5000])
def test_whatever_its_depth_a_payload_is_kept(depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    for payload in (
        b'{"event_name":"n","target":"t","event":{"content":"c","x":%b}}' % deep,
        b'{"data":[{"event_name":"n","target":"t","event":{"content":"c","x":%b}}]}' % deep,
        b'{"_value_":[%b]}' % deep,
        deep,
    ):
        checked = check(payload)
        assert checked.blocks or checked.dead


def test_of_too_many_items_of_which_some_are_bad_one_letter_is_made() -> None:
    checked = check(b'{"data":[%b]}' % b",".join([b"0"] * 100_000))
    assert [(kind, len(json.loads(body))) for kind, body, _ in checked.dead] == [("event", 100_000)]
    assert "100000 items, and some are bad" in checked.dead[0][2]
    assert checked.kinds() == {"event"}
    assert len(check(b'{"data":[%b]}' % b",".join([b"0"] * 5000)).dead) == 5000
    assert sum(b.events for b in check(b'{"_value_":[%b]}' % b",".join([b"0"] * 5000)).blocks["event"]) == 5000
    good = json.dumps(event()).encode()
    assert sum(b.events for b in check(b'{"data":[%b]}' % b",".join([good] * 6000)).blocks["event"]) == 6000
    assert len(check(b'{"_value_":[%b]}' % b",".join([b"0"] * 100_000)).blocks["event"]) == 1


@pytest.mark.parametrize("payload", [b'{"data":[]}', b'{"_value_":[]}'])
def test_nothing_is_nothing(payload: bytes) -> None:
    checked = check(payload)
    assert not checked.blocks
    assert not checked.dead


def test_all_of_it_can_be_made_dead() -> None:
    one, two = event(), sample()
    checked = check(json.dumps({"data": [one, two, 5]}).encode()).all_dead("unknown")
    assert not checked.blocks
    assert {(kind, reason) for kind, _, reason in checked.dead} == {
        ("event", "unknown"), ("time_series", "unknown"), ("event", "expected an object, got 5"),
    }  # fmt: skip
    assert json.loads(checked.dead[0][1]) == one
    assert checked.kinds() == {"event", "time_series"}


@pytest.mark.property
@given(
    st.binary(max_size=60)
    | weird.map(lambda value: json.dumps(value).encode())
    | st.lists(weird, max_size=4).map(lambda found: json.dumps({"data": found, "_value_": found}).encode())
    | st.lists(weird, max_size=4).map(lambda found: json.dumps({"_value_": found}).encode())
)
def test_whatever_comes_is_kept_as_good_json(payload: bytes) -> None:
    checked = check(payload)
    for items in taken(checked).values():
        assert items
    for _, body, reason in checked.dead:
        json.loads(body)
        assert reason
