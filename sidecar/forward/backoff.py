"""How long to wait after the n-th failure in a row: exponential with full jitter, so that a fleet spreads out. Pure."""

from collections.abc import Callable

import msgspec


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Delays are drawn evenly from 0 to `first_s` doubled for each failure, and never above `cap_s`."""

    first_s: float
    cap_s: float

    def delay_s(self, failures: int, random: Callable[[], float]) -> float:
        """Return the wait after `failures` (at least 1) failures in a row; `random` draws from [0, 1)."""
        ceiling = min(self.cap_s, self.first_s * 2.0 ** min(failures - 1, 60))
        return ceiling * random()
