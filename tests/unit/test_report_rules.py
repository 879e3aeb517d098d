"""Every rule by name: what is refused and with which words, and what is changed and how."""

import json
from typing import Any

import msgspec
import pytest

from sidecar.core.errors import Rejected
from sidecar.report import Checked, Rules, check_items, open_envelope
from tests.support.reports import DATA_ID, NOW_MS, dump, event, growing, report, sample, without


def take(*items: Any, **rules: Any) -> list[Any]:
    """The items as they would be sent."""
    return json.loads(take_raw(dump(report(*items)), **rules))


def take_raw(body: bytes, **rules: Any) -> bytes:
    data = open_envelope(body).data
    blocks = check_items(data, Rules(**rules), now_ms=NOW_MS, block_bytes=62_000, event_bytes=400_000).blocks
    return b"[" + b",".join(block.body for block in blocks) + b"]"


def checked(body: bytes, **rules: Any) -> Checked:
    return check_items(open_envelope(body).data, Rules(**rules), now_ms=NOW_MS, block_bytes=62_000, event_bytes=400_000)


def refusal(body: bytes, **rules: Any) -> tuple[int, str]:
    with pytest.raises(Rejected) as refused:
        take_raw(body, **rules)
    return refused.value.why.status, refused.value.why.message


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (event(dimension={"module": ["db"]}), ".dimension.module: expected a string, got an array"),
        (event(dimension={"module": {}}), ".dimension.module: expected a string, got an object"),
        (event(dimension=[]), ".dimension: expected an object, got an array"),
        (event(dimension=None), ".dimension: expected an object, got null"),
        (without(event(), "target"), ".target: missing, expected a string such as 0:192.168.0.1"),
        (event(target=""), ".target: empty, expected a string such as 0:192.168.0.1"),
        (event(target=5), ".target: expected a string, got 5"),
        (event(target=None), ".target: expected a string, got null"),
        (without(event(), "event_name"), ".event_name: missing, expected a string"),
        (event(event_name=1.5), ".event_name: expected a string, got 1.5"),
        (without(event(), "event"), ".event: missing, expected an object"),
        (event(event="login"), ".event: expected an object, got a string"),
        (event(event={}), ".event.content: missing"),
        (event(timestamp="1587218838000"), ".timestamp: expected milliseconds since 1970, got a string"),
        (event(timestamp=True), ".timestamp: expected milliseconds since 1970, got a boolean"),
        (event(timestamp=None), ".timestamp: expected milliseconds since 1970, got null"),
        (
            event(timestamp=1587218838),
            ".timestamp: 1587218838 has ten digits: seconds; expected 13-digit milliseconds, 1587218838000",
        ),
        (
            event(timestamp=10**9),
            ".timestamp: 1000000000 has ten digits: seconds; expected 13-digit milliseconds, 1000000000000",
        ),
        (event(timestamp=10**10 - 1), ".timestamp: 9999999999 has ten digits"),
        *(
            (
                event(timestamp=stamp),
                f".timestamp: expected 13-digit milliseconds since 1970, such as 1700000000000, got {shown}",
            )
            for stamp, shown in [
                (15872188380, "15872188380"),
                (-1, "-1"),
                (10**9 - 1, "999999999"),
                (10**10, "10000000000"),
                (10**12 - 1, "999999999999"),
                (10**13, "10000000000000"),
                (10**23, "1" + "0" * 23),
                (10**24, "a number"),
                (-(10**23), "a number"),
            ]
        ),
        (event(timestamp=10**13 - 1), ".timestamp: 8299999999 s in the future"),
        (
            event(timestamp=NOW_MS + 3_600_000 + 7 * 86_400_000 + 1000),
            ".timestamp: 608401 s in the future; the proxy takes at most 3600 s, and it can wait 604800 s",
        ),
        (event(event={"content": "x", "n": [1, 10**400]}), ".event.n[1]: a number is out of range"),
        (sample(metrics={}), ".metrics: empty"),
        (sample(metrics=[1]), ".metrics: expected an object of names and numbers, got an array"),
        (sample(metrics={"cpu": "high"}), ".metrics.cpu: expected a number, got a string"),
        (sample(metrics={"cpu": True}), ".metrics.cpu: expected a number, got a boolean"),
        (sample(metrics={"cpu": None}), ".metrics.cpu: expected a number, got null"),
        (
            sample(metrics={"cpu-load": 1}),
            '.metrics."cpu-load": expected a name of letters, digits and _ that does not begin with a digit',
        ),
        (
            sample(dimension={"1st": "x"}),
            '.dimension."1st": expected a name of letters, digits and _ that does not begin with a digit',
        ),
        (sample(target=None), ".target: expected a string, got null"),
        (event(dimension={"x" * 5000: []}), "x...: expected a string, got an array"),
        ("an item", ": expected an object, got a string"),
        (None, ": expected an object, got null"),
    ],
)
def test_a_bad_item_is_named_with_its_field(item: Any, message: str) -> None:
    good = sample() if isinstance(item, dict) and "metrics" in item else event()
    status, words = refusal(dump(report(good, good, good, item)))
    assert status == 400
    assert words.startswith("data[3]")
    assert message in words
    assert len(words) < 400


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "body: empty, expected a report such as"),
        (b"   ", 400, "body: not valid JSON"),
        (b"hello", 400, "body: not valid JSON"),
        (b"[]", 400, "body: expected a JSON object, got `array`"),
        (b"null", 400, "body: expected a JSON object"),
        (b'{"data_id":1', 400, "body: not valid JSON: Input data was truncated"),
        (b'{"data_id":1}trailing', 400, "body: not valid JSON"),
        (dump(report(event())) * 2, 400, "body: not valid JSON"),
        (b'{"data":[]}', 400, "data_id: missing, expected a positive integer (or `stream` with a configured name)"),
        (dump(report(event(), data_id=0)), 400, "data_id: expected a positive integer, got 0"),
        (dump(report(event(), data_id=-5)), 400, "data_id: expected a positive integer, got -5"),
        (dump(report(event()) | {"data_id": "1500006"}), 400, "data_id: expected a positive integer, got a string"),
        (dump(report(event()) | {"data_id": True}), 400, "data_id: expected a positive integer, got a boolean"),
        (dump(report(event()) | {"data_id": 1.0}), 400, "data_id: expected a positive integer, got 1.0"),
        (
            dump(report(event()) | {"data_id": 2**31}),
            400,
            "data_id: 2147483648 is no pipe of any proxy; expected at most",
        ),
        (dump(report(event()) | {"access_token": 5}), 400, "access_token: expected a string, got 5"),
        (dump(report(event(), token="x" * 513)), 400, "access_token: 513 characters, expected at most 512"),
        (dump({"stream": 5, "data": [event()]}), 400, "stream: expected a string, got 5"),
        (b'{"data_id":1,"access_token":"x"}', 400, "data: missing, expected an array of items"),
        (b'{"data_id":1,"x":1}', 400, "data: missing, expected an array of items"),
        *(
            (b'{"data_id":1,"data":%b}' % text, 400, f"data: expected an array, got {shown}")
            for text, shown in [
                (b"{}", "an object"),
                (b"null", "null"),
                (b"true", "a boolean"),
                (b"false", "a boolean"),
                (b'"x"', "a string"),
                (b"7", "a number"),
                (b"-7", "a number"),
            ]
        ),
        (dump(report()), 400, "data: empty, expected at least one item"),
        (b'{"data_id":1,"data":[{"target":"x","metrics":{"a":NaN}}]}', 400, "not valid JSON"),
        (b'{"data_id":1,"data":[{"target":"x","metrics":{"a":Infinity}}]}', 400, "not valid JSON"),
        (b'{"data_id":1,"data":[{"target":"x","metrics":{"a":-Infinity}}]}', 400, "not valid JSON"),
        (b'{"data_id":1,"data":[{"target":"x","metrics":{"a":1e999}}]}', 400, "data[0]: a number is out of range"),
        (b'{"data_id":1,"data":[{"target":"x","metrics":{"a":1%s}}]}' % (b"0" * 400), 400, "out of range"),
        (b'{"data_id":1,"data":' + b"[" * 5000 + b"]" * 5000 + b"}", 400, "nested"),
        (b'{"data_id":' + b"[" * 5000 + b"]" * 5000 + b',"data":[]}', 400, "data_id: nested too deep"),
        (
            b'{"data_id":1,"data":[' + b"[" * 5000 + b"]" * 5000 + b" {}]}",
            400,
            "data: nested too deep, and expected a comma or ], and then the end",
        ),
        (
            b'{"data_id":1,"data":[{"event":' + b"[" * 5000 + b"]" * 5000 + b"}]}",
            400,
            "data[0].event: nested deeper than 128 levels",
        ),
        (b'{"data_id":1,"x":' + b"[" * 10_001 + b"]" * 10_001 + b',"data":[]}', 400, "nested deeper than 10000"),
        (
            b'{"data_id":1,"x":' + b"[" * 5000 + b"]" * 5000 + b',"y":"' + b"x" * 300_000 + b'","data":[]}',
            400,
            "body: nested too deep, and too large to be looked through: over 262144 bytes",
        ),
        (b'{"data_id":1,"access_token":"x","data":["\\q"]}', 400, "not valid JSON: invalid escaped character"),
        (b'{"data_id":1,"access_token":"x","x":"\\q","data":["\\q"]}', 400, "data: not valid JSON: invalid escaped"),
        (b'{"data_id":"\\q","access_token":"x","data":[]}', 400, "data_id: not valid JSON: invalid escape"),
        (b'{"data_id":1,"DATA_ID":"x","data":[]}', 400, "data_id: expected a positive integer, got a string"),
        (dump(report(event(event={"content": "x" * 400_001}))), 413, "the proxy takes at most 400000 for one event"),
    ],
)
def test_a_bad_report_is_told_what_would_be_right(body: bytes, status: int, message: str) -> None:
    found = refusal(body)
    assert found[0] == status
    assert message in found[1]


def test_what_is_just_within_the_limits_is_taken() -> None:
    envelope = open_envelope(dump(report(event(), data_id=2**31 - 1, token="x" * 512)))
    assert (envelope.data_id, len(envelope.token)) == (2**31 - 1, 512)
    latest_ms = NOW_MS + 7 * 86_400_000 + 3_600_000
    assert take(event(timestamp=latest_ms))[0]["timestamp"] == latest_ms
    assert ".timestamp: 608400 s in the future" in refusal(dump(report(event(timestamp=latest_ms + 1))))[1]


@pytest.mark.parametrize("left_out", ["", "timestamp"])
def test_an_event_may_be_as_large_as_the_proxy_takes_and_no_larger(left_out: str) -> None:
    big = event(event={"content": "x" * 1000}, timestamp=NOW_MS)
    size = len(msgspec.json.encode(big))
    data = b"[%b,%b]" % (dump(event()), msgspec.json.encode(without(big, left_out)))
    limits = {"now_ms": NOW_MS, "block_bytes": 62_000}
    assert len(check_items(data, Rules(), event_bytes=size, **limits).blocks) == 1
    with pytest.raises(Rejected) as refused:
        check_items(data, Rules(), event_bytes=size - 1, **limits)
    message = f"data[1]: {size} bytes, the proxy takes at most {size - 1} for one event"
    assert (refused.value.why.status, refused.value.why.message) == (413, message)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([growing(400_000), growing(400_000), growing(200_000)], None),
        (
            [growing(400_000), growing(400_000), growing(200_001)],
            "data[2]: the report grows by over 1000000 bytes when normalised",
        ),
        ([growing(990_289)], None),  # with a million digits
        ([growing(990_290)], "data[0].dimension: grows by over 1000000 bytes when normalised"),
        ([dump(without(event(), "timestamp"))] * 10_000, None),  # a large report, but it hardly grows
    ],
)
def test_a_small_report_does_not_become_a_huge_one(items: list[bytes], message: str | None) -> None:
    data, limits = b"[%b]" % b",".join(items), {"now_ms": NOW_MS, "block_bytes": 62_000, "event_bytes": 2_000_000}
    if message is None:
        assert sum(block.events for block in check_items(data, Rules(), **limits).blocks) == len(items)
    else:
        with pytest.raises(Rejected) as refused:
            check_items(data, Rules(), **limits)
        assert (refused.value.why.status, refused.value.why.message) == (413, message)


def test_a_good_report_travels_as_the_bytes_it_came_in() -> None:
    item = b'{ "event_name": "a","target":"0:1","event":{"content":"\\u4e2d\xe4\xb8\xad"},"dimension":{},"timestamp":1587218838000}'  # noqa: E501
    body = b'{"data_id":1,"access_token":"t","data":[ %b , %b ]}' % (item, item)
    assert take_raw(body) == b"[%b , %b]" % (item, item)
    item = item.replace(b'"dimension":{},', b"")
    assert take_raw(b'{"data_id":1,"access_token":"t","data":[%b]}' % item) == b"[%b]" % item


def test_unknown_fields_survive() -> None:
    item = event(trace={"id": [1, 2.50]}, event={"content": "x", "extra": None})
    assert take(item) == [item]


def test_what_needs_no_change_keeps_its_bytes_beside_what_does() -> None:
    odd = b'{"event_name":"a","target":"0:1","event":{"content":"c"},"x":1.50,"dimension":{},"timestamp":1587218838000}'
    body = b'{"data_id":1,"access_token":"t","data":[%b,%b]}' % (odd, dump(without(event(), "timestamp")))
    assert odd in take_raw(body)


def test_a_missing_or_zero_timestamp_is_stamped_on_acceptance() -> None:
    for item in (without(event(), "timestamp"), event(timestamp=0), event(timestamp=0.0)):
        assert take(item)[0]["timestamp"] == NOW_MS


def test_seconds_are_converted_where_the_stream_says_so() -> None:
    assert take(event(timestamp=1587218838), timestamps="convert")[0]["timestamp"] == 1587218838000
    assert take(event(timestamp=1587218838.25), timestamps="convert")[0]["timestamp"] == 1587218838250


def test_a_fraction_of_a_millisecond_is_cut_off() -> None:
    assert take(event(timestamp=1587218838000.7))[0]["timestamp"] == 1587218838000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (5, "5"), (-1.5, "-1.5"), (1e21, "1000000000000000000000"), (1e-7, "0.0000001"), (0.1, "0.1"), (100.0, "100"),
        (True, "true"), (False, "false"), (2**53, "9007199254740992"), (2**53 + 1, "9007199254740992"),
        (1234567890123456789, "1234567890123456800"), (-(2**63), "-9223372036854776000"),
    ],
)  # fmt: skip
def test_dimensions_become_strings_as_the_proxy_writes_them(value: Any, text: str) -> None:
    assert take(event(dimension={"n": value}))[0]["dimension"] == {"n": text}


def test_null_dimensions_are_left_out_and_an_absent_dimension_stays_absent() -> None:
    assert take(event(dimension={"a": None, "b": "x", "c": None, "d": 5}))[0]["dimension"] == {"b": "x", "d": "5"}
    assert "dimension" not in take(without(event(), "dimension"))[0]


def test_an_absent_target_is_filled_in_only_where_the_operator_said_with_what() -> None:
    assert take(without(event(), "target"), default_target="0:10.0.0.1")[0]["target"] == "0:10.0.0.1"
    assert take(without(sample(), "target"), default_target="0:10.0.0.1")[0]["target"] == "0:10.0.0.1"


def test_an_empty_target_is_good_enough_for_a_time_series() -> None:
    assert take(sample(target=""))[0]["target"] == ""


def test_the_kind_of_a_stream_is_held_to() -> None:
    assert "data[0]: expected a time series, got an event" in refusal(dump(report(event())), kind="time_series")[1]
    assert "data[0]: expected an event, got a time series" in refusal(dump(report(sample())), kind="event")[1]
    assert "data[1]: expected an event, got a time series" in refusal(dump(report(event(), sample())))[1]


def test_duplicate_keys_the_last_one_wins_and_only_it_is_sent() -> None:
    text = dump(event()).decode().replace('"target"', '"target": "0:1.1.1.1", "target"')
    text = text.replace('"module"', '"module": "first", "m\\u006fdule"')
    body = f'{{"data_id": 1, "access_token": "t", "data": [{text}]}}'.encode()
    sent = take_raw(body)
    assert sent.count(b'"target"') == 1
    assert json.loads(sent)[0]["target"] == "0:192.168.0.1"
    assert json.loads(sent)[0]["dimension"]["module"] == "db"


def nested(levels: int) -> bytes:
    return b'{"d":' * levels + b'"x"' + b"}" * levels


def test_a_hundred_levels_are_taken_and_two_hundred_are_not() -> None:
    for deep in (json.loads(nested(100)), json.loads(nested(126))):  # with the item and `event` they are 128
        assert take(event(event={"content": "x", "extra": deep}))[0]["event"]["extra"] == deep
    assert "nested deeper" in refusal(dump(report(event(event={"content": "x", "extra": json.loads(nested(127))}))))[1]
    body = dump(report(event(event={"content": "x", "extra": json.loads(nested(200))})))
    assert "data[0].event.extra.d.d" in refusal(body)[1]
    assert "nested deeper than 128 levels" in refusal(body)[1]


@pytest.mark.parametrize("levels", [130, 900, 5000])
def test_a_field_that_nobody_looks_at_is_left_out_if_it_is_nested_too_deep(levels: int) -> None:
    item = event()
    body = dump(report(item)).replace(b'"event_name"', b'"extra": %b, "event_name"' % nested(levels))
    assert json.loads(take_raw(body)) == [item]
    assert checked(body).repaired


@pytest.mark.parametrize(("bad", "place"), [({"event": {"content": "BAD"}}, "event"), ({"extra": ["BAD"]}, "extra")])
def test_what_is_bad_behind_a_field_nested_too_deep_is_refused_as_anywhere(bad: dict[str, Any], place: str) -> None:
    item = dump(event(**bad)).replace(b'"event_name"', b'"z": %b, "event_name"' % nested(2000))
    status, message = refusal(b'{"data_id":1,"data":[%b]}' % item.replace(b'"BAD"', rb'"\q"'))
    assert (status, message.split(" (")[0]) == (
        400,
        f"data[0].{place}: not valid JSON: invalid escape character in string",
    )


def test_depth_at_the_top_level_is_no_reason_to_refuse() -> None:
    item = event()
    body = dump(report(item, more="HERE")).replace(b'"HERE"', nested(5000))
    assert json.loads(take_raw(body)) == [item]


@pytest.mark.parametrize("more", [{"stream": 5}, {"stream": {}}, {"Stream": "x"}, {"STREAM": 5}])
def test_what_is_a_field_like_any_other_to_the_proxy_is_no_reason_to_refuse(more: dict[str, Any]) -> None:
    envelope = open_envelope(dump(report(event()) | more))
    assert (envelope.data_id, envelope.stream) == (DATA_ID, None)
    envelope = open_envelope(dump(report(event()) | more | {"stream": "name"}))
    assert (envelope.data_id, envelope.stream) == (DATA_ID, "name")


def test_a_large_report_may_have_nulls() -> None:
    item = event(event={"content": "x" * 300_000})
    assert open_envelope(dump({"data_id": 5, "access_token": None, "data": [item]})).token == ""
    assert open_envelope(dump({"access_token": None, "Data_Id": 5, "data": [event()]})).data_id == 5
    envelope = open_envelope(dump({"stream": "name", "more": 1, "data": [item]}))
    assert (envelope.data_id, envelope.stream) == (None, "name")
    with pytest.raises(Rejected, match="a field is repeated or null, and too large to be looked through"):
        open_envelope(dump({"data_id": 5, "data": [item]}).replace(b'"data_id": 5', b'"data_id": 5, "data_id": null'))


@pytest.mark.parametrize("bad", [b"\\\n", b"\\\t", b"\n\\\n"])
def test_a_control_character_behind_a_backslash_is_no_escape(bad: bytes) -> None:
    """To make it one would change what was said: a backslash and an `n`."""
    body = dump(report(event(event={"content": "HERE"}))).replace(b"HERE", bad)
    assert "not valid JSON" in refusal(body)[1]


KNOWN = ("event_name", "target", "event", "dimension", "timestamp", "metrics")


@pytest.mark.parametrize("name", [*map(str.title, KNOWN), *map(str.upper, KNOWN), "tARGET"])
@pytest.mark.parametrize("value", [None, "x", 5, {}, {"a": 1}, []], ids=json.dumps)
@pytest.mark.parametrize("make", [event, sample])
def test_a_key_that_differs_from_a_known_one_by_case_is_left_out(make: Any, name: str, value: Any) -> None:
    """The proxy would take it for the known one when it decodes the item a second time, and lose the whole report."""
    item = make()
    body = dump(report(item, item | {name: value}))
    assert json.loads(take_raw(body)) == [item, item]
    assert checked(body).repaired


@pytest.mark.parametrize("name", ["eventName", "event-name", "Dimensions", "time", "dimen\u017fion", "t\u0131mestamp"])
def test_other_keys_that_only_look_alike_stay(name: str) -> None:
    item = event(**{name: 5})
    assert take(item) == [item]


def test_raw_control_characters_in_strings_are_escaped() -> None:
    """As a shell script sends them: `"content":"$(tail -n 3 log)"`."""
    text = 'one\n\ttwo \x01 \\ "quoted"\r\nthree'
    body = (
        dump(report(event(event={"content": text})))
        .replace(b"\\n", b"\n")
        .replace(b"\\t", b"\t")
        .replace(b"\\r", b"\r")
    )
    body = body.replace(b"\\u0001", b"\x01")
    assert b"\x01" in body
    assert json.loads(take_raw(body))[0]["event"]["content"] == text
    assert open_envelope(body).repaired
    two = body.replace(b"login_failed", b"login\nfailed")
    [item] = json.loads(take_raw(two))
    assert (item["event_name"], item["event"]["content"]) == ("login\nfailed", text)


@pytest.mark.parametrize(
    "body",
    [
        b'{"DATA_ID":7,"Access_Token":"t","Data":ITEMS}',
        b'{"data_id":7,"access_token":"t","data":ITEMS,"data_id":null}',
        b'{"data_id":7,"access_token":"t","data":ITEMS,"access_token":null}',
        b'{"data_id":7,"access_token":"t","data":ITEMS,"d\\u0061ta_id":null}',
        b'{"x":1,"data_id":7,"access_token":"t","data":ITEMS,"data_id":null}',
        b'{"data_id":6,"data_id":7,"access_token":"t","access_token":null,"data_id":null,"data":ITEMS}',
        b'{"data_id":7,"access_token":"t","data":null,"data":ITEMS}',
        b'{"data_id":7,"access_token":"t","data":ITEMS,"data":null}',
        b'{"Data_Id":6,"data_id":7,"access_token":"t","data":[],"DATA":ITEMS}',
        b'{"x":"\\q \\u12","data_id":7,"access_token":"t","data":ITEMS}',
        b'{"data_id":7,"x":{"y":["]}",1]},"access_token":"t","data":ITEMS}',
        b' { "data_id" : 7 , "X" : null , "access_token" : "t" , "data" : ITEMS } ',
    ],
)
def test_the_top_level_is_read_as_the_proxy_reads_it(body: bytes) -> None:
    item = event()
    body = body.replace(b"ITEMS", dump([item]))
    envelope = open_envelope(body)
    assert (envelope.data_id, envelope.token) == (7, "t")
    assert json.loads(take_raw(body)) == [item]


def test_an_item_with_metrics_and_an_event_that_is_none_is_a_time_series() -> None:
    item = sample(event={"more": 1})
    assert checked(dump(report(item))).kind == "time_series"
    assert take(item) == [item]
    assert checked(dump(report(sample(event_name="x")))).kind == "time_series"
    assert checked(dump(report(sample(event={"content": "x"})))).kind == "time_series"
    assert refusal(dump(report(sample(metrics={}))))[1].startswith("data[0].metrics: empty")
    assert refusal(dump(report(event(metrics={}, event_name=5))))[1] == "data[0].event_name: expected a string, got 5"
    assert checked(dump(report(event(metrics={})))).kind == "event"
    assert checked(dump(report(event(metrics={"a": 1})))).kind == "event"
    assert take(item, kind="time_series") == [item]


def test_big_integers_keep_their_digits() -> None:
    assert str(2**63) in take_raw(dump(report(event(extra=2**63)))).decode()
    assert take(sample(metrics={"n": 2**64}))[0]["metrics"]["n"] == 2**64


def test_a_byte_order_mark_is_ignored() -> None:
    body = dump(report(event()))
    assert take_raw(b"\xef\xbb\xbf" + body) == take_raw(body)


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (rb"half \ud83d", "half \ufffd"),
        (rb"half \udca9", "half \ufffd"),
        (rb"whole \ud83d\udca9", "whole \U0001f4a9"),
        (rb"text \\ud83d", r"text \ud83d"),
        (rb"both \\\ud83d", "both \\\ufffd"),
        ("whole \u4e2d".encode(), "whole \u4e2d"),
        (b"latin \xe9", "latin \ufffd"),
        (b"cesu \xed\xa0\xbd\xed\xb2\xa9", "cesu " + "\ufffd" * 6),
        (b"overlong \xc0\x80", "overlong \ufffd\ufffd"),
    ],
)
def test_characters_that_are_none_become_replacement_characters(content: bytes, sent: str) -> None:
    body = dump(report(event(event={"content": "HERE"}))).replace(b"HERE", content)
    assert json.loads(take_raw(body))[0]["event"]["content"] == sent
    assert open_envelope(body).repaired == ("\ufffd" in sent)


@pytest.mark.parametrize("mangled", [False, True])
@pytest.mark.parametrize(
    "body",
    [
        b'{"data_id":7,"data":["TEXT"]}',
        b'{"data_id":7,"data":["TEXT"],"more":1}',
        b'{"data_id":7,"data":["TEXT"],"more":%b}' % (b"[" * 5000 + b"]" * 5000),
        b'{"data_id":7,"data":["TEXT"],"more":"\\q"}',
        b'{"data_id":"\\q","data_id":7,"data":["TEXT"]}',
        b'{"data_id":7,"data":["TEXT"],"data":null}',
        b'{"data_id":7,"data":["TEXT"],"DATA":null}',
    ],
)
def test_however_a_report_is_read_it_is_known_whether_characters_were_replaced(body: bytes, mangled: bool) -> None:
    envelope = open_envelope(body.replace(b"TEXT", b"latin \xe9" if mangled else b"ascii"))
    assert envelope.data == ('["latin \ufffd"]'.encode() if mangled else b'["ascii"]')
    assert envelope.repaired is mangled


def test_ten_thousand_items_are_cut_into_blocks_that_fit() -> None:
    body = dump(report(*[event() for _ in range(10_000)]))
    data = open_envelope(body).data
    blocks = check_items(data, Rules(), now_ms=NOW_MS, block_bytes=62_000, event_bytes=400_000).blocks
    assert sum(block.events for block in blocks) == 10_000
    assert max(len(block.body) for block in blocks) <= 62_000
    assert len(blocks) < 1.1 * len(body) / 62_000 + 1


def test_events_dated_in_the_future_wait_for_their_time_apart_from_the_others() -> None:
    hour_ms = 3_600_000
    ahead = [hour_ms + 1000, 0, 2 * hour_ms, hour_ms + 4000, hour_ms]
    data = json.dumps([event(event_name=str(n), timestamp=NOW_MS + ms) for n, ms in enumerate(ahead)]).encode()
    blocks = check_items(data, Rules(), now_ms=NOW_MS, block_bytes=62_000, event_bytes=400_000).blocks
    names = [[item["event_name"] for item in json.loads(b"[%b]" % block.body)] for block in blocks]
    assert names == [["1", "4"], ["0", "3"], ["2"]]
    assert [block.due_ms for block in blocks] == [None, NOW_MS + 10_000, NOW_MS + hour_ms]


@pytest.mark.parametrize(("skew_s", "due"), [(0, True), (7000, False), (-7200, True)])
def test_it_is_the_proxys_clock_that_says_what_the_future_is(skew_s: int, due: bool) -> None:
    data = json.dumps([event(timestamp=NOW_MS + 2 * 3_600_000)]).encode()
    (block,) = check_items(
        data, Rules(), now_ms=NOW_MS, block_bytes=62_000, event_bytes=400_000, skew_ms=skew_s * 1000
    ).blocks
    assert (block.due_ms is not None) == due


@pytest.mark.parametrize("more", [{}, {"x": 1}])
@pytest.mark.parametrize("make", [event, sample])
def test_the_last_millisecond_that_the_proxy_takes_waits_for_nothing(make: Any, more: dict[str, Any]) -> None:
    for ahead_ms, due_ms in ((3_600_999, None), (3_601_000, NOW_MS + 10_000)):
        [block] = checked(dump(report(make(timestamp=NOW_MS + ahead_ms, **more)))).blocks
        assert block.due_ms == due_ms


def test_with_our_clock_ahead_even_what_is_stamped_here_waits() -> None:
    data = json.dumps([without(event(), "timestamp")]).encode()
    (block,) = check_items(
        data, Rules(), now_ms=NOW_MS, block_bytes=62_000, event_bytes=400_000, skew_ms=-7_200_000
    ).blocks
    assert block.due_ms == NOW_MS - 3_600_000
