"""One file of a tail while it is followed: how far it was read, how far that is on disk, and what it looks like.

    committed ──────────> reached ──────────> its end
      on disk, with its     handed over to      not read yet
      events                the queue

Reading begins a little before `reached`, at the mark: a file that does not go on as it did shows at once.
"""

import contextlib
import os
from collections import deque

import msgspec

from sidecar.core.model import Checkpoint, Loss
from sidecar.inputs.tail.fingerprint import HEAD_BYTES, MARK_BYTES, Likeness, Look, decide, digest
from sidecar.inputs.tail.open_file import SUFFIXES, OpenFile, open_source
from sidecar.parsing import HEAD_BYTES as CODEC_BYTES
from sidecar.parsing import TextCodec, codec_of

_RATE_OVER_S = 10.0


class Changed(Exception):
    """The file does not go on as it did before."""


class TailedFile:
    """Belongs to the thread of its tail; others may read its attributes. Times are in seconds of a clock that only runs
    forward, but for `..._ms`."""

    def __init__(self, checkpoint: Checkpoint, *, saved: bool) -> None:
        """`saved`: the checkpoint is on disk."""
        self.committed = self.reached = checkpoint
        self.saved = self.expected = saved
        self.in_flight = 0
        self.failed: Exception | None = None
        self.source: OpenFile | None = None
        self.size = checkpoint.offset
        self.modified_ns = 0
        self.seen_ms = checkpoint.seen_ms
        self.last_event_ms: int | None = None
        moved = checkpoint.at != checkpoint.path and not os.path.islink(checkpoint.path)
        self.superseded = checkpoint.finished or moved
        self.missing = False
        self.located = True
        self.touched = False
        self.noted = False
        self.shrunk_from = 0
        self.shown: str | None = None
        self.after: TailedFile | None = None
        self.ended = False
        self.losses: list[Loss] = []
        self.drained = False
        self.quiet_since_s: float | None = None
        self.held_since_s: float | None = None
        self.held_to = 0
        self.final_tried_s: float | None = None
        self.caught_up_ms = self.seen_ms
        self.used_s = 0.0
        self.is_no_copy = saved
        self.begins_as_before = False
        self.why: str | None = None
        self.unreadable = False
        self.step_bytes = 0
        self.peak_rate = 0.0
        self._codec: TextCodec | None = None
        self._head = b""
        self._sizes: deque[tuple[float, int]] = deque(maxlen=16)

    @property
    def number(self) -> int:
        """Of its checkpoint."""
        return self.committed.number

    @property
    def path(self) -> str:
        """Return where the tail's patterns found it first."""
        return self.committed.path

    @property
    def at(self) -> str:
        """Return where it is now."""
        return self.reached.at

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        return self.reached.device, self.reached.inode

    @property
    def lag_bytes(self) -> int:
        """Return what is not on disk of it; of a compressed file, nobody knows before its end."""
        return max(0, self.size - self.committed.offset)

    def is_at(self, path: str, state: os.stat_result | None = None) -> None:
        """It was found at `path`."""
        changes: dict[str, object] = {"at": path}
        if state is not None:
            changes |= {"device": state.st_dev, "inode": state.st_ino}
        self.reached = msgspec.structs.replace(self.reached, **changes)
        self.missing = False

    def note(self, state: os.stat_result, now_s: float, now_ms: int) -> bool:
        """It was seen; whether it looks different from before. A compressed file does not show how large it is."""
        if self.at.endswith(SUFFIXES):
            changed, self.modified_ns = state.st_mtime_ns != self.modified_ns, state.st_mtime_ns
            self.seen_ms, self.noted = now_ms, True
            return changed
        changed = (state.st_size, state.st_mtime_ns) != (self.size, self.modified_ns)
        if changed:
            self._sizes.append((now_s, state.st_size))
            first_s, first_size = self._sizes[0]
            if now_s > first_s:
                self.peak_rate = max(self.peak_rate, (state.st_size - first_size) / (now_s - first_s))
        if self.noted and state.st_size < self.size:
            self.shrunk_from = max(self.shrunk_from, self.size)
        self.size, self.modified_ns = state.st_size, state.st_mtime_ns
        self.seen_ms, self.noted = now_ms, True
        return changed

    def rate(self, now_s: float) -> float:
        """Bytes a second by which it grew lately."""
        recent = [(moment_s, size) for moment_s, size in list(self._sizes) if now_s - moment_s <= _RATE_OVER_S]
        return max(0.0, (recent[-1][1] - recent[0][1]) / (now_s - recent[0][0])) if len(recent) > 1 else 0.0

    def open(self) -> None:
        """Open it where it is now. Raises OSError, or Changed if that is another file, or begin in another way."""
        if self.source is not None:
            return
        source = open_source(self.at)
        try:
            if (source.device, source.inode) != self.identity:
                raise Changed
            head = source.read(self.reached.head_bytes, 0)
            if len(head) != self.reached.head_bytes or digest(head) != self.reached.head:
                raise Changed
        except BaseException:
            source.close()
            raise
        self.source, self._head = source, head

    def close(self) -> None:
        """Keep what was reached; may be called twice."""
        if self.source is not None:
            self.source.close()
            self.source = None

    def read(self, size: int) -> bytes:
        """At most `size` bytes from `reached` on. Raises OSError, EOFError, or Changed."""
        assert self.source is not None
        if not self.begins_as_before:
            self._check_beginning()
        mark = self.reached.mark
        data = self.source.read(len(mark) + size, self.reached.offset - len(mark))
        if not data.startswith(mark) or not (self.reached.offset or self._begins_with(data)):
            raise Changed
        return data[len(mark) :]

    def _check_beginning(self) -> None:
        """After a rest, what was written over may look the same at the mark, where all lines end alike."""
        assert self.source is not None
        if not self.source.compressed:
            head = self.source.read(self.reached.head_bytes, 0)
            if len(head) < self.reached.head_bytes or digest(head) != self.reached.head:
                raise Changed
        self.begins_as_before = True

    def _begins_with(self, data: bytes) -> bool:
        """Of a file of which nothing was taken yet: whether what was seen at its beginning is still there."""
        return digest(data[: self.reached.head_bytes]) == self.reached.head

    def codec(self, encoding: str) -> TextCodec:
        """Return how it is encoded. Raises OSError or EOFError."""
        if self._codec is None:
            assert self.source is not None
            self._codec = codec_of(encoding, self.source.read(CODEC_BYTES, 0))
        return self._codec

    def beyond(self, data: bytes, consumed: int, now_ms: int, *, inside_line: bool) -> Checkpoint:
        """Go on to behind the first `consumed` bytes of `data`, which follow on `reached`."""
        old = self.reached
        head, head_bytes = old.head, old.head_bytes
        if old.offset < HEAD_BYTES:
            self._head = (self._head[: old.offset] + data[:consumed])[:HEAD_BYTES]
            head, head_bytes = digest(self._head), len(self._head)
        self.reached = msgspec.structs.replace(
            old,
            offset=old.offset + consumed,
            head=head,
            head_bytes=head_bytes,
            mark=(old.mark + data[max(0, consumed - MARK_BYTES) : consumed])[-MARK_BYTES:],
            inside_line=inside_line,
            finished=False,
            seen_ms=now_ms,
        )
        return self.reached

    def remember_beginning(self, data: bytes) -> None:
        """Of a file of which nothing was taken yet, `data` stands at its beginning."""
        known = self.reached.head_bytes
        if not self.reached.offset and known < min(HEAD_BYTES, len(data)):
            self._head = b""  # what is taken of it is remembered from its beginning on
            head = data[:HEAD_BYTES]
            self.reached = msgspec.structs.replace(self.reached, head=digest(head), head_bytes=len(head))

    def look_at_beginning(self) -> None:
        """Of a file that is open, and of which nothing was taken yet: copies of it are known by its beginning."""
        if self.source is not None and not self.reached.offset:
            try:
                self.remember_beginning(self.source.read(HEAD_BYTES, 0))
            except (OSError, EOFError):
                return

    def see(self) -> None:
        """Of a file that must not be read yet: remembers its beginning, and keeps it open as long as it has none.

        Else nobody would know it any more, should it be renamed before its turn.
        """
        known = self.reached.head_bytes
        if self.reached.offset or known >= min(HEAD_BYTES, max(1, self.size)):
            return
        with contextlib.suppress(OSError, EOFError, Changed):
            self.open()
            self.look_at_beginning()
            if self.reached.head_bytes:
                self.close()

    def rewind(self, committed: Checkpoint | None = None) -> None:
        """Go back to what is on disk, after something could not be put there."""
        self.close()
        if committed is not None:
            self.committed, self.saved = committed, True
        was = self.reached
        self.reached = msgspec.structs.replace(self.committed, at=was.at, device=was.device, inode=was.inode)
        if was.head_bytes > self.reached.head_bytes:  # what was seen of its beginning is still so
            self.reached = msgspec.structs.replace(self.reached, head=was.head, head_bytes=was.head_bytes)
        self.expected, self.failed = self.saved, None

    def verdict(self) -> Likeness:
        """Return what has become of it, by a look at where it should be. Raises OSError."""
        try:
            look = _look(self.source, self.reached) if self.source is not None else look_at(self.at, self.reached)
        except FileNotFoundError:
            look = None
        return decide(self.reached, look)

    def modified_ms(self) -> int:
        """Return when it was last written to, as far as was seen."""
        return self.modified_ns // 1_000_000


def look_at(path: str, known: Checkpoint) -> Look:
    """Look at what stands at `path`, as far as it can be compared with `known`. Raises OSError.

    A compressed file counts as its content; its size is then only known to be enough, or not.
    """
    try:
        source = open_source(path)
    except EOFError as error:
        raise OSError(str(error)) from None
    try:
        return _look(source, known)
    finally:
        source.close()


def _look(source: OpenFile, known: Checkpoint) -> Look:
    try:
        head = source.read(known.head_bytes, 0)
        before = source.read(len(known.mark), known.offset - len(known.mark))
    except EOFError as error:
        raise OSError(f"damaged: {error}") from None
    size = source.state().st_size
    if source.compressed:
        size = known.offset if len(before) == len(known.mark) else 0
    return Look(source.device, source.inode, size, head, before)
