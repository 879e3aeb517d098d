"""Why something has not been delivered, in plain words."""

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from sidecar.core.units import format_moment
from sidecar.status.document import LaneStatus, ProxyStatus, Status, StreamStatus
from sidecar.status.explain import explain
from tests.support.statuses import DOWN, PROXY, STREAM, TAIL, status

NOW_MS = 1_700_000_000_000
LANE = LaneStatus(
    name="fresh", queued=3, queued_bytes=9, oldest_age_s=75.0, state="held", searching=0, failures=2,
    failing_since=NOW_MS - 60_000, next_attempt_at=NOW_MS + 4_000, last_error="HTTP 418: no", due_at=None, target=None,
)  # fmt: skip


@pytest.fixture(autouse=True)
def _host_in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """UTC_HOST: times are shown as this host's clocks show them."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_times_are_those_of_this_hosts_clocks_with_their_offset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Shanghai")
    time.tzset()
    assert format_moment(1_700_000_000_000) == "2023-11-15 06:13:20+08:00"


def told(lane: LaneStatus | None = None, proxies: tuple[ProxyStatus, ...] = (PROXY,), **changes: Any) -> list[str]:
    """What is said of a stream with this one lane."""
    lanes = [msgspec.structs.replace(lane or LANE, **changes)]
    stream = msgspec.structs.replace(STREAM, lanes=lanes, queued=lanes[0].queued, dead=0)
    return explain(status(proxies=list(proxies)), stream, NOW_MS)


def test_nothing_waits() -> None:
    stream = msgspec.structs.replace(STREAM, queued=0, dead=0)
    assert explain(status(), stream, NOW_MS) == ["app: nothing waits; nothing was delivered yet"]
    stream = msgspec.structs.replace(stream, last_delivered_at=NOW_MS - 90_000, dead=2)
    assert explain(status(), stream, NOW_MS) == [
        "app: nothing waits; the last delivery was at " + format_moment(NOW_MS - 90_000),
        "2 events refused for good; see `sidecar dead list --stream app`",
    ]


def test_a_tail_whose_filters_let_nothing_through_is_named() -> None:
    stream = msgspec.structs.replace(STREAM, queued=0, dead=0)
    tail = msgspec.structs.replace(TAIL, stream="app", events=0, lines={"filtered": 3})
    assert explain(status(inputs=[tail]), stream, NOW_MS)[1:] == [
        (
            "tail app has sent it nothing since the start: its where and where_not left out all of 3 lines"
            " (`sidecar try` shows what they find)"
        )
    ]
    for other in ({"events": 1}, {"stream": "other"}, {"lines": {"filtered": 0}}):
        assert not explain(status(inputs=[msgspec.structs.replace(tail, **other)]), stream, NOW_MS)[1:]


def test_the_whole_answer() -> None:
    assert told() == [
        "app: 3 events not delivered yet, 6 delivered",
        "3 events waiting, the oldest for 1min 15s:",
        "  it fails since 2023-11-14 22:12:20+00:00 (2 times): HTTP 418: no",
        "  next attempt in 4.0s, at 2023-11-14 22:13:24+00:00",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"state": "unauthorized", "failures": 1},
            "the proxy refuses the access token since 2023-11-14 22:12:20+00:00 (once)",
        ),
        ({"state": "unauthorized"}, "configure data_id 5 with the right token"),
        ({"proxies": (DOWN,)}, "the proxy cannot be reached"),
        ({"proxies": (DOWN,)}, "http://a is down since 1970-01-01 00:00:00+00:00: refused"),
        ({"proxies": (DOWN, DOWN)}, "no proxy can be reached"),
        ({"proxies": (DOWN, PROXY)}, "it fails since"),
        ({"proxies": (DOWN,), "target": "http://other"}, "it fails since"),
        ({"searching": 3}, "behind the search for a bad event: the proxy refused it 3 times so far"),
        ({"state": "rate_limited"}, "the rate of its access token allows no request now: 3 requests of app"),
        ({"state": "rate_limited"}, "the proxy said: HTTP 418: no"),
        ({"name": "suspect", "state": "rate_limited", "last_error": None}, "only a part of the rate: proxy.isolation"),
        ({"name": "replay", "state": "rate_limited", "last_error": None}, "only a part of the rate: a quarter"),
        ({"state": "sending", "last_error": None}, "it is on its way"),
        ({"state": "idle", "last_error": None}, "its turn has not come yet"),
        ({"next_attempt_at": None}, "next attempt: now"),
        ({"name": "suspect"}, "3 events set aside, since a bad one is among them"),
        ({"name": "retry"}, "3 events put back by `sidecar dead retry`"),
        (
            {"name": "replay", "target": "http://other"},
            "in again by `sidecar replay`, for http://other, the oldest",
        ),
        ({"name": "scheduled", "due_at": NOW_MS + 60_000}, "the next becomes valid in 1min"),
        ({"name": "scheduled", "due_at": NOW_MS - 1}, "the next becomes valid any moment"),
        ({"queued": 1}, "1 event waiting"),
    ],
)
def test_each_reason_has_its_words(changes: dict[str, Any], words: str) -> None:
    assert words in "\n".join(told(**changes))


def test_every_lane_is_told_of() -> None:
    stream: StreamStatus = msgspec.structs.replace(
        STREAM, queued=6, lanes=[LANE, msgspec.structs.replace(LANE, name="scheduled", due_at=NOW_MS)]
    )
    document: Status = status()
    assert len(explain(document, stream, NOW_MS)) == 7
