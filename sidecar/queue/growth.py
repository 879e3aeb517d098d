"""Tells how fast the queue grows, in bytes, and becomes shorter, in events: over the last half minute or so. Pure."""

from collections import deque

_FROM_S, _OVER_S = 5.0, 30.0


class Growth:
    """Measure the growth of the queue from a sample each second. Times are in seconds on a clock that never jumps."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()  # when, bytes, events; the oldest first

    def note(self, now_s: float, size: int, queued: int) -> None:
        """Note that the queue has `size` bytes and `queued` events now."""
        self._seen.append((now_s, size, queued))
        while len(self._seen) > 1 and now_s - self._seen[1][0] >= _OVER_S:
            self._seen.popleft()

    def rates(self) -> tuple[float, float]:
        """Return bytes of growth and events of decrease per second; 0.0 for both while there are not enough samples."""
        if not self._seen:
            return 0.0, 0.0
        (then_s, then_size, then_queued), (now_s, size, queued) = self._seen[0], self._seen[-1]
        passed_s = now_s - then_s
        if passed_s < _FROM_S:
            return 0.0, 0.0
        return (size - then_size) / passed_s, (then_queued - queued) / passed_s
