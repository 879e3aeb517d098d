"""One file of a tail while it is followed: how far it was read, what was seen of it, and in which phase it is.

Invariants:

- The position (`position.py`) is the only state that lasts. It moves with the events, in one transaction.
- Reading begins a little before what was read, at the mark: content that does not go on as it did shows at once.
- The fields of a file and its parts are written by their own methods only. What a look means for a file is decided in
  `rotation.py`; `tracker.py` and `worker.py` carry it out by calling these methods.

    FOLLOWED ──rotate()──> ROTATED ──end reached──> DRAINED ──finish()──> FINISHED
       ^                      │ ^                      │
       └───return_home()──────┘ └──────more to read────┘   (rewind() also brings a FINISHED one back to ROTATED)
"""

import contextlib
import enum
import os

from sidecar.core.model import Advance, Checkpoint, Loss
from sidecar.inputs.tail.fingerprint import HEAD_BYTES, Likeness, Look, compare, digest
from sidecar.inputs.tail.observed import Observed
from sidecar.inputs.tail.open_file import SUFFIXES, OpenFile, open_source
from sidecar.inputs.tail.position import Position
from sidecar.inputs.tail.remainder import Remainder
from sidecar.parsing import Columns, DelimitedRule, last_columns
from sidecar.text.encodings import HEAD_BYTES as CODEC_BYTES
from sidecar.text.encodings import TextCodec, codec_of


class Changed(Exception):
    """The content does not go on as it did when the file was read last."""


class Phase(enum.Enum):
    """Tells what still comes to a file, and what may be read behind it."""

    FOLLOWED = "followed"  # what is written to its path comes to it
    ROTATED = "rotated"  # another file may be at its path; what is left of it is read first
    DRAINED = "drained"  # rotated, and all of it is handed over: what came after it may be read
    FINISHED = "finished"  # nothing more will be read; it leaves the registry once that is on disk


class TrackedFile:
    """Join the parts of one file. Belongs to the thread of its tail; other threads may read attributes."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        saved: bool,
        rotated: bool = False,
        after: "TrackedFile | None" = None,
        from_other_boot: bool = False,
    ) -> None:
        """`saved`: the checkpoint is on disk. `rotated`: it is not at its path any more. `after`: is read first."""
        self.position = Position(checkpoint, saved=saved)
        self.observed = Observed(checkpoint)
        self.remainder = Remainder()
        moved = saved and checkpoint.at != checkpoint.path and not os.path.islink(checkpoint.path)
        self.phase = Phase.ROTATED if rotated or checkpoint.finished or moved else Phase.FOLLOWED
        self.source: OpenFile | None = None  # None: closed
        self.after = after  # the file that was at its path before, and is read first; None: no need to wait
        self.losses: list[Loss] = []  # not on disk yet
        self.quiet_since_s: float | None = None  # since when its end does not move; None: it is not at its end
        self.used_s = 0.0  # when it was last read
        self.is_from_other_boot = from_other_boot  # the host went down since its content was last compared
        self.is_original = saved  # it is known to be no copy of another file
        self.error: str | None = None  # why it cannot be read; None: it can
        self.unreadable = False  # what came after it does not wait for it, since it may never be read
        self.block_bytes = 0  # how much is read at once; 0: as usual
        self.last_event_ms: int | None = None  # when an event of it was last committed; None: not since the start
        self._begins_as_before = False  # its beginning was compared since it last rested
        self._codec: TextCodec | None = None  # how it is encoded; None: not looked at
        self._columns: Columns | None = None  # as it has named them up to where it is read; None: not looked for

    @property
    def number(self) -> int:
        """Return the number of its checkpoint, unique within the tail."""
        return self.position.committed.number

    @property
    def path(self) -> str:
        """Return where the tail's patterns found it first."""
        return self.position.committed.path

    @property
    def at(self) -> str:
        """Return where it is now."""
        return self.position.reached.at

    @property
    def reached(self) -> Checkpoint:
        """Return up to where it is handed over."""
        return self.position.reached

    @property
    def committed(self) -> Checkpoint:
        """Return up to where it is on disk."""
        return self.position.committed

    @property
    def in_flight(self) -> int:
        """Return how many blocks are on their way to the disk."""
        return self.position.in_flight

    @property
    def identity(self) -> tuple[int, int]:
        """Return device and inode."""
        return self.reached.device, self.reached.inode

    @property
    def is_compressed(self) -> bool:
        """Return True if its name is that of a compressed file."""
        return self.at.endswith(SUFFIXES)

    @property
    def is_rotated(self) -> bool:
        """Return True if what is written to its path does not come to it."""
        return self.phase is not Phase.FOLLOWED

    @property
    def is_drained(self) -> bool:
        """Return True if what came after it may be read."""
        return self.phase is Phase.DRAINED

    @property
    def is_finished(self) -> bool:
        """Return True if nothing more will be read of it."""
        return self.phase is Phase.FINISHED

    @property
    def lag_bytes(self) -> int:
        """Return what is not on disk of it; of a compressed file, nobody knows before its end."""
        return max(0, self.observed.size - self.committed.offset)

    # What a look showed.

    def note(self, size: int, modified_ns: int, now_s: float, now_ms: int) -> bool:
        """Note a look at it. Returns True if it looks different from before."""
        return self.observed.note(size, modified_ns, now_s, now_ms, compressed=self.is_compressed)

    def move_to(self, path: str) -> None:
        """Note that it is at `path`."""
        self.position.change(at=path)

    def continue_in(self, path: str, identity: tuple[int, int]) -> None:
        """Go on at `path` in another inode, which holds all that was read."""
        self.position.change(at=path, device=identity[0], inode=identity[1])
        self.observed.begin_in_other_inode()
        self.is_original = True

    def go_on_at(self, checkpoint: Checkpoint) -> None:
        """Go on at another place, which is to be saved before anything is read."""
        self.close()
        self.position.go_on_at(checkpoint)
        self.observed.accept_cut()

    def confirm_boot(self, boot: str) -> None:
        """Note that its content was compared in this boot, and goes on as it did."""
        self.position.change(boot=boot)
        self.is_from_other_boot = False

    def rotate(self) -> None:
        """Note that another file may be at its path."""
        if self.phase is Phase.FOLLOWED:
            self.phase = Phase.ROTATED

    def return_home(self) -> None:
        """Note that it is at its own path again."""
        self.phase = Phase.FOLLOWED

    def drain(self) -> None:
        """Note that what came after it may be read."""
        self.phase = Phase.DRAINED

    def finish(self) -> None:
        """Note that nothing more will be read of it."""
        self.phase = Phase.FINISHED

    def leave_out(self) -> None:
        """Note that it is not to be read: it is a copy."""
        self.position.change(finished=True)

    def wait_for(self, before: "TrackedFile | None") -> None:
        """Let `before` be read first."""
        self.after = before

    def accept_as_original(self) -> None:
        """Note that it is no copy of another file."""
        self.is_original = True

    def add_loss(self, loss: Loss) -> None:
        """Note bytes that cannot be had any more; to be saved with the next checkpoint."""
        self.losses.append(loss)

    # Reading.

    def open(self) -> None:
        """Open it where it is now. Raises OSError, or Changed if that is another file, or begins in another way."""
        if self.source is not None:
            return
        known = self.reached
        source = open_source(self.at)
        try:
            if (source.device, source.inode) != self.identity:
                raise Changed
            head = source.read(known.head_bytes, 0)
            if len(head) != known.head_bytes or digest(head) != known.head:
                raise Changed
        except BaseException:
            source.close()
            raise
        self.source = source
        self.position.open_with(head)

    def close(self) -> None:
        """Keep what was reached; may be called twice."""
        self._columns = None
        if self.source is not None:
            self.source.close()
            self.source = None

    def use(self, now_s: float) -> None:
        """Note that it is being read."""
        self.used_s = now_s

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes from `reached` on. Raises OSError, EOFError, or Changed."""
        assert self.source is not None
        if not self._begins_as_before:
            self._check_beginning()
        mark, offset = self.reached.mark, self.reached.offset
        data = self.source.read(len(mark) + size, offset - len(mark))
        if not data.startswith(mark) or not (offset or self._begins_with(data)):
            raise Changed
        return data[len(mark) :]

    def _check_beginning(self) -> None:
        """After a rest, what was written over may look the same at the mark, where all lines end alike."""
        assert self.source is not None
        if not self.source.compressed:
            head = self.source.read(self.reached.head_bytes, 0)
            if len(head) < self.reached.head_bytes or digest(head) != self.reached.head:
                raise Changed
        self._begins_as_before = True

    def _begins_with(self, data: bytes) -> bool:
        """Return whether what was seen at the beginning is still there, of a file of which nothing was taken yet."""
        return digest(data[: self.reached.head_bytes]) == self.reached.head

    def codec(self, encoding: str) -> TextCodec:
        """Return how it is encoded. Raises OSError or EOFError."""
        if self._codec is None:
            assert self.source is not None
            self._codec = codec_of(encoding, self.source.read(CODEC_BYTES, 0))
        return self._codec

    def columns(self, rule: DelimitedRule) -> Columns:
        """Return the names of its columns that hold where it is read on. Raises OSError or EOFError."""
        if self._columns is None:
            assert self.source is not None
            # To read a compressed file backwards would be to decompress it again and again.
            offset = min(self.reached.offset, 1) if self.source.compressed else self.reached.offset
            self._columns = last_columns(self.source.read, offset, rule)
        return self._columns

    def know_columns(self, columns: Columns) -> None:
        """Note the names of its columns behind what is taken now."""
        self._columns = columns

    def read_by(self, block_bytes: int) -> None:
        """Read so many bytes at once from now on; 0: as usual."""
        self.block_bytes = block_bytes

    def take(self, data: bytes, consumed: int, now_ms: int, *, inside_line: bool, state: bytes = b"") -> Advance:
        """Go on to behind the first `consumed` bytes of `data`; they are in flight now."""
        advance = self.position.advance(data, consumed, now_ms, inside_line=inside_line, state=state)
        self.observed.accept_size(advance.checkpoint.offset)
        self.remainder.drop()
        self.quiet_since_s = None
        if self.phase is Phase.DRAINED:
            self.phase = Phase.ROTATED
        return advance

    def reach_end(self, state: os.stat_result, left: int, now_s: float, now_ms: int) -> None:
        """Note that there is nothing more to read now; `left` bytes may be the beginning of a longer line or group."""
        # What came after it was read is news to the next look, and to whoever waits for it to be quiet.
        size = min(state.st_size, self.reached.offset + left)
        if self.note(size, state.st_mtime_ns, now_s, now_ms) or self.quiet_since_s is None:
            self.quiet_since_s = now_s
        if self.observed.shrunk_from:
            return
        if left:
            self.remainder.begin(self.reached.offset, self.reached.offset + left, now_s)
        else:
            self.remainder.drop()
        self.observed.catch_up(now_ms)
        self._begins_as_before = False
        if state.st_nlink == 0:
            self.rotate()
        if self.is_rotated:
            self.phase = Phase.ROTATED if left else Phase.DRAINED

    def reach_end_of_compressed(self) -> None:
        """Note that all of a compressed file is handed over; only now its size is known."""
        self.observed.know_size(self.reached.offset)

    def fail(self, why: str, *, unreadable: bool) -> None:
        """Note that it cannot be read now."""
        self.error, self.unreadable = why, unreadable
        self.close()

    def recover(self) -> None:
        """Note that it can be read."""
        self.error, self.unreadable = None, False

    def settle(self, advance: Advance, error: Exception | None, *, had_events: bool, now_ms: int) -> None:
        """Note what became of one block in flight."""
        self.position.settle(advance.checkpoint, error)
        if error is None and had_events:
            self.last_event_ms = now_ms

    def save(self, advance: Advance) -> None:
        """Note that this checkpoint, which no event moved, and its losses are on disk."""
        self.position.save(advance.checkpoint)
        self.drop_losses(len(advance.losses))

    def drop_losses(self, count: int) -> None:
        """Note that the first `count` losses are on disk."""
        del self.losses[:count]

    def rewind(self, committed: Checkpoint | None = None) -> None:
        """Go back to what is on disk, after something could not be put there; also a file that had ended."""
        self.close()
        self.position.rewind(committed)
        self.remainder.drop()
        if self.phase is Phase.FINISHED and not self.reached.finished:
            self.phase = Phase.ROTATED

    # Its beginning, by which copies of it are known.

    def remember_beginning(self, data: bytes) -> None:
        """Note that `data` stands at the beginning of a file of which nothing was taken yet."""
        self.position.remember_beginning(data)

    def look_at_beginning(self) -> None:
        """Read the beginning of a file that is open, and of which nothing was taken yet."""
        if self.source is not None and not self.reached.offset:
            try:
                self.remember_beginning(self.source.read(HEAD_BYTES, 0))
            except (OSError, EOFError):
                return

    def look_while_waiting(self) -> None:
        """Remember the beginning of a file that must not be read yet; keep it open as long as it has none.

        Else nobody would know it any more, should it be renamed before it is read.
        """
        known = self.reached.head_bytes
        if self.reached.offset or known >= min(HEAD_BYTES, max(1, self.observed.size)):
            return
        with contextlib.suppress(OSError, EOFError, Changed):
            self.open()
            self.look_at_beginning()
            if self.reached.head_bytes:
                self.close()

    def likeness(self) -> Likeness:
        """Return what has become of it, by a look at where it should be. Raises OSError."""
        try:
            look = _look(self.source, self.reached) if self.source is not None else look_at(self.at, self.reached)
        except FileNotFoundError:
            look = None
        return compare(self.reached, look)

    def modified_ms(self) -> int:
        """Return when it was last written to, as far as was seen."""
        return self.observed.modified_ns // 1_000_000


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
