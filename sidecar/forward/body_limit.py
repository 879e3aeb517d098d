"""How large a body one proxy takes: what is configured, or less where something on the way answered 413. Pure.

It halves with each 413, though never below a size that went through since, and grows again slowly, since gateways are
reconfigured too.
"""

_GROW_EVERY_S = 600.0
_GROWTH = 2


class BodyLimit:
    """Belongs to one proxy. Times are in seconds on a clock that never jumps."""

    __slots__ = ("_good_bytes", "_learned_bytes", "_max_bytes", "_since_s")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = self._learned_bytes = max_bytes
        self._good_bytes = 0
        self._since_s = 0.0

    def bytes(self, now_s: float) -> int:
        """Return the largest body to send now."""
        if self._learned_bytes < self._max_bytes and now_s - self._since_s >= _GROW_EVERY_S:
            self._since_s = now_s
            self._learned_bytes = min(self._max_bytes, self._learned_bytes * _GROWTH)
        return self._learned_bytes

    def fitted(self, size: int) -> None:
        """A body of `size` bytes went through."""
        self._good_bytes = max(self._good_bytes, size)

    def too_large(self, size: int, now_s: float) -> None:
        """A body of `size` bytes did not."""
        if self._good_bytes >= size:  # that was before somebody changed it
            self._good_bytes = 0
        self._learned_bytes = max(1, self._good_bytes, min(self._learned_bytes, size // 2))
        self._since_s = now_s
