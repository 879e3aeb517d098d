"""The status document as Prometheus metrics. The only module that knows prometheus-client.

Labels are stream, proxy and input names, which are bounded; never paths, event names or targets.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sidecar.status import Status

STREAM_COUNTERS = {
    "accepted": "Events taken, with their promise of delivery.",
    "delivered": "Events that the proxy acknowledged.",
    "dead": "Events that the proxy refused for good.",
    "dropped": "Events dropped under the operator's policy.",
}
STREAM_GAUGES = {
    "queued": "Events that wait.",
    "queued_bytes": "Bytes of events that wait, uncompressed.",
    "oldest_age_s": "Age of the oldest waiting event in seconds.",
    "rate_per_min": "Requests of the last minute.",
}
INPUT_COUNTERS = {
    "events": "Events taken by the input since the start.",
    "rejected": "Reports refused by the input since the start.",
    "repaired": "Reports in which characters were replaced.",
    "bytes": "Bytes of events taken by the input since the start.",
}
QUEUE_GAUGES = {
    "bytes": "Bytes in use by the queue.",
    "max_bytes": "Bytes that the queue may use.",
    "oldest_age_s": "Age of the oldest waiting event in seconds.",
}


def render(status: Status) -> bytes:
    """Prometheus text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StatusCollector(status))
    return generate_latest(registry)


class _StatusCollector(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        status = self._status
        yield _gauge("up", "1 if ok, 0.5 if degraded, 0 if failing.", {"ok": 1, "degraded": 0.5}.get(status.state, 0))
        yield _gauge("books_balanced", "1 while the books balance.", status.books.balanced)
        yield _gauge("start_time_seconds", "When the sidecar started.", status.started_at / 1000)
        yield _gauge("config_generation", "How often a configuration was loaded.", status.config.generation)
        for name, text in QUEUE_GAUGES.items():
            yield _gauge(f"queue_{_base_unit(name)}", text, getattr(status.queue, name))
        for name, text in STREAM_COUNTERS.items():
            counter = CounterMetricFamily(f"sidecar_events_{name}", text, labels=["stream", "data_id"])
            for stream in status.streams:
                counter.add_metric([stream.name, str(stream.data_id)], getattr(stream, name))
            yield counter
        for name, text in STREAM_GAUGES.items():
            gauge = GaugeMetricFamily(f"sidecar_stream_{_base_unit(name)}", text, labels=["stream", "data_id"])
            for stream in status.streams:
                gauge.add_metric([stream.name, str(stream.data_id)], getattr(stream, name))
            yield gauge
        for name, text in INPUT_COUNTERS.items():
            counter = CounterMetricFamily(f"sidecar_input_{name}", text, labels=["input", "kind"])
            for entry in status.inputs:
                counter.add_metric([entry.name, entry.kind], getattr(entry, name))
            yield counter
        proxies = GaugeMetricFamily("sidecar_proxy_up", "1 if the proxy answers, 0 if it is down.", labels=["proxy"])
        for proxy in status.proxies:
            proxies.add_metric([proxy.url], 0 if proxy.state == "down" else 1)
        yield proxies


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"sidecar_{name}", text, value=value)


def _base_unit(name: str) -> str:
    return f"{name.removesuffix('_s')}_seconds" if name.endswith("_s") else name
