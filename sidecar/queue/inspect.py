"""Looks things up in the queue's file for the commands, whether a sidecar runs or not: dead letters, single events.

It reads only, on a connection of its own, so the running sidecar does not notice.
"""

import base64
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import msgspec

from sidecar.core.errors import StartError
from sidecar.core.filters import DeadFilter, KeptFilter
from sidecar.core.model import LANES
from sidecar.queue.codec import Codec
from sidecar.queue.filters import condition_of
from sidecar.queue.schema import LANE_BITS, SEQ_BITS, open_reader
from sidecar.queue.streams import QueueStream, load_streams

_PAGE_ROWS = 64
_split_events = msgspec.json.Decoder(list[msgspec.Raw]).decode


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One event that was refused for good: the proxy's words, how often it was tried, and when first and last.

    Or some `events` that cannot be read: then `event` is an object with what stands there, in base64, as `damaged`.
    """

    id: int
    stream: int
    reason: str
    status: int | None
    attempts: int
    accepted_ms: int
    first_ms: int
    last_ms: int
    event: msgspec.Raw
    events: int = 1


class FoundEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event and where it is: waiting in a lane, dead, or delivered and kept. `row` is a dead letter's number.

    `at_ms` is when it was accepted; of a delivered one when it was delivered, of a dead one when it was buried.
    """

    place: Literal["queue", "scheduled", "dead", "kept"]
    stream: int
    row: int
    at_ms: int
    event: msgspec.Raw
    lane: str | None = None
    due_ms: int | None = None


class Lookup:
    """The file at `path`. Raises StartError if it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._codec = Codec()
        try:
            self._connection = open_reader(path)
            self.streams: dict[int, QueueStream] = {
                stream.id: stream for stream in load_streams(self._connection).values()
            }
        except sqlite3.Error as error:
            raise StartError(f"queue {path}: {error}") from None

    def count_dead(self, wanted: DeadFilter) -> int:
        """Return how many dead letters are meant."""
        return self._count("coalesce(sum(events), 0)", "readable_dead", wanted)

    def last_dead(self) -> int:
        """Return the highest number of a dead letter; 0 if there is none."""
        (found,) = self._connection.execute("SELECT coalesce(max(id), 0) FROM dead").fetchone()
        return int(found)

    def count_kept(self, wanted: KeptFilter) -> int:
        """Return how many kept events are meant."""
        return self._count("coalesce(sum(events), 0)", "readable_kept", wanted)

    def dead(self, wanted: DeadFilter, limit: int = -1) -> Iterator[DeadLetter]:
        """Return the dead letters that are meant, the oldest first; at most `limit`, of the newest."""
        condition, values = condition_of(wanted)
        (first,) = self._connection.execute(
            f"SELECT min(id) FROM (SELECT id FROM readable_dead WHERE {condition} ORDER BY id DESC LIMIT ?)",  # noqa: S608
            (*values, limit),
        ).fetchone()
        for row in self._pages(
            "SELECT id, stream, reason, status, attempts, accepted_ms, first_ms, last_ms, body, events, codec"
            " FROM readable_dead",
            condition,
            values,
            after=(first or 0) - 1,
        ):
            yield DeadLetter(
                id=row[0], stream=row[1], reason=row[2], status=row[3], attempts=row[4], accepted_ms=row[5],
                first_ms=row[6], last_ms=row[7], event=_event(*row[8:]), events=row[9],
            )  # fmt: skip

    def letter(self, number: int) -> DeadLetter | None:
        """Return the dead letter with this number; None if there is none, or no longer."""
        return next(self.dead(DeadFilter(ids=(number,))), None)

    def find(self, matches: Callable[[dict[str, Any]], bool], needle: bytes) -> Iterator[FoundEvent]:
        """Return the events that match, wherever they are. Those without the bytes `needle` need not be looked at."""
        for number, accepted_ms, size, codec, stored in self._pages(
            "SELECT id, accepted_ms, bytes, codec, body FROM readable_chunk"
        ):
            lane = number >> SEQ_BITS
            for event in self._matching(matches, needle, self._body(codec, stored, size)):
                yield FoundEvent(
                    place="queue", stream=lane >> LANE_BITS, row=number, at_ms=accepted_ms, event=event,
                    lane=LANES[lane & ((1 << LANE_BITS) - 1)],
                )  # fmt: skip
        for number, stream, accepted_ms, due_ms, size, codec, stored in self._pages(
            "SELECT id, stream, accepted_ms, due_ms, bytes, codec, body FROM readable_scheduled"
        ):
            for event in self._matching(matches, needle, self._body(codec, stored, size)):
                yield FoundEvent(
                    place="scheduled", stream=stream, row=number, at_ms=accepted_ms, event=event, due_ms=due_ms
                )
        for number, stream, last_ms, body in self._pages(
            "SELECT id, stream, last_ms, body FROM readable_dead", "codec IS NULL"
        ):
            for event in self._matching(matches, needle, body):
                yield FoundEvent(place="dead", stream=stream, row=number, at_ms=last_ms, event=event)
        for number, stream, delivered_ms, size, codec, stored in self._pages(
            "SELECT id, stream, delivered_ms, bytes, codec, body FROM readable_kept"
        ):
            for event in self._matching(matches, needle, self._body(codec, stored, size)):
                yield FoundEvent(place="kept", stream=stream, row=number, at_ms=delivered_ms, event=event)

    def _pages(
        self, select: str, condition: str = "1", values: Sequence[object] = (), after: int = -1
    ) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of `select`, whose first column is the id, in its order.

        Between two of them no snapshot is held: a pager that nobody leaves must not make the write-ahead log grow.
        """
        while True:
            rows = self._connection.execute(
                f"{select} WHERE id > ? AND {condition} ORDER BY id LIMIT {_PAGE_ROWS}", (after, *values)
            ).fetchall()
            yield from rows
            if len(rows) < _PAGE_ROWS:
                return
            after = rows[-1][0]

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _count(self, what: str, table: str, wanted: DeadFilter | KeptFilter) -> int:
        condition, values = condition_of(wanted)
        (count,) = self._connection.execute(f"SELECT {what} FROM {table} WHERE {condition}", values).fetchone()  # noqa: S608
        return int(count)

    def _body(self, codec: int, stored: bytes, size: int) -> bytes:
        """Return the body; nothing if it cannot be read."""
        try:
            return self._codec.unpack(codec, stored, size)
        except ValueError:
            return b""

    def _matching(self, matches: Callable[[dict[str, Any]], bool], needle: bytes, body: bytes) -> Iterator[msgspec.Raw]:
        if needle in body:
            for event in _split_events(b"[%b]" % body):
                if needle in bytes(event) and matches(msgspec.json.decode(event)):
                    yield event


def _event(body: bytes, events: int, codec: int | None) -> msgspec.Raw:
    if codec is None:
        return msgspec.Raw(body)
    return msgspec.Raw(msgspec.json.encode({"damaged": base64.b64encode(body).decode(), "events": events}))
