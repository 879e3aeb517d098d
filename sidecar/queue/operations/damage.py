"""Sets rows aside that the disk has damaged.

    a chunk, or what waits for its time    its events become a dead letter with the reason `damaged`, with the bytes
                                           that can still be read
    a dead letter                          it counts as dropped, with the reason `damaged`
    a kept delivery                        it is forgotten, as it would be some day

The row itself is neither deleted nor changed. That would free the pages of its body, and if it is the number of such a
page that is damaged, these belong to other rows, or do not exist. It is noted in table `unreadable`, which the views
`readable_...` leave out.
"""

from collections.abc import Sequence

import msgspec

from sidecar.queue.damage import DamagedRow
from sidecar.queue.operations.requeue import count_dropped
from sidecar.queue.operations.transaction import Transaction, add_dead, take_away
from sidecar.queue.schema import LANE_BITS, SEQ_BITS
from sidecar.queue.streams import QueueLane, QueueStream


class SetDamagedAside(msgspec.Struct, frozen=True):
    """`rows` cannot be read: count their events as what they are, and look at the rows no more."""

    rows: Sequence[DamagedRow]
    now_ms: int

    def apply(self, tx: Transaction) -> None:
        """Do nothing about those that are gone, or set aside already."""
        streams = tx.streams
        for row in self.rows:
            # The row was found before this transaction began: something else may have dealt with it.
            still_there = tx.execute(f"SELECT 1 FROM readable_{row.table} WHERE id = ?", (row.number,)).fetchone()  # noqa: S608
            if still_there:
                set_aside(tx, streams[row.stream], row, self.now_ms)


def set_aside(tx: Transaction, stream: QueueStream, row: DamagedRow, now_ms: int) -> None:
    """Count the events of `row`, a row of `stream`, as what they are, and note that it is not to be read."""
    tx.execute("INSERT INTO unreadable (what, id) VALUES (?, ?)", (row.table, row.number))
    if row.table == "dead":
        delta = tx.delta(stream)
        delta.dead -= row.events
        delta.dead_bytes -= row.size
        count_dropped(tx, stream, row.events, "damaged")
    # A kept delivery is counted as delivered already: nothing changes in the books.
    elif row.table != "kept":
        add_dead(
            tx,
            stream,
            row.stored,
            reason=f"damaged: {row.problem}",
            accepted_ms=row.accepted_ms,
            first_ms=now_ms,
            last_ms=now_ms,
            events=row.events,
            codec=row.codec,
        )
        take_away(tx, _lane(stream, row), row.events, row.size)


def _lane(stream: QueueStream, row: DamagedRow) -> QueueLane:
    if row.table == "scheduled":
        return stream.lane("scheduled")
    return stream.lanes[row.number >> SEQ_BITS & ((1 << LANE_BITS) - 1)]
