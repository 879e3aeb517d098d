"""Accepting events: the appends of one commit share chunks."""

from collections.abc import Iterable, Sequence

import msgspec

from sidecar.model import Block
from sidecar.queue.operations.transaction import Done, Transaction, add_chunks, add_dead, add_later
from sidecar.queue.records import QueueStream


class Append(msgspec.Struct, frozen=True, gc=False):
    """Accept `blocks`, together `size` bytes. The writer joins the appends of one commit into common chunks."""

    stream: QueueStream
    blocks: Sequence[Block]
    size: int
    accepted_ms: int
    done: Done

    def apply(self, tx: Transaction) -> None:
        """The writer calls `append_all` for all of a commit instead."""
        raise NotImplementedError


class AppendDead(msgspec.Struct, frozen=True, gc=False):
    """Accept `bodies`, one event each, that can never be sent: they are dead letters from the start."""

    stream: QueueStream
    bodies: Sequence[bytes]
    reason: str
    now_ms: int
    done: Done

    def apply(self, tx: Transaction) -> None:
        """In the books they are accepted, and dead."""
        for body in self.bodies:
            moments = {"accepted_ms": self.now_ms, "first_ms": self.now_ms, "last_ms": self.now_ms}
            add_dead(tx, self.stream, body, reason=self.reason, **moments)
        tx.delta(self.stream).accepted += len(self.bodies)


def append_all(tx: Transaction, appends: Iterable[Append], chunk_bytes: int) -> None:
    """Writes appends as chunks of up to `chunk_bytes`, one run for each stream, in the order they came."""
    by_stream: dict[QueueStream, list[Append]] = {}
    for append in appends:
        by_stream.setdefault(append.stream, []).append(append)
    for stream, group in by_stream.items():
        blocks = [block for append in group for block in append.blocks]
        accepted_ms = group[-1].accepted_ms
        now = [block for block in blocks if block.due_ms is None]
        tx.delta(stream).accepted += add_chunks(tx, stream.fresh, now, accepted_ms, chunk_bytes)
        for block in blocks if len(now) < len(blocks) else ():
            if block.due_ms is not None:
                add_later(tx, stream, block.body, block.events, block.due_ms, accepted_ms)
                tx.delta(stream).accepted += block.events
