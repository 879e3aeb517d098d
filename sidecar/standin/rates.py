"""Limits how often a token may come to the stand-in proxy: counted windows, or a bucket as the real one has. Pure."""

from collections import deque

from sidecar.core.units import Rate


class SlidingWindows:
    """The requests of each token in the last window, exactly; and the most there ever were."""

    def __init__(self, rate: Rate | None) -> None:
        self.most = 0
        self._rate = rate
        self._window_s = rate.window_s if rate else 60.0
        self._times: dict[str, deque[float]] = {}

    def allow(self, token: str, now_s: float) -> bool:
        """Count a request at `now_s`; False if it is above the rate."""
        times = self._times.setdefault(token, deque())
        while times and times[0] <= now_s - self._window_s:
            times.popleft()
        times.append(now_s)
        self.most = max(self.most, len(times))
        return self._rate is None or len(times) <= self._rate.count


class TokenBuckets(SlidingWindows):
    """A bucket for each token, full at first with `burst` requests, refilled at `rate`; the windows are only counted.

    A refused request costs nothing, and a clock that goes back refills nothing.
    """

    def __init__(self, rate: Rate, burst: int) -> None:
        super().__init__(rate)
        self._per_s = rate.count / rate.window_s
        self._burst = float(burst)
        self._buckets: dict[str, tuple[float, float]] = {}

    def allow(self, token: str, now_s: float) -> bool:
        """Count a request at `now_s`; False if the bucket holds less than one."""
        super().allow(token, now_s)
        left, last_s = self._buckets.get(token, (self._burst, now_s))
        left = min(self._burst, left + max(0.0, now_s - last_s) * self._per_s)
        allowed = left >= 1
        self._buckets[token] = (left - allowed, now_s)
        return allowed
