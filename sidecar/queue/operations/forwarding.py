"""Changes the queue as the answers of the proxy say, and writes down what must be known before it is asked."""

from collections.abc import Mapping, Sequence

import msgspec

from sidecar.queue.damage import DamagedRow
from sidecar.queue.operations.damage import set_aside
from sidecar.queue.operations.transaction import Transaction, add_chunk, add_dead, delete_chunks, take_away
from sidecar.queue.schema import chunk_id, lowest_id
from sidecar.queue.streams import QueueLane

_split_events = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Acknowledge(msgspec.Struct, frozen=True):
    """The proxy has taken everything of `lane` up to chunk `through_seq`; delete it, or keep a copy."""

    lane: QueueLane
    through_seq: int
    now_ms: int
    keep: bool

    def apply(self, tx: Transaction) -> None:
        """Count what is really there, so that a row which a policy dropped meanwhile is not counted twice."""
        # From the lowest key, not from 0: the front part of a chunk that was split has a number below it.
        bounds = (lowest_id(self.lane.id), chunk_id(self.lane.id, self.through_seq))
        if self.keep:
            tx.execute(
                "INSERT INTO kept (stream, delivered_ms, steady_ms, accepted_ms, events, bytes, codec, body, rules)"
                " SELECT ?, ?, ?, accepted_ms, events, bytes, codec, body, rules FROM readable_chunk"
                " WHERE id BETWEEN ? AND ? ORDER BY id",
                (self.lane.stream.id, self.now_ms, tx.steady_ms, *bounds),
            )
        events, size = delete_chunks(tx, *bounds)
        delta = tx.delta(self.lane.stream)
        delta.delivered += events  # in the same transaction as the deletion: this is the point of no return
        delta.last_delivered_ms = self.now_ms
        take_away(tx, self.lane, events, size)


class Split(msgspec.Struct, frozen=True):
    """Cut chunk `seq`, the head of `lane`, in two: its first `events` go into a chunk of their own, ahead of it."""

    lane: QueueLane
    seq: int
    events: int

    def apply(self, tx: Transaction) -> None:
        """Leave the books as they are, but for the comma between the two."""
        number = chunk_id(self.lane.id, self.seq)
        row = tx.execute(
            "SELECT accepted_ms, steady_ms, events, bytes, codec, body, rules FROM chunk WHERE id = ?", (number,)
        ).fetchone()
        if row is None:  # a policy dropped it meanwhile
            return
        accepted_ms, steady_ms, events, size, codec, stored, rules = row
        try:
            items = _split_events(b"[%b]" % tx.codec.unpack(codec, stored, size))
        except ValueError as error:  # an older version kept no checksum of it
            row = DamagedRow(
                table="chunk",
                number=number,
                stream=self.lane.stream.id,
                accepted_ms=accepted_ms,
                events=events,
                size=size,
                codec=codec,
                stored=stored,
                problem=str(error),
            )
            set_aside(tx, self.lane.stream, row, accepted_ms)
            return
        front, rest = items[: self.events], items[self.events :]
        # The rest keeps the number: the search remembers up to which number a bad event must be.
        codec, stored, rest_size = _packed(tx, rest)
        tx.execute(
            "UPDATE chunk SET events = ?, bytes = ?, codec = ?, body = ?, growth = NULL WHERE id = ?",
            (len(rest), rest_size, codec, stored, number),
        )
        codec, stored, front_size = _packed(tx, front)
        tx.execute(
            # As old as the whole was: a split must not give events a longer life.
            "INSERT INTO chunk (id, accepted_ms, steady_ms, events, bytes, codec, body, rules)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (self._free_id(tx, number), accepted_ms, steady_ms, len(front), front_size, codec, stored, rules),
        )
        tx.lane_delta(self.lane).bytes += front_size + rest_size - size

    def _free_id(self, tx: Transaction, number: int) -> int:
        """Return the next number before `number`, the first of its lane, at which no damaged row stands."""
        # Not from the view: a damaged row still stands at its number.
        (first,) = tx.execute(
            "SELECT min(id) FROM chunk WHERE id BETWEEN ? AND ?", (lowest_id(self.lane.id), number)
        ).fetchone()
        return int(first) - 1


def _packed(tx: Transaction, items: Sequence[msgspec.Raw]) -> tuple[int, bytes, int]:
    body = b",".join(items)
    return *tx.codec.pack(body), len(body)


class Bury(msgspec.Struct, frozen=True):
    """The one event of chunk `seq` is refused for good: it becomes a dead letter."""

    lane: QueueLane
    seq: int
    reason: str
    status: int | None
    attempts: int
    first_ms: int
    now_ms: int

    def apply(self, tx: Transaction) -> None:
        """Move the event, unless a policy dropped it meanwhile."""
        number = chunk_id(self.lane.id, self.seq)
        row = tx.execute("SELECT accepted_ms, events, bytes, codec, body FROM chunk WHERE id = ?", (number,)).fetchone()
        if row is None:
            return
        accepted_ms, events, size, codec, stored = row
        # Only an event that was refused alone is buried; the others of its chunk may be good.
        if events != 1:
            raise ValueError(f"chunk {number} holds {events} events; only a single one can be buried")
        body = tx.codec.unpack(codec, stored, size)
        add_dead(
            tx,
            self.lane.stream,
            body,
            reason=self.reason,
            accepted_ms=accepted_ms,
            first_ms=self.first_ms,
            last_ms=self.now_ms,
            attempts=self.attempts,
            status=self.status,
        )
        tx.execute("DELETE FROM chunk WHERE id = ?", (number,))
        take_away(tx, self.lane, 1, size)


class SetAside(msgspec.Struct, frozen=True):
    """Move what `lane` holds up to chunk `through_seq` to the end of the stream's lane of suspects."""

    lane: QueueLane
    through_seq: int

    def apply(self, tx: Transaction) -> None:
        """Move them: at most a batch, so that the rows fit into memory."""
        bounds = (lowest_id(self.lane.id), chunk_id(self.lane.id, self.through_seq))
        # All rows at once: what a SELECT shows of rows that change while it runs is undefined in SQLite.
        rows = tx.execute(
            "SELECT accepted_ms, coalesce(steady_ms, accepted_ms), events, bytes, codec, body, rules"
            " FROM readable_chunk WHERE id BETWEEN ? AND ? ORDER BY id",
            bounds,
        ).fetchall()
        delete_chunks(tx, *bounds)
        # At the end of that lane, under new numbers, and as old as they are: age still counts from their acceptance.
        suspects = self.lane.stream.lane("suspect")
        for accepted_ms, steady_ms, events, size, codec, stored, rules in rows:
            add_chunk(tx, suspects, accepted_ms, events, size, codec, stored, rules, steady_ms)
            take_away(tx, self.lane, events, size)


class ForgetQuotas(msgspec.Struct, frozen=True):
    """Forget what tokens and data_ids have spent that nothing uses any more."""

    names: Sequence[str]

    def apply(self, tx: Transaction) -> None:
        """Delete their rows."""
        for name in self.names:
            tx.execute("DELETE FROM quota WHERE token_digest = ?", (name,))


class SaveQuotas(msgspec.Struct, frozen=True):
    """Write down what was spent, before the request leaves: a crash must not give it back.

    `states`: of a token by its digest, of a data_id by `data_id N`.
    """

    states: Mapping[str, bytes]
    boot_id: str

    def apply(self, tx: Transaction) -> None:
        """Write one row for each."""
        for name, state in self.states.items():
            tx.execute(
                "INSERT OR REPLACE INTO quota (token_digest, boot_id, state) VALUES (?, ?, ?)",
                (name, self.boot_id, state),
            )
