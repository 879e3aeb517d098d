"""Computes the wait after the n-th failure in a row: exponential, with jitter where a fleet must spread out. Pure."""

from collections.abc import Callable

import msgspec


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Waits of `first_s`, doubled for each further failure, and never above `cap_s`."""

    first_s: float
    cap_s: float

    def longest_s(self, failures: int) -> float:
        """Return the wait after `failures` (at least 1) failures in a row, in seconds."""
        return min(self.cap_s, self.first_s * 2.0 ** min(failures - 1, 60))

    def delay_s(self, failures: int, random: Callable[[], float]) -> float:
        """Return a wait drawn evenly from 0 to the longest; `random` draws from [0, 1)."""
        return self.longest_s(failures) * random()
