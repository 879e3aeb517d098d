"""Counts what happened in the last minute, second by second, in a fixed amount of memory. Pure."""

_SECONDS = 60


class Meter:
    """A sliding minute of counts; the caller's clock is in seconds and never runs backwards."""

    __slots__ = ("_counts", "_second")

    def __init__(self) -> None:
        self._counts = [0.0] * _SECONDS
        self._second = 0

    def count(self, now_s: float, amount: float = 1) -> None:
        """Adds `amount` at `now_s`."""
        self._forget(int(now_s))
        self._counts[int(now_s) % _SECONDS] += amount

    def per_minute(self, now_s: float) -> float:
        """The sum of the last 60 seconds, to the second."""
        self._forget(int(now_s))
        return sum(self._counts)

    def _forget(self, second: int) -> None:
        for passed in range(max(self._second + 1, second - _SECONDS + 1), second + 1):
            self._counts[passed % _SECONDS] = 0.0
        self._second = max(self._second, second)
