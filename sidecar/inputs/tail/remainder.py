"""Times what is left at the end of a file: it may be the beginning of a longer line, group or run, or be all. Pure."""

import math

import msgspec


class WaitLimits(msgspec.Struct, frozen=True):
    """Say how long what is left may wait, in seconds: a line without an end and a group of lines, since they last grew.

    `run_s`: a run of equal events, since it began.
    """

    line_s: float
    group_s: float
    run_s: float = 0.0


class Remainder:
    """Hold back what is left at the end of a file: it may be the beginning of a longer line, group or run."""

    def __init__(self) -> None:
        self.since_s: float | None = None  # when this end was first reached; None: nothing is left
        self._began_s = 0.0  # when something was first left behind this place
        self._start = self._end = 0  # the offsets of that place and that end
        self._tried_s: float | None = None  # the `since_s` for which all waiting is over; None: not over, or not tried

    def begin(self, start: int, end: int, now_s: float) -> None:
        """Note that bytes are left from `start` up to `end`."""
        if self.since_s is None or start != self._start:
            self._began_s, self._start = now_s, start
        if self.since_s is None or end != self._end:
            self.since_s, self._end = now_s, end

    def drop(self) -> None:
        """Note that nothing is left, or that it is being read."""
        self.since_s = None

    def due_s(self, limits: WaitLimits) -> tuple[float, float]:
        """Return when a line without an end, and an open group or run, have waited for so long; infinity: never."""
        if self.since_s is None:
            return math.inf, math.inf
        group_s = max(self.since_s + limits.group_s, self._began_s + limits.run_s)
        return self.since_s + limits.line_s, group_s

    def is_over(self, limits: WaitLimits, now_s: float) -> tuple[bool, bool]:
        """Return whether a line without an end, and an open group or run, have waited for so long."""
        line_s, group_s = self.due_s(limits)
        return now_s >= line_s, now_s >= group_s

    def try_now(self, limits: WaitLimits, now_s: float) -> bool:
        """Return True if what is left is to be read now; each end of a wait is told once."""
        over = self.is_over(limits, now_s)
        if not any(over) or self._tried_s == self.since_s:
            return False
        self._tried_s = self.since_s if all(over) else None
        return True
