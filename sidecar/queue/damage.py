"""Finds rows of the queue that the disk has damaged.

Only outside of transactions that write: when SQLite has met a page that does not exist, it refuses to write until that
transaction is over.
"""

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, Literal

import msgspec

from sidecar.queue.codec import Codec
from sidecar.queue.schema import LANE_BITS, SEQ_BITS, is_corrupt

Execute = Callable[..., sqlite3.Cursor]
Table = Literal["chunk", "scheduled", "kept", "dead"]
_TABLES: tuple[Table, ...] = ("chunk", "scheduled", "kept", "dead")
_IDS_AT_ONCE = 10_000


class DamagedRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row that cannot be read, as `problem` says, and what can be known of it.

    `size`: bytes of its events; `stored`: the bytes that stand there, none if not even SQLite can read them.
    """

    table: Table
    number: int
    stream: int
    accepted_ms: int
    events: int
    size: int
    codec: int
    stored: bytes
    problem: str


def find_damaged(execute: Execute, codec: Codec, most: int) -> list[DamagedRow]:
    """Read every row, and return the first `most` that cannot be read and are not set aside yet.

    Takes as long as reading the whole file. Raises sqlite3.Error if not even the numbers of the rows can be read.
    """
    found: list[DamagedRow] = []
    for table in _TABLES:
        for number in _numbers(execute, table):
            problem = _problem(execute, codec, table, number)
            if problem is not None:
                found.append(damaged_row(execute, table, number, problem))
                if len(found) == most:
                    return found
    return found


def damaged_row(execute: Execute, table: Table, number: int, problem: str) -> DamagedRow:
    """Return what can be known of a row. Raises sqlite3.Error if nothing can, since what stands before its body is
    damaged too."""
    if table == "dead":
        # The length of a body stands at the front of its row: for it SQLite reads none of the body's pages.
        stream, accepted_ms, size = execute(
            "SELECT stream, accepted_ms, length(body) FROM dead WHERE id = ?", (number,)
        ).fetchone()
        events, codec = _dead_events(execute, stream, number), 0
    else:
        # These columns stand before the body, so they can be read also where the pages of the body are lost.
        what = "accepted_ms, events, bytes, codec" + (", stream" if table != "chunk" else "")
        row = execute(f"SELECT {what} FROM {table} WHERE id = ?", (number,)).fetchone()  # noqa: S608
        accepted_ms, events, size, codec, stream = row if table != "chunk" else (*row, number >> SEQ_BITS + LANE_BITS)
    return DamagedRow(
        table=table,
        number=number,
        stream=stream,
        accepted_ms=accepted_ms,
        events=events,
        size=size,
        codec=codec,
        stored=_stored(execute, table, number),
        problem=problem,
    )


def _numbers(execute: Execute, table: Table) -> Iterator[int]:
    """Yield the numbers of all rows of `table` that are not set aside."""
    after = -1
    while True:
        rows = execute(
            f"SELECT id FROM readable_{table} WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608
            (after, _IDS_AT_ONCE),
        ).fetchall()
        for (number,) in rows:
            yield number
        if len(rows) < _IDS_AT_ONCE:
            return
        after = rows[-1][0]


def _problem(execute: Execute, codec: Codec, table: Table, number: int) -> str | None:
    """Return why a row cannot be read, or None."""
    try:
        # All columns: those behind the body are found only through the pages of the body.
        execute(f"SELECT * FROM {table} WHERE id = ?", (number,)).fetchone()  # noqa: S608
        if table != "dead":  # those are kept as they are, without a checksum
            size, packed, stored = execute(
                f"SELECT bytes, codec, body FROM {table} WHERE id = ?",  # noqa: S608
                (number,),
            ).fetchone()
            codec.unpack(packed, stored, size)
    except sqlite3.DatabaseError as error:
        if not is_corrupt(error):
            raise
        return str(error)
    except ValueError as error:
        return str(error)
    return None


def _stored(execute: Execute, table: Table, number: int) -> bytes:
    try:
        row: tuple[Any, ...] = execute(f"SELECT body FROM {table} WHERE id = ?", (number,)).fetchone()  # noqa: S608
    except sqlite3.DatabaseError as error:
        if not is_corrupt(error):
            raise
        return b""
    return bytes(row[0])


def _dead_events(execute: Execute, stream: int, number: int) -> int:
    """Return how many events a row of table `dead` counts for, without reading it: column `events` is behind the body.

    Those of more than one are in the index.
    """
    row = execute(
        # INDEXED BY: if SQLite could not use the index, it fails; else it would read the damaged row.
        "SELECT events FROM dead INDEXED BY dead_damaged WHERE codec IS NOT NULL AND stream = ? AND id = ?",
        (stream, number),
    ).fetchone()
    return int(row[0]) if row else 1
