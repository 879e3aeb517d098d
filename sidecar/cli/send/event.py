"""Makes events: a whole one from what options say, or what a line of a file leaves out. Pure.

Whether an event is a good one the sidecar says; here is only what it could not know.
"""

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from sidecar.core.model import Kind


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of an event that the options give. None or empty: not given."""

    name: str | None = None
    content: str | None = None
    metrics: dict[str, float] = {}
    target: str | None = None
    dimension: dict[str, str] = {}
    timestamp_ms: int | None = None

    @property
    def is_whole(self) -> bool:
        """Return whether they say an event by themselves, and not only what others leave out."""
        return self.name is not None or self.content is not None or bool(self.metrics)


class Item(msgspec.Struct, frozen=True, gc=False):
    """One event, as JSON. `line` and `index` say where it stands: in which line, and where in that line's report.

    `size_bytes` is what it is of the file. Without `has_target` it is for the way there to say what its target is.
    """

    json: bytes
    kind: Kind
    has_target: bool
    line: int = 0
    index: int | None = None
    size_bytes: int = 0


def make_event(given: Given, now_ms: int) -> Item:
    """Return the event that the options say. Raises ValueError that says what would be right."""
    event: dict[str, Any] = {}
    if given.metrics:
        if given.name is not None or given.content is not None:
            raise ValueError("either --metric, or --name and --content: an event is no time series")
        event["metrics"] = given.metrics
    else:
        if given.name is None:
            raise ValueError("--name is missing: what kind of event it is, such as login_failed")
        if given.content is None:
            raise ValueError("--content is missing: what happened")
        event |= {"event_name": given.name, "event": {"content": given.content}}
    if given.target is not None:
        event["target"] = given.target
    event |= {"dimension": given.dimension, "timestamp": now_ms if given.timestamp_ms is None else given.timestamp_ms}
    return _item(_encode(event), event)


def complete(text: bytes, event: dict[str, Any], given: Given, now_ms: int) -> Item:
    """Fill in what `event`, which was decoded from `text`, leaves out. What it says itself stays as it was written."""
    more: dict[str, Any] = {}
    if given.target is not None and "target" not in event:
        more["target"] = given.target
    if given.dimension and "dimension" not in event:
        more["dimension"] = given.dimension
    if "timestamp" not in event:
        more["timestamp"] = now_ms if given.timestamp_ms is None else given.timestamp_ms
    changed = _changed(event, given, now_ms)
    if changed is not None:
        text, event = _encode(changed), changed
    return _item(with_fields(text, more), event | more)


def with_fields(text: bytes, more: dict[str, Any]) -> bytes:
    """Return the JSON object `text` with `more` in front of its own fields."""
    if not more:
        return text
    rest = text.lstrip()[1:]
    comma = b"" if rest.lstrip().startswith(b"}") else b","
    return _encode(more)[:-1] + comma + rest


def read_pairs(texts: Iterable[str]) -> dict[str, str]:
    """Read `NAME=VALUE` each. Raises ValueError that says what would be right."""
    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ValueError(f"expected NAME=VALUE such as module=db, got {text}")
        if name in pairs:
            raise ValueError(f"{name} is given twice")
        pairs[name] = value
    return pairs


def read_metrics(texts: Iterable[str]) -> dict[str, float]:
    """Read `NAME=NUMBER` each; whole numbers stay whole. Raises ValueError that says what would be right."""
    return {name: _number(name, value) for name, value in read_pairs(texts).items()}


def _number(name: str, text: str) -> float:
    expected = f"expected NAME=NUMBER such as cpu_load=0.7, got {name}={text}"
    try:
        number = float(text)
    except ValueError:
        raise ValueError(expected) from None
    if not math.isfinite(number) or "_" in text:
        raise ValueError(expected)
    return int(text) if text.strip().lstrip("+-").isdecimal() else number


def _changed(event: dict[str, Any], given: Given, now_ms: int) -> dict[str, Any] | None:
    """Return the event if a field must change that it has; None: none must."""
    changes: dict[str, Any] = {}
    dimension = event.get("dimension")
    if type(dimension) is dict and not given.dimension.keys() <= dimension.keys():
        changes["dimension"] = given.dimension | dimension
    if type(event.get("timestamp")) is int and event["timestamp"] == 0:
        changes["timestamp"] = now_ms if given.timestamp_ms is None else given.timestamp_ms
    return event | changes if changes else None


def _item(text: bytes, event: dict[str, Any]) -> Item:
    kind: Kind = "time_series" if "metrics" in event and "event" not in event else "event"
    return Item(text, kind, "target" in event)


def _encode(value: Any) -> bytes:
    return msgspec.json.encode(value)
