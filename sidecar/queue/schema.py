"""The tables of the queue, how they came to be, and how a connection to them is opened.

    stream ─┬─< chunk      what waits; a row exists exactly as long as its events are unacknowledged
            ├─< kept       what was delivered, for as long as `queue.keep_delivered` says
            └─< dropped    events dropped under the operator's policy, by reason
    budget                 what each access token has spent of its rate, by digest

The key of a chunk is `stream << 40 | seq`: one B-tree, no second index, and the chunks of one stream in order.
"""

import os
import sqlite3
from pathlib import Path
from typing import Literal

from sqlite_utils import Database, Migrations

from sidecar.errors import StartError

SEQ_BITS = 40
PAGE_BYTES = 8192
_CACHE_KIB = 8192
_BUSY_MS = 5000

_MIGRATIONS_TABLE = "_sqlite_migrations"
migrations = Migrations("queue")


@migrations()
def m001_queue(db: Database) -> None:
    """The first schema."""
    counters = ("accepted", "queued", "delivered", "dead", "dropped", "queued_bytes", "next_seq")
    db.create_table(
        "stream",
        {"id": int, "data_id": int, "access_token": str, "kind": str, "last_delivered_ms": int}
        | dict.fromkeys(counters, int),
        pk="id",
        not_null={"data_id", "access_token", "kind", *counters},
        defaults=dict.fromkeys(counters, 0),
    )
    db.table("stream").create_index(["data_id", "access_token", "kind"], unique=True)
    chunk = {"id": int, "accepted_ms": int, "events": int, "bytes": int, "codec": int, "body": bytes}
    db.create_table("chunk", chunk, pk="id", not_null=set(chunk) - {"id"})
    db.create_table("kept", {"id": int, "delivered_ms": int} | chunk, pk="id", not_null=set(chunk) - {"id"})
    db.create_table(
        "dropped", {"stream": int, "reason": str, "events": int}, pk=("stream", "reason"), not_null={"events"}
    )
    db.create_table(
        "budget", {"token_digest": str, "boot_id": str, "spent_until_s": float}, pk="token_digest", not_null={"boot_id"}
    )


def first_id(stream: int) -> int:
    """The lowest key that a chunk of `stream` can have."""
    return stream << SEQ_BITS


def end_id(stream: int) -> int:
    """One more than the highest key that a chunk of `stream` can have."""
    return (stream + 1) << SEQ_BITS


def open_writer(path: Path, durability: Literal["full", "normal"]) -> sqlite3.Connection:
    """The connection that writes, with the schema brought up to date. Raises StartError, OSError or sqlite3.Error."""
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    connection = _connect(f"{path.absolute().as_uri()}?mode=rw")
    try:
        for pragma in (
            f"page_size = {PAGE_BYTES}",
            "auto_vacuum = INCREMENTAL",  # works only before the first table
            "journal_mode = WAL",
            f"synchronous = {durability.upper()}",
            f"cache_size = -{_CACHE_KIB}",
        ):
            connection.execute(f"PRAGMA {pragma}")
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that can only read. Raises sqlite3.Error."""
    return _connect(f"{path.absolute().as_uri()}?mode=ro")


def _connect(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    db = Database(connection)
    tables = db.table_names()
    if tables and _MIGRATIONS_TABLE not in tables:
        raise StartError(f"{path} is a database, but no queue of a sidecar; move it away, or name another --state")
    known = {migration.name for migration in migrations.pending(db)} | {m001_queue.__name__}
    newer = [applied.name for applied in migrations.applied(db) if applied.name not in known]
    if newer:
        raise StartError(
            f"{path} was written by a newer sidecar (schema {newer[-1]}); install that version, or name another --state"
        )
    migrations.apply(db)
