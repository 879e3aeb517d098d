"""Whether the sidecar is well, and how it says so."""

from typing import Any

import msgspec
import pytest

from sidecar.core.model import Books, Capacity
from sidecar.queue.status import queue_status
from sidecar.status.document import (
    LaneStatus,
    StreamStatus,
    books_status,
)
from sidecar.status.reasons import errors, warnings
from tests.support.statuses import DOWN, INPUT, NO_FACTS, PROXY, QUEUE, STREAM, TAIL, samples, status


def test_every_metric_shows_its_own_number() -> None:
    assert samples(status(inputs=[INPUT], sockets_lost={"a": "gone", "b": "gone"})) == {
        "sidecar_sockets_lost": 2,
        "sidecar_up": 1, "sidecar_books_balanced": 1, "sidecar_start_time_seconds": 5, "sidecar_config_generation": 1,
        "sidecar_queue_wal_bytes": 8, "sidecar_queue_went_back": 9, "sidecar_stream_damaged,5,app": 6,
        "sidecar_queue_bytes": 10, "sidecar_queue_max_bytes": 100, "sidecar_queue_oldest_age_seconds": 1.5,
        "sidecar_events_accepted_total,5,app": 10, "sidecar_events_delivered_total,5,app": 6,
        "sidecar_stream_dead,5,app": 2, "sidecar_events_dropped_total,5,app": 1,
        "sidecar_events_dropped_by_reason_total,5,max_age,app": 1, "sidecar_events_replayed_total,5,app": 3,
        "sidecar_reports_refused_total,the queue is full": 4, "sidecar_proxy_clock_ahead_seconds,http://a": 1.5,
        "sidecar_stream_queued,5,app": 1, "sidecar_stream_queued_bytes,5,app": 99,
        "sidecar_stream_oldest_age_seconds,5,app": 1.5, "sidecar_stream_rate_per_min,5,app": 3,
        "sidecar_input_events_total,local,socket": 10, "sidecar_input_rejected_total,local,socket": 2,
        "sidecar_input_repaired_total,local,socket": 1, "sidecar_input_bytes_total,local,socket": 900,
        "sidecar_input_connections,local,socket": 4, "sidecar_input_connections_refused_total,local,socket": 5,
        "sidecar_input_hops_ignored_total,local,socket": 7,
        "sidecar_input_dropped_total,local,socket,the queue is full": 6,
        "sidecar_proxy_up,http://a": 1,
    }  # fmt: skip


@pytest.mark.parametrize(("state", "value"), [("ok", 1), ("degraded", 0.5), ("failing", 0)])
def test_up_shows_the_state(state: Any, value: float) -> None:
    assert samples(status(state=state))["sidecar_up"] == value


def test_a_proxy_that_is_down_shows_zero() -> None:
    assert samples(status(proxies=[DOWN]))["sidecar_proxy_up,http://a"] == 0


def test_books_balance_only_if_the_sum_is_right_and_nothing_is_below_zero() -> None:
    assert Books(accepted=10, queued=1, delivered=6, dead=2, dropped=1).balanced
    assert not Books(accepted=10, queued=2, delivered=6, dead=2, dropped=1).balanced
    assert not Books(accepted=1, queued=-1, delivered=2).balanced
    assert not books_status(Books(), ["a mismatch"]).balanced
    assert Books(1, 1) + Books(2, 0, 2) == Books(3, 1, 2)


def test_failures_are_what_refuses_reports_or_spoils_the_books() -> None:
    good = books_status(Books(), [])
    assert errors(books=good, queue=QUEUE, broken=None, refusing=None) == []
    assert errors(books=good, queue=QUEUE, broken="disk full", refusing="the queue is full") == [
        "storage: disk full",
        "the queue is full (10 of 100 bytes)",
    ]
    full = msgspec.structs.replace(QUEUE, limit="min_free")
    assert errors(books=good, queue=full, broken=None, refusing="the disk is nearly full") == [
        "the disk is nearly full (10 of 100 bytes)"
    ]
    assert "bug" in errors(books=books_status(Books(1), []), queue=QUEUE, broken=None, refusing=None)[0]


def worried(**changes: Any) -> list[str]:
    usual: dict[str, Any] = {"queue": QUEUE, "streams": [], "proxies": [], "inputs": [INPUT, TAIL]}
    return warnings(**{**usual, "sockets_wait": None, "now_ms": 0, **changes})


def test_events_far_in_the_future_are_a_worry_since_a_time_zone_may_be_wrong() -> None:
    def waits_until(due_ms: int) -> StreamStatus:
        later = LaneStatus(
            name="scheduled", queued=4, queued_bytes=9, oldest_age_s=0.0, state="idle", searching=0, failures=0,
            failing_since=None, next_attempt_at=None, last_error=None, due_at=due_ms, target=None,
        )  # fmt: skip
        return msgspec.structs.replace(STREAM, lanes=[later])

    assert worried(streams=[waits_until(1_000_000)], now_ms=500_000) == []
    (worry,) = worried(streams=[waits_until(25_700_000)], now_ms=500_000)
    assert worry.startswith(
        "stream app: 4 events are dated in the future, and the first is sent in 420 min; is a clock"
    )


def test_worries_name_what_to_look_at() -> None:
    held = msgspec.structs.replace(STREAM, state="held", last_error="HTTP 500")
    assert worried(streams=[STREAM], proxies=[PROXY]) == []
    assert worried(streams=[held], proxies=[DOWN], sockets_wait="the queue is full") == [
        "sockets are paused, nothing is lost: the queue is full",
        "proxy http://a is down: refused; 1 stream waits for it",
    ]
    nearly = msgspec.structs.replace(QUEUE, bytes=81)
    assert worried(queue=nearly) == ["the queue is 81 % full"]
    (reason,) = worried(queue=msgspec.structs.replace(QUEUE, went_back=7))
    assert "by 7 events at least" in reason
    (reason,) = worried(queue=msgspec.structs.replace(QUEUE, wal_bytes=65_000_000))
    assert "log has grown to 65000000 bytes" in reason
    (reason,) = worried(streams=[msgspec.structs.replace(STREAM, damaged=2)])
    assert reason.startswith("stream app: 2 events could not be read from the disk")
    soon = msgspec.structs.replace(QUEUE, full_in_s=600.0)
    assert worried(queue=soon) == ["the queue will be full in 10 min"]

    wrong = msgspec.structs.replace(PROXY, clock_ahead_s=-7200.0)
    assert worried(proxies=[wrong]) == ["clocks differ: that of proxy http://a is 7200 s behind this host's"]


def test_many_streams_of_one_cause_are_one_reason() -> None:
    streams = [msgspec.structs.replace(STREAM, name=f"s{n}", state="held", last_error="refused") for n in range(50)]
    assert worried(streams=streams, proxies=[DOWN]) == ["proxy http://a is down: refused; 50 streams wait for it"]
    (reason,) = worried(streams=streams, proxies=[PROXY])
    assert reason == "50 streams are held: refused; they are s0, s1, s2, s3, s4, ..."
    bad = msgspec.structs.replace(STREAM, name="bad", state="unauthorized", last_error="HTTP 401")
    down, other = worried(streams=[*streams, bad], proxies=[DOWN])
    assert "50 streams wait" in down
    assert other.startswith("stream bad is unauthorized: HTTP 401 (configure the data_id with the right token")
    up = msgspec.structs.replace(PROXY, url="http://b")
    assert len(worried(streams=streams, proxies=[DOWN, up])) == 2, "they do not wait for the one that is down"


def test_a_tail_that_waits_or_polls_for_want_of_watches_is_named() -> None:
    waits = msgspec.structs.replace(TAIL, waiting="the queue is full")
    amiss = msgspec.structs.replace(TAIL, recent={"late": 3, "untimed": 1})
    late, untimed = worried(inputs=[amiss])
    assert "its pattern took too long for 3 lines" in late
    assert "no time could be read from 1 lines" in untimed
    nowhere = msgspec.structs.replace(TAIL, events=0, rejected=100)
    (reason,) = worried(inputs=[nowhere])
    assert "no event has come of it since the start, since none of 100 lines parsed" in reason
    assert not worried(inputs=[msgspec.structs.replace(nowhere, events=1)])
    assert not worried(inputs=[msgspec.structs.replace(nowhere, rejected=99)])
    closed = msgspec.structs.replace(TAIL, unreadable=2, unreadable_first="/x/a.log: Permission denied")
    (reason,) = worried(inputs=[closed])
    assert "cannot read 2 of its files or directories, the first is /x/a.log: Permission denied" in reason
    assert "setfacl" in reason
    assert samples(status(inputs=[closed]))["sidecar_tail_unreadable,app"] == 2
    polls = msgspec.structs.replace(TAIL, polling="the limit is reached")
    assert worried(inputs=[waits, polls]) == [
        "tail app waits, nothing is lost: the queue is full",
        "tail app polls its files every second: the limit is reached",
    ]


def test_a_tail_in_the_metrics() -> None:
    found = samples(status())
    assert found["sidecar_tail_files,app"] == 7
    assert found["sidecar_tail_unreadable,app"] == 0
    assert found["sidecar_tail_lag_bytes,app"] == 800
    assert found["sidecar_tail_lines_total,app,filtered"] == 3
    assert found["sidecar_tail_losses_total,app"] == 2


def test_when_the_queue_will_be_full() -> None:
    def full_in_s(free_bytes: int, fill_per_s: float) -> float | None:
        found = queue_status(
            NO_FACTS, size=100, capacity=Capacity(100 + free_bytes, "max_size"), rates=(fill_per_s, 0.0), queued=1,
            wal_bytes=0, went_back=0,
        )  # fmt: skip
        return found.full_in_s

    assert full_in_s(1000, 10.0) == 100
    assert full_in_s(-5, 10.0) == 0
    assert full_in_s(1000, 0.0) is full_in_s(1000, -3.0) is None
