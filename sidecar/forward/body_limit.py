"""Learns how large a body one proxy takes: what is configured, or less where something on the way answered 413. Pure.

It halves with each 413, though never below a size that went through since, and doubles every ten minutes after that,
since gateways are reconfigured too.
"""

_GROW_EVERY_S = 600.0
_MOST_DOUBLINGS = 40
"""The most times that the limit is doubled: enough to go from one byte to more than any body."""


class BodyLimit:
    """Learn the largest body that one proxy takes. Event loop only. Times are seconds on a clock that never jumps."""

    __slots__ = ("_good_bytes", "_learned_bytes", "_max_bytes", "_since_s")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes  # as configured
        self._learned_bytes = max_bytes  # what the last 413 left
        self._since_s = 0.0  # when that was
        self._good_bytes = 0  # the largest body that went through; 0: none, or not since somebody changed the way

    def limit_bytes(self, now_s: float) -> int:
        """Return the largest body to send now."""
        doublings = min(_MOST_DOUBLINGS, int((now_s - self._since_s) / _GROW_EVERY_S))
        return min(self._max_bytes, self._learned_bytes << doublings)

    def fitted(self, size: int) -> None:
        """Note that a body of `size` bytes went through."""
        self._good_bytes = max(self._good_bytes, size)

    def too_large(self, size: int, now_s: float) -> None:
        """Note that a body of `size` bytes did not."""
        if self._good_bytes >= size:  # that was before somebody changed it
            self._good_bytes = 0
        self._learned_bytes = max(1, self._good_bytes, min(self.limit_bytes(now_s), size // 2))
        self._since_s = now_s
