"""The status document as Prometheus metrics: its figures. The only module that knows prometheus-client.

Labels are stream, proxy and input names, which are bounded; never paths, event names or targets.
"""

from collections.abc import Iterator, Mapping

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sidecar.status.document import (
    BooksStatus,
    ConfigStatus,
    InputStatus,
    ProxyStatus,
    QueueStatus,
    Status,
    StreamStatus,
)
from sidecar.status.figures import Figure, figures_of, numbers_of

_LABELS: Mapping[type[msgspec.Struct], tuple[str, ...]] = {
    StreamStatus: ("stream", "data_id"),
    ProxyStatus: ("proxy",),
    InputStatus: ("input", "kind"),
}
"""The labels that tell the parts of one kind apart. A kind that is not listed has only one part."""
_FIELDS = {"stream": "name", "proxy": "url", "input": "name", "tail": "name"}
"""The field that holds the value of a label, where the two names differ."""
_OF_TAILS = "sidecar_tail_"
"""Prefix of the input metrics that have no label except `tail`."""
PARTS: tuple[type[msgspec.Struct], ...] = (
    Status, BooksStatus, ConfigStatus, QueueStatus, StreamStatus, InputStatus, ProxyStatus,
)  # fmt: skip


def render(status: Status) -> bytes:
    """Return Prometheus' text format."""
    # A new registry for each answer, because the numbers belong to this one document.
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StatusCollector(status))
    return generate_latest(registry)


class _StatusCollector(Collector):
    def __init__(self, status: Status) -> None:
        self._parts: Mapping[type[msgspec.Struct], list[msgspec.Struct]] = {
            Status: [status],
            BooksStatus: [status.books],
            ConfigStatus: [status.config],
            QueueStatus: [status.queue],
            StreamStatus: [*status.streams],
            InputStatus: [*status.inputs],
            ProxyStatus: [*status.proxies],
        }

    def collect(self) -> Iterator[Metric]:
        for part in PARTS:
            for name, figure in figures_of(part).items():
                yield self._family(part, name, figure)

    def _family(self, part: type[msgspec.Struct], name: str, figure: Figure) -> Metric:
        labels = ("tail",) if figure.metric.startswith(_OF_TAILS) else _LABELS.get(part, ())
        make = CounterMetricFamily if figure.kind == "counter" else GaugeMetricFamily
        family = make(figure.metric, figure.help, labels=[*labels, figure.label] if figure.label else labels)
        for each in self._parts[part]:
            values = [str(getattr(each, _FIELDS.get(label, label))) for label in labels]
            for key, number in numbers_of(each, name, figure):
                family.add_metric(values if key is None else [*values, key], number)
        return family
