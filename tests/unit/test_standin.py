"""The stand-in judges as the proxy does, in the proxy's order."""

from typing import Any

import msgspec
import pytest

from sidecar.core.units import Rate
from sidecar.standin import Faults, PipeRules, parse_fault
from sidecar.standin.faults import MODES
from sidecar.standin.judge import data_id_of, judge
from sidecar.standin.rates import SlidingWindows, TokenBuckets
from sidecar.standin.record import Record
from tests.support.reports import NOW_MS, dump, event, report, sample, without

NOW_S = NOW_MS / 1000


def verdict(document: Any, rules: PipeRules = PipeRules(), windows: SlidingWindows | None = None) -> int:  # noqa: B008
    body = document if isinstance(document, bytes) else dump(document)
    return judge(body, rules, windows or SlidingWindows(rules.rate), NOW_S).status


@pytest.mark.parametrize(
    ("document", "status"),
    [
        (report(event()), 200),
        (report(sample()), 200),
        (report(sample(target=5)), 200),  # the proxy's own blind spot
        (report(without(sample(), "target")), 200),
        (report(event(timestamp=1587218838)), 200),  # the past is not checked
        (report(event(timestamp=NOW_MS + 3_600_000)), 200),
        (report(event(timestamp=NOW_MS + 3_601_000)), 400),
        (report(event(dimension={"a": None, "b": 1.5, "c": False})), 200),
        (report(event(dimension={"a": []})), 400),
        (report(event(target="")), 400),
        (report(event(metrics={})), 200),  # as bkmonitorbeat sends events
        (report(event(event={"content": 5})), 200),
        (report(event(event={})), 400),
        (report(event(event_name=5)), 400),
        (report(sample(metrics={})), 400),
        (report(sample(metrics={"a-b": 1})), 400),
        (report(sample(dimension={"a-b": "1"})), 400),
        (report(event(dimension={"a-b": "1"})), 200),
        (report(sample(metrics={"a": "1"})), 400),
        (report(sample(metrics={"a": True})), 400),
        (report(event(), event(target=None)), 400),
        (report(), 400),
        (report(event()) | {"data": {}}, 400),
        (report(event(), token=""), 401),
        (report(event(), data_id=0), 401),
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"a":NaN}', 400),
        (b"x" * 500_001, 413),
    ],
)
def test_single_documents(document: Any, status: int) -> None:
    assert verdict(document) == status


def test_the_order_is_token_rate_items() -> None:
    rules = PipeRules(tokens={1500006: "right"}, rate=Rate(2, 60.0))
    windows = SlidingWindows(rules.rate)
    bad = report(event(target=None), token="wrong")
    assert verdict(bad, rules, windows) == 401
    good_token = bad | {"access_token": "right"}
    assert [verdict(good_token, rules, windows) for _ in range(4)] == [400, 400, 429, 429]
    assert windows.most == 4


def test_the_rate_belongs_to_the_token() -> None:
    windows = SlidingWindows(Rate(1, 60.0))
    assert [windows.allow("a", 0), windows.allow("b", 0), windows.allow("a", 59.9)] == [True, True, False]
    assert windows.allow("b", 60.1)


def test_faults_are_parsed_and_count_down() -> None:
    assert parse_fault("503") == Faults(mode="503")
    twice = parse_fault("reset-after:2")
    assert twice == Faults(mode="reset-after", times=2)
    assert twice.after_one() == Faults(mode="reset-after", times=1)
    assert twice.after_one().after_one() == Faults()
    assert Faults(mode="slow").after_one() == Faults(mode="slow")
    for text in ("", "explode", "503:x", "503:", "503:0", "200", "199", "600", "1000", "5\N{SUPERSCRIPT TWO}3"):
        with pytest.raises(ValueError, match="one of none, down, 500"):
            parse_fault(text)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_can_be_asked_for(mode: str) -> None:
    assert parse_fault(mode) == msgspec.json.decode(dump({"mode": mode}), type=Faults) == Faults(mode=mode)


def test_any_status_is_a_mode() -> None:
    assert [parse_fault(text).status for text in ("201", "418", "599", "slow")] == [201, 418, 599, None]


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "explode"}, {"mod": "503"}, {"mode": "down", "data_ids": [5]}, {"data_ids": ["5"]},
        {"poison_status": 200}, {"skew_s": 1e12}, {"times": 0}, {"mode": 503},
    ],
)  # fmt: skip
def test_faults_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(dump(wrong), type=Faults)


def test_faults_concern_all_or_some() -> None:
    assert Faults().concern(5)
    assert Faults().concern(None)
    some = Faults(data_ids=(5, 6))
    assert [some.concern(data_id) for data_id in (5, 6, 7, 0, None)] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("body", "data_id"),
    [
        (dump(report(event(), data_id=77)), 77),
        (b'{"data_id":-1}', -1),
        (b"{}", None),
        (b'{"data":[]}', None),
        (b'{"data_id":null}', None),
        (b'{"data_id":"77"}', 0),
        (b'{"data_id":true}', 0),
        (b"", 0),
        (b"[]", 0),
        (b'{"data_id":77', 0),
        (b"\xff", 0),
        (b"[" * 100_000, 0),
    ],
)
def test_whose_request_it_is(body: bytes, data_id: int | None) -> None:
    assert data_id_of(body) == data_id


def test_probes_are_counted_apart() -> None:
    record = Record()
    for data_id in (77, 78, 77, None):
        for traffic in record.asked(data_id):
            traffic.answers["200" if data_id else "401"] += 1
    assert (record.all.requests, record.all.answers) == (3, {"200": 3})
    assert (record.probes.requests, record.probes.answers) == (1, {"401": 1})
    assert {data_id: traffic.requests for data_id, traffic in record.by_data_id.items()} == {77: 2, 78: 1}


def test_a_skewed_clock_judges_timestamps_and_nothing_else() -> None:
    body, rules = dump(report(event(timestamp=NOW_MS + 3_000_000))), PipeRules(rate=Rate(2, 60.0))
    windows = SlidingWindows(rules.rate)
    assert [judge(body, rules, windows, NOW_S, skew_s=skew_s).status for skew_s in (0, -900, 900)] == [200, 400, 429]


def test_a_bucket_gives_what_it_holds_and_fills_up_again() -> None:
    buckets = TokenBuckets(Rate(60, 60.0), 3)
    assert [buckets.allow("a", 100.0) for _ in range(5)] == [True, True, True, False, False]
    assert [buckets.allow("a", 101.0), buckets.allow("a", 101.5)] == [True, False]
    assert buckets.allow("b", 101.5)
    assert buckets.allow("a", 102.0)  # what was refused cost nothing
    assert [buckets.allow("a", 50.0), buckets.allow("a", 50.5), buckets.allow("a", 51.0)] == [False, False, True]
    assert [buckets.allow("a", 1000.0) for _ in range(4)] == [True, True, True, False]
    assert buckets.most == 11  # refused ones too
