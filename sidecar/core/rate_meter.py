"""Counts what happened lately, in a fixed amount of memory. Pure."""

from collections import Counter
from collections.abc import Mapping

_SECONDS = 60


class RateMeter:
    """Count events of the last minute (a sliding window). The caller's clock is in seconds and never runs backwards."""

    __slots__ = ("_counts", "_second")

    def __init__(self) -> None:
        self._counts = [0.0] * _SECONDS  # of each of the last seconds, at the second modulo 60
        self._second = 0  # the last one that was counted

    def count(self, now_s: float, amount: float = 1) -> None:
        """Add `amount` at `now_s`."""
        self._forget(int(now_s))
        self._counts[int(now_s) % _SECONDS] += amount

    def per_minute(self, now_s: float) -> float:
        """Return the sum of the last 60 seconds, to the second."""
        self._forget(int(now_s))
        return sum(self._counts)

    def _forget(self, second: int) -> None:
        for passed in range(max(self._second + 1, second - _SECONDS + 1), second + 1):
            self._counts[passed % _SECONDS] = 0.0
        self._second = max(self._second, second)


class Recent:
    """Counts by name of the last `window_s` seconds, or up to twice as many. The clock is as for `RateMeter`."""

    __slots__ = ("_before", "_now", "_since_s", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s, self._since_s = window_s, 0.0
        self._now: Counter[str] = Counter()  # since `_since_s`
        self._before: Counter[str] = Counter()  # of the window before that

    def count(self, now_s: float, counts: Mapping[str, int]) -> None:
        """Add `counts` at `now_s`."""
        self._turn(now_s)
        self._now.update({name: count for name, count in counts.items() if count})

    def counts(self, now_s: float) -> dict[str, int]:
        """Return what was counted lately; a name without counts is left out."""
        self._turn(now_s)
        return dict(self._now + self._before)

    def _turn(self, now_s: float) -> None:
        passed_s = now_s - self._since_s
        if passed_s >= self._window_s:
            self._before = self._now if passed_s < 2 * self._window_s else Counter()
            self._now, self._since_s = Counter(), now_s
