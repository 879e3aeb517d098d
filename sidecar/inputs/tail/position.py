"""Holds how far a file was read, and how far that is on disk.

    committed ──────────> reached ──────────> its end
      on disk, with its     handed over to      not read yet
      events                the queue

Invariants: `committed` is on disk in the same transaction as the events before it, `reached` never behind it. After a
failure nothing more is read until all blocks in flight have settled; then reading goes on at `committed`. A checkpoint
names the one that it replaces, so that a commit that succeeded, and seemed not to, is found out (`Stale`).
"""

import msgspec

from sidecar.core.errors import Stale
from sidecar.core.model import Advance, Checkpoint
from sidecar.inputs.tail.fingerprint import HEAD_BYTES, MARK_BYTES, digest, extend_trail


class Position:
    """Hold how far a file was read. Belongs to the thread of the tail."""

    def __init__(self, checkpoint: Checkpoint, *, saved: bool) -> None:
        """`saved`: the checkpoint is on disk."""
        self.committed = checkpoint  # on disk, if `saved`, together with the events before it
        self.reached = checkpoint  # handed over to the queue up to here; the next block begins here
        self.saved = saved
        self._expected = saved  # there will be a checkpoint on disk once all that is in flight is committed
        self.in_flight = 0  # blocks that the queue has not answered for
        self.failed: Exception | None = None  # why one of these could not be committed; None: none has failed
        self._head = b""  # first bytes, from which `reached.head` is made; b"" until they are read

    def advance(self, data: bytes, consumed: int, now_ms: int, *, inside_line: bool, state: bytes = b"") -> Advance:
        """Go on to behind the first `consumed` bytes of `data`, which follow on `reached`; they are in flight now.

        `state`: what making events of them leaves behind for the next.
        """
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
            state=state,
            trail=extend_trail(old.trail, old.mark, old.offset, data[:consumed]),
        )
        advance = Advance(checkpoint=self.reached, before=old.offset if self._expected else None)
        self._expected = True
        self.in_flight += 1
        return advance

    def settle(self, checkpoint: Checkpoint, error: Exception | None) -> None:
        """Note what became of one block in flight: committed up to `checkpoint`, or not, for the reason given."""
        self.in_flight -= 1
        if error is None:
            self.committed, self.saved = checkpoint, True
        elif self.failed is None or not isinstance(error, Stale):
            self.failed = error

    def save(self, checkpoint: Checkpoint) -> None:
        """Note that `checkpoint` is on disk; nothing is in flight."""
        self.committed = self.reached = checkpoint
        self.saved = self._expected = True

    def forget_row(self) -> None:
        """Note that there is no checkpoint on disk after all."""
        self.saved = self._expected = False

    def rewind(self, committed: Checkpoint | None) -> None:
        """Go back to what is on disk: to `committed`, if that was found to be there."""
        if committed is not None:
            self.committed, self.saved = committed, True
        was = self.reached
        self.reached = msgspec.structs.replace(self.committed, at=was.at, device=was.device, inode=was.inode)
        if was.head_bytes > self.reached.head_bytes:  # what was seen of its beginning is still so
            self.reached = msgspec.structs.replace(self.reached, head=was.head, head_bytes=was.head_bytes)
        self._expected, self.failed = self.saved, None

    def change(self, **fields: object) -> None:
        """Correct where the file is, or whether it is finished; not how far it was read."""
        self.reached = msgspec.structs.replace(self.reached, **fields)

    def go_on_at(self, checkpoint: Checkpoint) -> None:
        """Go on at another place, which is to be saved before anything is read."""
        self.reached = checkpoint

    def open_with(self, head: bytes) -> None:
        """Note the first bytes of a file that was just opened and is as it was."""
        self._head = head

    def remember_beginning(self, data: bytes) -> None:
        """Note what stands at the beginning of a file of which nothing was taken yet: copies are known by that."""
        known = self.reached.head_bytes
        if not self.reached.offset and known < min(HEAD_BYTES, len(data)):
            self._head = b""  # what is taken of it is remembered from its beginning on
            head = data[:HEAD_BYTES]
            self.change(head=digest(head), head_bytes=len(head))
