"""Records how far tailed files are committed, and what of them was lost."""

import os
from collections.abc import Sequence

import msgspec

from sidecar.core.errors import Stale
from sidecar.core.model import Advance, Checkpoint, Loss
from sidecar.queue.operations.transaction import Transaction
from sidecar.queue.streams import load_checkpoints

_MAX_LOSSES = 1000
"""Receipts that are kept; the oldest go first."""
_SET = (
    "path", "at", "device", "inode", "head", "head_bytes", "offset", "mark", "inside_line", "finished", "seen_ms",
    "trail", "boot", "state",
)  # fmt: skip
_UPDATE = f"UPDATE checkpoint SET {', '.join(f'{name} = ?' for name in _SET)} WHERE tail = ? AND number = ?"  # noqa: S608
# A checkpoint that is there already changes no row, and that is how `advance_checkpoint` finds it stale.
_INSERT = (
    f"INSERT INTO checkpoint ({', '.join(_SET)}, tail, number) VALUES ({', '.join('?' * (len(_SET) + 2))})"  # noqa: S608
    " ON CONFLICT DO NOTHING"
)


class SaveCheckpoints(msgspec.Struct, frozen=True):
    """Puts checkpoints on disk that no event moves, and forgets those of the files in `forget`.

    `started_ms`: the tail was never run before; from now on it was.
    """

    tail: str
    started_ms: int
    advances: Sequence[Advance]
    forget: Sequence[int]

    def apply(self, tx: Transaction) -> None:
        """Do all of it. Raises Stale."""
        tx.execute("INSERT INTO tail (name, started_ms) VALUES (?, ?) ON CONFLICT DO NOTHING",
                   (self.tail, self.started_ms))  # fmt: skip
        for advance in self.advances:
            advance_checkpoint(tx, advance)
        for number in self.forget:
            tx.execute("DELETE FROM checkpoint WHERE tail = ? AND number = ?", (self.tail, number))


def advance_checkpoint(tx: Transaction, advance: Advance) -> None:
    """Move a checkpoint on from where it must stand. Raises Stale if it stands elsewhere."""
    new = advance.checkpoint
    values = (
        os.fsencode(new.path), os.fsencode(new.at), _signed(new.device), _signed(new.inode), new.head, new.head_bytes,
        new.offset, new.mark, new.inside_line, new.finished, new.seen_ms, new.trail, new.boot, new.state, new.tail,
        new.number,
    )  # fmt: skip
    if advance.before is None:
        moved = tx.execute(_INSERT, values).rowcount
    else:
        # Only from where the reading began: otherwise the same lines could be accepted twice.
        moved = tx.execute(f"{_UPDATE} AND offset = ?", (*values, advance.before)).rowcount
    if not moved:
        # The writer rolls back, so the events of this advance are not in the queue either.
        raise Stale(_found(tx, new))
    for loss in advance.losses:
        _add_loss(tx, loss)


def _found(tx: Transaction, wanted: Checkpoint) -> Checkpoint | None:
    return next(iter(load_checkpoints(tx.execute, wanted.tail, wanted.number)), None)


def _add_loss(tx: Transaction, loss: Loss) -> None:
    added = tx.execute(
        "INSERT INTO loss (tail, path, offset, at_most, reason, why, since_ms, found_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (loss.tail, os.fsencode(loss.path), loss.offset, loss.at_most, loss.reason.value, loss.why, loss.since_ms,
         loss.found_ms),
    )  # fmt: skip
    tx.execute("DELETE FROM loss WHERE id <= ?", ((added.lastrowid or 0) - _MAX_LOSSES,))


def _signed(number: int) -> int:
    """Return it with a sign, as SQLite's integers are; some file systems number their files with 64 bits and none."""
    return number - (1 << 64) if number >= 1 << 63 else number
