"""Decides whether to gather a little before a commit: it is worth it exactly if more arrives meanwhile. Pure.

A commit costs the same for one event as for a hundred. Under load a pause of up to two milliseconds lets a commit carry
more; a lone client that waits for each answer would only be slowed down. So the pause is tried, and what it brought
decides: if it did not double what waited, it is left out for a while, for twice as long each time. And it ends early
once as much waits as the last commit carried: clients that wait for their answers have then all been heard.
"""

PAUSE_S = 0.002
_LOOK_EVERY_S = 0.0005
_FEW = 4
_MAX_SKIPS = 64


class GroupCommit:
    """Decide the pause before a commit. Times are in seconds on a clock that never jumps; only appends are counted."""

    __slots__ = ("_before", "_last_commit_s", "_last_size", "_skip_next", "_skips")

    def __init__(self) -> None:
        self._last_commit_s = float("-inf")  # when the last commit ended
        self._last_size = 0  # appends in the last commit
        self._skips = 0  # for how many commits the pause is left out, since it gained nothing; doubles
        self._skip_next = 0  # how many of these are still to come
        self._before: int | None = None  # the size of the group before a pause was tried; None: none was

    def plan_pause_s(self, now_s: float, waiting: int) -> float:
        """Decide for how many seconds to gather more; 0: commit the `waiting` appends. The first event never waits."""
        left_s = self._last_commit_s + PAUSE_S - now_s
        if left_s <= 0 or not waiting or self._skip_next or waiting >= max(_FEW, self._last_size):
            return 0.0
        if self._before is None:
            self._before = waiting
        return left_s if self._last_size < _FEW else min(left_s, _LOOK_EVERY_S)

    def committed(self, now_s: float, size: int) -> None:
        """Note that a commit of `size` appends has ended."""
        if self._before is not None:
            self._skips = 0 if size >= 2 * self._before else min(_MAX_SKIPS, 2 * self._skips or 1)
            self._skip_next = self._skips
            self._before = None
        elif self._skip_next:
            self._skip_next -= 1
        self._last_commit_s, self._last_size = now_s, size
