"""A status document with one part of each kind, and what Prometheus makes of it."""

from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from sidecar.queue.status import QueueFacts
from sidecar.status import prometheus
from sidecar.status.document import (
    BooksStatus,
    ConfigStatus,
    InputStatus,
    ProxyStatus,
    QueueStatus,
    Status,
    StreamStatus,
)

NO_FACTS = QueueFacts(oldest_age_s={}, due_ms={}, dropped={}, damaged={}, unseen={}, last_dead=0)
QUEUE = QueueStatus(
    bytes=10, max_bytes=100, limit="max_size", oldest_age_s=1.5, fill_per_s=0.0, full_in_s=None,
    refused_by={"the queue is full": 4},
)  # fmt: skip
STREAM = StreamStatus(
    name="app", data_id=5, state="sending", accepted=10, queued=1, delivered=6, dead=2, dropped=1, queued_bytes=99,
    oldest_age_s=1.5, rate_per_min=3.0, next_attempt_at=None, last_error=None, last_delivered_at=None,
    dropped_by={"max_age": 1}, dead_bytes=7, replayed=3, lanes=[],
)  # fmt: skip
PROXY = ProxyStatus("http://a", "up", None, None, down_since=None, clock_ahead_s=1.5, max_body=500_000)
DOWN = msgspec.structs.replace(PROXY, state="down", last_error="refused", retry_at=5, down_since=1)

INPUT = InputStatus(
    "local", "socket", events=10, rejected=2, repaired=1, bytes=900, connections=4, connections_refused=5,
    dropped_by={"the queue is full": 6}, hops_ignored=7,
)  # fmt: skip
TAIL = InputStatus(
    "app", "tail", events=10, rejected=2, repaired=1, bytes=900, connections=None, connections_refused=0, dropped_by={},
    files=7, lag_bytes=800, unreadable=0, lines={"filtered": 3, "cut": 1}, losses=2,
)  # fmt: skip


def status(**changes: Any) -> Status:
    given: dict[str, Any] = {
        "version": "1", "pid": 1, "started_at": 5000, "state": "ok", "reasons": [],
        "books": BooksStatus(10, 1, 6, 2, 1, balanced=True),
        "queue": msgspec.structs.replace(QUEUE, wal_bytes=8, went_back=9),
        "streams": [msgspec.structs.replace(STREAM, damaged=6)], "proxies": [PROXY],
        "inputs": [INPUT, TAIL],
        "config": ConfigStatus(1, 5000, None),
    }  # fmt: skip
    return Status(**(given | changes))


def samples(document: Status) -> dict[str, float]:
    text = prometheus.render(document).decode()
    return {
        sample.name + "".join(f",{v}" for v in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
