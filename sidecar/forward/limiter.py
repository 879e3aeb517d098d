"""The rate of one access token: never more than `rate.count` requests in any window of `rate.window_s`. Pure.

A bucket that starts full allows its burst on top of the rate, almost twice the limit in one window. So the burst is
taken out of the rate: with a burst of b, requests are `interval_s` apart such that b and the steady flow together stay
within the count, and a hundredth is left for what the network does to the spacing.

The state is one number: `spent_until_s`, the moment at which the budget will be whole again (the generic cell rate
algorithm's theoretical arrival time), on a clock that the caller chooses and that must not jump.
"""

import msgspec

from sidecar.units import Rate


class Limiter:
    """What one token may still send."""

    def __init__(self, rate: Rate | None) -> None:
        rate = rate or Rate(10**8, 1.0)
        self.burst = max(1, rate.count // 100)
        flow = rate.count - self.burst - rate.count // 100
        self.interval_s = rate.window_s / flow if flow > 0 else rate.window_s * 1.01
        self.spent_until_s = float("-inf")

    def restore(self, state: bytes | None, now_s: float) -> None:
        """Goes on after a restart; None: it is not known what was spent, so take everything as spent just now."""
        spent_until_s = None if state is None else msgspec.json.decode(state, type=float)
        worst = now_s + self.burst * self.interval_s
        self.spent_until_s = worst if spent_until_s is None else min(spent_until_s, worst)

    def wait_s(self, now_s: float) -> float:
        """Seconds until the next request may leave; 0: now."""
        return max(0.0, self.spent_until_s - (self.burst - 1) * self.interval_s - now_s)

    def spend(self, now_s: float) -> None:
        """Counts a request that leaves now."""
        self.spent_until_s = max(self.spent_until_s, now_s) + self.interval_s

    def accepted(self, now_s: float) -> None:
        """The proxy's rate let a request through."""

    def refused(self, now_s: float, retry_after_s: float | None) -> None:
        """The proxy said 429."""
        self.spent_until_s = max(self.spent_until_s, now_s + (retry_after_s or 1.0))

    def state(self) -> bytes:
        """To be remembered."""
        return msgspec.json.encode(self.spent_until_s)
