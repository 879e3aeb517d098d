"""Holds what was seen of a file from outside, without reading it: size, growth, names."""

from collections import deque

from sidecar.core.model import Checkpoint

_RATE_OVER_S = 10.0


class Observed:
    """Hold what was seen of a file from outside. Times are in seconds of a clock that only runs forward, or `_ms`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.size = checkpoint.offset  # bytes; of a compressed file only what was read, until its end
        self.modified_ns = 0  # 0: not looked at since the start
        self.seen_ms = checkpoint.seen_ms
        self.noted = False  # looked at since the start, or since it goes on in another inode
        self.shrunk_from = 0  # the largest size it had before it became smaller; 0: it did not
        self.dirty = False  # somebody told that it was written to, and it was not read to its end since
        self.is_untold = False  # it grew, and nobody told that it was written to, as of a file that is mounted alone
        self.named = True  # False: it is open, and nobody knows a path of it
        self.matched_path: str | None = None  # the path by which the patterns match it; None: they do not
        self.caught_up_ms = checkpoint.seen_ms  # when it was last read to its end
        self.peak_rate = 0.0  # bytes a second, the fastest that it was seen to grow; 0.0: never
        self._was_told = False  # that it was written to, since the last look
        self._sizes: deque[tuple[float, int]] = deque(maxlen=16)  # (moment, size) of the last changes

    def note(self, size: int, modified_ns: int, now_s: float, now_ms: int, *, compressed: bool) -> bool:
        """Note a look at the file. Returns True if it looks different from before.

        A compressed file does not show how large its content is.
        """
        if compressed:
            changed = modified_ns != self.modified_ns
        else:
            changed = (size, modified_ns) != (self.size, self.modified_ns)
            if changed:
                self._measure(now_s, size)
            if self.noted and size < self.size:
                self.shrunk_from = max(self.shrunk_from, self.size)
            self.size = size
        self.modified_ns = modified_ns
        self.seen_ms, self.noted = now_ms, True
        return changed

    def _measure(self, now_s: float, size: int) -> None:
        self._sizes.append((now_s, size))
        first_s, first_size = self._sizes[0]
        if now_s > first_s:
            self.peak_rate = max(self.peak_rate, (size - first_size) / (now_s - first_s))

    def rate(self, now_s: float) -> float:
        """Return by how many bytes a second the file grew lately."""
        recent = [(moment_s, size) for moment_s, size in list(self._sizes) if now_s - moment_s <= _RATE_OVER_S]
        return max(0.0, (recent[-1][1] - recent[0][1]) / (now_s - recent[0][0])) if len(recent) > 1 else 0.0

    def match(self, path: str | None) -> None:
        """Note by which path the patterns match it now."""
        self.matched_path = path

    def name(self, *, known: bool) -> None:
        """Note whether a path of it is known."""
        self.named = known

    def mark_dirty(self) -> None:
        """Note that somebody told that it was written to."""
        self.dirty = self._was_told = True
        self.is_untold = False

    def look_whether_told(self, size_before: int) -> None:
        """Note at a look at everything whether it grew though nobody told; whoever tells of it yet takes that back."""
        self.is_untold = self.is_untold or (not self._was_told and self.size > size_before)
        self._was_told = False

    def accept_size(self, size: int) -> None:
        """Note that it has at least `size` bytes, since so many were read."""
        self.size = max(self.size, size)

    def know_size(self, size: int) -> None:
        """Note how large the content of a compressed file is."""
        self.size = size

    def accept_cut(self) -> None:
        """Note that its being smaller is accounted for."""
        self.shrunk_from = 0

    def begin_in_other_inode(self) -> None:
        """Forget what the old inode looked like."""
        self.noted, self.shrunk_from = False, 0

    def catch_up(self, now_ms: int) -> None:
        """Note that it was read to its end."""
        self.caught_up_ms, self.dirty = now_ms, False
