"""Whether to gather a little before a commit: worth it exactly if more arrives meanwhile. Pure.

A commit costs the same for one event as for a hundred. Under load a pause of two milliseconds lets a commit carry more;
a lone client that waits for each answer would only be slowed down. So the pause is tried, and what it brought decides:
if it did not double what waited, it is left out for a while, for twice as long each time.
"""

PAUSE_S = 0.002
_MAX_SKIPS = 64


class Pace:
    """Belongs to the writer. Times are in seconds on a clock that never jumps."""

    __slots__ = ("_last_commit_s", "_skip_next", "_skips")

    def __init__(self) -> None:
        self._last_commit_s = float("-inf")
        self._skips = self._skip_next = 0

    def pause_s(self, now_s: float) -> float:
        """How long to wait before a commit; 0 after a quiet moment: the first event never waits."""
        left_s = self._last_commit_s + PAUSE_S - now_s
        if left_s <= 0:
            return 0.0
        if self._skip_next:
            self._skip_next -= 1
            return 0.0
        return left_s

    def paused(self, before: int, after: int) -> None:
        """What a pause brought: `before` operations waited at its beginning, `after` at its end."""
        self._skips = 0 if after >= 2 * before else min(_MAX_SKIPS, 2 * self._skips or 1)
        self._skip_next = self._skips

    def committed(self, now_s: float) -> None:
        """A commit ended."""
        self._last_commit_s = now_s
