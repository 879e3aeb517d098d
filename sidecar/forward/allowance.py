"""A share of the rate for what must not eat up the whole: at most so many requests in any window. Pure."""

from collections import deque


class Allowance:
    """Counts exactly: the times of all requests of the last window. Times are in seconds on a clock that never jumps.

    What was not known beforehand to belong here may be charged afterwards, and is then paid back by waiting.
    """

    def __init__(self, count: int, window_s: float) -> None:
        self._count, self._window_s = max(1, count), window_s
        self._times: deque[float] = deque()

    def wait_s(self, now_s: float) -> float:
        """Seconds until one more request fits; 0: now."""
        if len(self._times) < self._count:
            return 0.0
        return max(0.0, self._times[-self._count] + self._window_s - now_s)

    def charge(self, now_s: float) -> None:
        """Count a request."""
        self._times.append(now_s)
        while self._times and self._times[0] <= now_s - self._window_s:
            self._times.popleft()
