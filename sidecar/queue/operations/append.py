"""Accepting events: the appends of one commit share chunks."""

from collections.abc import Sequence

import msgspec

from sidecar.core.model import Advance, Block
from sidecar.queue.operations.checkpoints import advance_checkpoint
from sidecar.queue.operations.transaction import Transaction, add_chunks, add_dead, add_scheduled
from sidecar.queue.streams import QueueStream


class Append(msgspec.Struct, frozen=True):
    """Accept `blocks`. The writer joins the appends of one commit into common chunks.

    `dead`: events, each with a reason, that can never be sent; they are accepted as dead letters. `advance`: the place
    in a tailed file up to which these are its events; it is committed with them, or neither is.
    """

    stream: QueueStream
    blocks: Sequence[Block]
    accepted_ms: int
    dead: Sequence[tuple[bytes, str]] = ()
    advance: Advance | None = None

    def apply(self, tx: Transaction) -> None:
        """Join the others of the commit, which `append_all` writes down together."""
        tx.appends.append(self)


def append_all(tx: Transaction) -> None:
    """Write the appends of `tx` as chunks, one run for each stream, in order. Raises Stale."""
    appends = tx.appends
    for append in appends:  # first, since one that is stale ends the transaction
        if append.advance is not None:
            advance_checkpoint(tx, append.advance)
    # Each row costs an insert, a read and a delete: so what one commit holds of a stream shares chunks.
    by_stream: dict[QueueStream, list[Append]] = {}
    for append in appends:
        by_stream.setdefault(append.stream, []).append(append)
    for stream, group in by_stream.items():
        blocks = [block for append in group for block in append.blocks]
        accepted_ms = group[-1].accepted_ms
        # What the proxy would refuse today may not share a chunk with the rest, or the rest would wait with it.
        now = [block for block in blocks if block.due_ms is None]
        tx.delta(stream).accepted += add_chunks(tx, stream.fresh, now, accepted_ms, tx.chunk_bytes)
        for block in blocks if len(now) < len(blocks) else ():
            if block.due_ms is not None:
                add_scheduled(tx, stream, block.body, block.events, block.due_ms, accepted_ms)
                tx.delta(stream).accepted += block.events
        for append in group:
            for body, reason in append.dead:
                moment_ms = append.accepted_ms
                add_dead(tx, stream, body, reason=reason, accepted_ms=moment_ms, first_ms=moment_ms, last_ms=moment_ms)
                # Accepted, though it is dead at once: both sides of the books grow by one.
                tx.delta(stream).accepted += 1
