"""The fast path: items that need no change are recognised as a block and travel as the bytes they came in.

One typed decode in C checks a whole report. It accepts only what is plainly right; everything else, good or bad,
is left to `careful.py`, which must agree on whatever is accepted here (a property test holds the two together).
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any

import msgspec

from sidecar.core.future_window import latest_ms
from sidecar.core.model import METRIC_NAME, MS_MAX, MS_MIN, Kind
from sidecar.report.strings import strings_written

_Millis = Annotated[int, msgspec.Meta(ge=MS_MIN, le=MS_MAX)]


class _Content(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: str


# An unknown key may be `Target`, which the proxy takes for `target`: those items go the careful way.
class _Event(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    event_name: str
    target: Annotated[str, msgspec.Meta(min_length=1)]
    event: _Content
    dimension: dict[str, str]
    timestamp: _Millis


class _Sample(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    metrics: dict[str, float]
    target: str
    dimension: dict[str, str]
    timestamp: _Millis


_decode_events = msgspec.json.Decoder(list[_Event]).decode
_decode_samples = msgspec.json.Decoder(list[_Sample]).decode
_timestamp = attrgetter("timestamp")
_dimension = attrgetter("dimension")
_metrics = attrgetter("metrics")
_EVENT_STRINGS = 9  # six names and three values, beside the dimensions
_SAMPLE_STRINGS = 5


def judge_plain(data: bytes, kind: Kind | None, now_ms: int) -> tuple[Kind, int] | None:
    """Return the kind and the number of items in the array `data` if all of them can travel as they are, else None."""
    if kind != "time_series":
        count = _attempt(_plain_events, data, now_ms)
        if count is not None:
            return "event", count
        if kind == "event":
            return None
    count = _attempt(_plain_samples, data, now_ms)
    return None if count is None else ("time_series", count)


def judge_plain_lines(block: bytes, kind: Kind | None, now_ms: int) -> Kind | None:
    """Return the kind of the items in `block`, one on each line, if all of them can travel as they are, else None.

    The lines are joined as they will travel, so whatever is accepted here is good JSON there; and the ends of lines
    stay in, since a string may hold none. That no item goes over several lines shows in the number of items and in
    what stands at the ends of the lines: nothing but a new item can begin with a brace behind a comma.
    """
    lines = block.count(b"\n")
    if not block.startswith(b"{") or block.count(b"}\n{") != lines - 1 or not block.endswith(b"}\n"):
        return None
    plain = judge_plain(b"[%b]" % block[:-1].replace(b"\n", b"\n,"), kind, now_ms)
    return plain[0] if plain is not None and plain[1] == lines else None


def _attempt(judge: Callable[[bytes, int], int | None], data: bytes, now_ms: int) -> int | None:
    try:
        return judge(data, now_ms) or None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _plain_events(data: bytes, now_ms: int) -> int | None:
    events = _decode_events(data)
    strings = _EVENT_STRINGS * len(events) + 2 * sum(map(len, map(_dimension, events)))
    return len(events) if _in_time(events, now_ms) and strings_written(data) == strings else None


def _plain_samples(data: bytes, now_ms: int) -> int | None:
    samples = _decode_samples(data)
    metrics, dimensions = list(map(_metrics, samples)), list(map(_dimension, samples))
    if not all(metrics) or not all(map(METRIC_NAME.fullmatch, set().union(*metrics, *dimensions))):
        return None
    strings = _SAMPLE_STRINGS * len(samples) + sum(map(len, metrics)) + 2 * sum(map(len, dimensions))
    return len(samples) if _in_time(samples, now_ms) and strings_written(data) == strings else None


def _in_time(items: list[Any], now_ms: int) -> bool:
    return not items or max(map(_timestamp, items)) <= latest_ms(now_ms)
