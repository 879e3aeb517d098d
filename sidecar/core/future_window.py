"""Tells which events dated in the future the proxy accepts, and when it will accept the others. Pure.

Source: bk-collector, `max_future_time_offset`; it compares whole seconds.
"""

FUTURE_S = 3600
"""How far ahead of the proxy's clock a timestamp may lie."""

_DUE_STEP_MS = 10_000
"""Due times are rounded up to this step (ten seconds), so that events that become valid in one step wait together."""


def latest_ms(now_ms: int) -> int:
    """Return the last timestamp that the proxy takes at `now_ms`, by its own clock."""
    return (now_ms // 1000 + FUTURE_S) * 1000 + 999


def due_ms(stamp_ms: int) -> int:
    """Return when the proxy will take an event of `stamp_ms`, by its own clock.

    Rounded up, so that many wait together.
    """
    valid_ms = stamp_ms - FUTURE_S * 1000
    return valid_ms - valid_ms % -_DUE_STEP_MS
