"""The numbers and names of the proxy's rules, and the sidecar's own, for both paths of validation."""

import re

MS_MIN, MS_MAX = 10**12, 10**13 - 1
"""A timestamp has 13 digits: milliseconds from 2001 to 2286."""

SECONDS_MIN, SECONDS_MAX = 10**9, 10**10 - 1
"""Ten digits are seconds of the same years."""

FUTURE_S = 3600
"""How far ahead of the proxy's clock a timestamp may lie (bk-collector, `max_future_time_offset`)."""

METRIC_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
"""Names of metrics and of a time series' dimensions (bk-collector, `namePattern`); use with fullmatch."""

MAX_GROWTH_BYTES = 1_000_000
"""By which a report may grow when it is normalised; `1e308` becomes 309 digits."""

DUE_STEP_MS = 10_000
"""Events dated in the future wait together with those that become valid within the same ten seconds."""

MAX_DEPTH = 128
"""Levels of nesting inside one item. The proxy takes 10,000, parsers behind it fewer; nobody sends over ten."""


def latest_ms(now_ms: int) -> int:
    """The last timestamp that the proxy takes at `now_ms`; like the proxy, compared in whole seconds."""
    return (now_ms // 1000 + FUTURE_S) * 1000 + 999


def due_ms(stamp_ms: int) -> int:
    """When the proxy will take an event of `stamp_ms`, by its own clock; rounded up, so that many wait together."""
    valid_ms = stamp_ms - FUTURE_S * 1000
    return valid_ms - valid_ms % -DUE_STEP_MS
