"""The status document as Prometheus metrics. The only module that knows prometheus-client.

Labels are stream, proxy and input names, which are bounded; never paths, event names or targets.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sidecar.status.document import Status

STREAM_COUNTERS = {
    "accepted": "Events taken, with their promise of delivery.",
    "delivered": "Events that the proxy acknowledged.",
    "dropped": "Events dropped under the operator's policy.",
    "replayed": "Events that were accepted once more, by `sidecar replay`.",
}
STREAM_GAUGES = {
    "queued": "Events that wait.",
    "damaged": "Events that could not be read from the disk, and are set aside; a part of the dead ones.",
    "dead": "Events that the proxy refused for good, and that are kept.",
    "queued_bytes": "Bytes of events that wait, uncompressed.",
    "oldest_age_s": "Age of the oldest waiting event in seconds.",
    "rate_per_min": "Requests of the last minute.",
}
INPUT_COUNTERS = {
    "events": "Events taken by the input since the start.",
    "rejected": "Reports, lines or frames refused by the input since the start.",
    "repaired": "Reports, lines or frames in which characters were replaced.",
    "bytes": "Bytes of events taken by the input since the start.",
    "connections_refused": "Connections that were refused since the start.",
    "hops_ignored": "Headers of hops that no sidecar wrote, since the start.",
}
TAIL_GAUGES = {
    "files": "Files that the tail follows.",
    "lag_bytes": "Bytes of these files that are not in the queue yet.",
    "unreadable": "Files and directories that the sidecar's user may not read.",
}
QUEUE_GAUGES = {
    "bytes": "Bytes in use by the queue.",
    "max_bytes": "Bytes that the queue may use.",
    "wal_bytes": "Bytes of the queue's write-ahead log.",
    "went_back": "Events accepted or delivered when the sidecar last ran, and not in the file at the start.",
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
        yield _gauge(
            "sockets_lost", "Sockets that nobody can connect to, since their file is gone.", len(status.sockets_lost)
        )
        for name, text in QUEUE_GAUGES.items():
            yield _gauge(f"queue_{_base_unit(name)}", text, getattr(status.queue, name))
        refused = CounterMetricFamily(
            "sidecar_reports_refused", "Reports not taken since the start, for want of room.", labels=["reason"]
        )
        for reason, reports in status.queue.refused_by.items():
            refused.add_metric([reason], reports)
        yield refused
        yield from self._streams()
        yield from self._inputs()
        yield from self._proxies()

    def _inputs(self) -> Iterator[Metric]:
        labels = ["input", "kind"]
        for name, text in INPUT_COUNTERS.items():
            counter = CounterMetricFamily(f"sidecar_input_{name}", text, labels=labels)
            for entry in self._status.inputs:
                counter.add_metric([entry.name, entry.kind], getattr(entry, name))
            yield counter
        connections = GaugeMetricFamily("sidecar_input_connections", "Open connections.", labels=labels)
        dropped = CounterMetricFamily(
            "sidecar_input_dropped", "Lines of datagrams that were not taken, by reason.", labels=[*labels, "reason"]
        )
        for entry in self._status.inputs:
            if entry.connections is not None:
                connections.add_metric([entry.name, entry.kind], entry.connections)
            for reason, lines in entry.dropped_by.items():
                dropped.add_metric([entry.name, entry.kind, reason], lines)
        yield from (connections, dropped)
        yield from self._tails()

    def _tails(self) -> Iterator[Metric]:
        gauges = {name: GaugeMetricFamily(f"sidecar_tail_{name}", text, labels=["tail"])
                  for name, text in TAIL_GAUGES.items()}  # fmt: skip
        lines = CounterMetricFamily(
            "sidecar_tail_lines",
            "Lines that became no event, or not as they were, by what happened.",
            labels=["tail", "what"],
        )
        losses = CounterMetricFamily("sidecar_tail_losses", "Receipts for bytes that may be lost.", labels=["tail"])
        for entry in self._status.inputs:
            if entry.lines is None:
                continue
            for name, gauge in gauges.items():
                gauge.add_metric([entry.name], getattr(entry, name))
            for what, count in entry.lines.items():
                lines.add_metric([entry.name, what], count)
            losses.add_metric([entry.name], entry.losses or 0)
        yield from (*gauges.values(), lines, losses)

    def _streams(self) -> Iterator[Metric]:
        labels = ["stream", "data_id"]
        dropped = CounterMetricFamily(
            "sidecar_events_dropped_by_reason", "Dropped events by reason.", labels=[*labels, "reason"]
        )
        families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {
            **{name: CounterMetricFamily(f"sidecar_events_{name}", text, labels=labels)
               for name, text in STREAM_COUNTERS.items()},
            **{name: GaugeMetricFamily(f"sidecar_stream_{_base_unit(name)}", text, labels=labels)
               for name, text in STREAM_GAUGES.items()},
        }  # fmt: skip
        for stream in self._status.streams:
            values = [stream.name, str(stream.data_id)]
            for name, family in families.items():
                family.add_metric(values, getattr(stream, name))
            for reason, events in stream.dropped_by.items():
                dropped.add_metric([*values, reason], events)
        yield from (*families.values(), dropped)

    def _proxies(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("sidecar_proxy_up", "1 if the proxy answers, 0 if it is down.", labels=["proxy"])
        clock = GaugeMetricFamily(
            "sidecar_proxy_clock_ahead_seconds", "By how much the proxy's clock is ahead of ours.", labels=["proxy"]
        )
        for proxy in self._status.proxies:
            up.add_metric([proxy.url], 0 if proxy.state == "down" else 1)
            if proxy.clock_ahead_s is not None:
                clock.add_metric([proxy.url], proxy.clock_ahead_s)
        yield from (up, clock)


def _gauge(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"sidecar_{name}", text, value=value)


def _base_unit(name: str) -> str:
    return f"{name.removesuffix('_s')}_seconds" if name.endswith("_s") else name
