"""Tells why and until when one lane sends nothing, and since when it fails for this reason."""

import logging
from collections.abc import Callable
from typing import Literal

from sidecar.core.backoff import Backoff
from sidecar.forward.causes import CauseKind, Causes

HoldState = Literal["idle", "sending", "held", "unauthorized", "rate_limited"]


class Hold:
    """Track the failures of one lane and its pauses. Times are in seconds on a clock that never jumps."""

    def __init__(
        self, name: str, clock: Callable[[], float], random: Callable[[], float], causes: Causes | None = None
    ) -> None:
        self.name = name
        self._causes = causes or Causes(clock)
        self.state: HoldState = "idle"  # what the status shows; set by the forwarder too
        self.last_error: str | None = None  # None: the last request was taken, or there was none
        self.failures = 0  # in a row; the pauses grow with them
        self.failing_since_s: float | None = None  # with the present reason; None: it does not fail
        self._clock, self._random = clock, random
        self._until_s = float("-inf")  # nothing is sent before that

    def wait_s(self, now_s: float) -> float:
        """Return the seconds that are left."""
        return max(0.0, self._until_s - now_s)

    def failed(self, reason: str, kind: CauseKind, level: int = logging.WARNING) -> None:
        """Count a failure. Another cause than that of the last one is dated anew; the pauses go on growing."""
        self.last_error = reason
        if self._causes.failed(self, self.name, kind, reason, level):
            self.failing_since_s = self._clock()
        self.failures += 1

    def back_off(self, state: HoldState, backoff: Backoff, *, at_least_s: float = 0.0) -> float:
        """Send nothing for a time that grows with the failures, and `at_least_s` on top. Returns the seconds."""
        wait_s = at_least_s + backoff.delay_s(self.failures, self._random)
        self.until(state, self._clock() + wait_s)
        return wait_s

    def until(self, state: HoldState, until_s: float) -> None:
        """Send nothing until then."""
        self.state, self._until_s = state, until_s

    def release(self) -> None:
        """Let it send at once, whatever failed before."""
        self._until_s = float("-inf")

    def recovered(self) -> None:
        """Note that the proxy took something."""
        self._causes.recovered(self)
        self.failures, self.last_error, self.failing_since_s = 0, None, None
        self.release()

    def end(self) -> None:
        """Belong to no cause any more, since the lane is gone."""
        self._causes.forget(self)
