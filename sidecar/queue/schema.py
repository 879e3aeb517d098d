"""The tables of the queue, how they came to be, and how a connection to them is opened.

    stream ─┬─< lane ─< chunk   what waits, in order; a row exists exactly as long as its events are unacknowledged
            ├─< scheduled       what waits until it is due
            ├─< kept            what was delivered, for as long as `queue.keep_delivered` says
            ├─< dead            what the proxy refused for good, one event a row; and chunks that cannot be read
            └─< dropped         events dropped under the operator's policy, by reason
    quota                       what each access token, by its digest, and each data_id have spent of their limits
    clock                       how far the steady clock is, by which rows grow old (steady.py)
    seen                        up to which of them somebody has looked at the dead letters
    unreadable                  rows of the tables above that the disk has damaged: they stay as they are, and are read
                                through the views `readable_...`, which leave them out
    tail ─┬─< checkpoint        how far each tailed file is committed
          └─< loss              what of tailed files could not be had any more

The key of a lane is `stream << 3 | number`, that of a chunk `lane << 40 | seq`: one B-tree, no second index, and the
chunks of one lane in order. The numbers begin a million above the lowest key, since a chunk at the head that is split
puts its front part below.
"""

import errno
import os
import sqlite3
import stat
from pathlib import Path
from typing import Literal

from sqlite_utils import Database, Migrations

from sidecar.core.errors import StartError
from sidecar.core.model import BEFORE_ALL

# Both widths are part of every key on disk: another value would put all rows into wrong lanes.
LANE_BITS = 3
SEQ_BITS = 40
# Measured with 4 to 64 KiB: 8 KiB is nearly the fastest, and larger pages write far more to the disk.
PAGE_BYTES = 8192
WAL_BYTES = 16_000_000
"""The write-ahead log is emptied at 8 MB (1,000 pages); below this it stays if nobody reads one snapshot for long."""
_CACHE_KIB = 8192
_BUSY_MS = 5000

# sqlite-utils notes here what it has applied. A database without this table was made by another program.
_MIGRATIONS_TABLE = "_sqlite_migrations"
migrations = Migrations("queue")


@migrations()
def m001_queue(db: Database) -> None:
    """Make the first tables."""
    counters = ("accepted", "delivered", "dead", "dropped", "replayed", "dead_bytes")
    db.create_table(
        "stream",
        {"id": int, "data_id": int, "access_token": str, "kind": str, "last_delivered_ms": int}
        | dict.fromkeys(counters, int),
        pk="id",
        not_null={"data_id", "access_token", "kind", *counters},
        defaults=dict.fromkeys(counters, 0),
    )
    db.table("stream").create_index(["data_id", "access_token", "kind"], unique=True)
    lane = dict.fromkeys(("events", "bytes", "next_seq"), int)
    db.create_table("lane", {"id": int, "target": str} | lane, pk="id", not_null=set(lane))
    content = {"accepted_ms": int, "events": int, "bytes": int, "codec": int, "body": bytes}
    db.create_table("chunk", {"id": int} | content, pk="id", not_null=set(content))
    # Old names: a released migration is never edited, since there are files that ran it (m009 renames the tables).
    for table, moment in (("later", "due_ms"), ("kept", "delivered_ms")):
        columns = {"stream": int, moment: int} | content
        db.create_table(table, {"id": int} | columns, pk="id", not_null=set(columns))
        db.table(table).create_index([moment])
    db.execute(  # the numbers are shown to people, and must never be used again
        "CREATE TABLE dead (id INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL,"
        " accepted_ms INTEGER NOT NULL, first_ms INTEGER NOT NULL, last_ms INTEGER NOT NULL,"
        " attempts INTEGER NOT NULL, reason TEXT NOT NULL, status INTEGER, body BLOB NOT NULL)"
    )
    db.create_table(
        "dropped", {"stream": int, "reason": str, "events": int}, pk=("stream", "reason"), not_null={"events"}
    )
    db.create_table("budget", {"token_digest": str, "boot_id": str, "state": bytes}, pk="token_digest",
                    not_null={"boot_id", "state"})  # fmt: skip


@migrations()
def m002_tails(db: Database) -> None:
    """Tailed files. Paths are bytes, since that is what they are to the system."""
    db.create_table("tail", {"name": str, "started_ms": int}, pk="name", not_null={"started_ms"})
    identity = {"path": bytes, "at": bytes, "device": int, "inode": int, "head": bytes, "head_bytes": int}
    position = {"offset": int, "mark": bytes, "inside_line": int, "finished": int, "seen_ms": int}
    db.create_table("checkpoint", {"tail": str, "number": int} | identity | position, pk=("tail", "number"),
                    not_null={*identity, *position})  # fmt: skip
    receipt = {"tail": str, "path": bytes, "offset": int, "why": str, "since_ms": int, "found_ms": int}
    db.create_table("loss", {"id": int, "at_most": int} | receipt, pk="id", not_null=set(receipt))


@migrations()
def m003_rules(db: Database) -> None:
    """Note which version of the rules checked the events. A new column with a default costs nothing."""
    for table in ("chunk", "later", "kept"):
        db.execute(f"ALTER TABLE {table} ADD COLUMN rules INTEGER NOT NULL DEFAULT 0")


@migrations()
def m004_steady(db: Database) -> None:
    """Note when each row came by the steady clock. In rows of older versions it is NULL, and their wall time counts."""
    columns = {"boot_id": str, "boot_ms": int, "steady_ms": int}
    db.create_table("clock", {"id": int} | columns, pk="id", not_null=set(columns))
    for table in ("chunk", "later", "kept", "dead"):
        db.execute(f"ALTER TABLE {table} ADD COLUMN steady_ms INTEGER")


@migrations()
def m005_damaged(db: Database) -> None:
    """Keep among the dead letters what cannot be read: `events` of them in one row, as they stood, by their `codec`.

    That is NULL for a dead letter that is one event, as it is.
    """
    db.execute("ALTER TABLE dead ADD COLUMN events INTEGER NOT NULL DEFAULT 1")
    db.execute("ALTER TABLE dead ADD COLUMN codec INTEGER")
    # The column `events` lies behind the body, which may be unreadable; the index gives it without the body.
    db.execute("CREATE INDEX dead_damaged ON dead (stream, events) WHERE codec IS NOT NULL")


@migrations()
def m006_seen(db: Database) -> None:
    """Note up to which number somebody has looked at the dead letters. Those of before count as seen."""
    db.create_table("seen", {"what": str, "id": int}, pk="what", not_null={"id"})
    db.execute("INSERT INTO seen (what, id) SELECT 'dead', coalesce(max(id), 0) FROM dead")


@migrations()
def m007_unreadable(db: Database) -> None:
    """Note rows that are damaged. They cannot be deleted: what their pages lead to may belong to other rows."""
    db.create_table("unreadable", {"what": str, "id": int}, pk=("what", "id"), not_null={"what", "id"})
    for table in ("chunk", "later", "kept", "dead"):
        _make_readable_view(db, table)


@migrations()
def m008_loss_reason(db: Database) -> None:
    """Note why bytes of a file were lost as a word of a list. Of older rows it is told from their text, once."""
    db.execute("ALTER TABLE loss ADD COLUMN reason TEXT NOT NULL DEFAULT 'unread'")
    db.execute("UPDATE loss SET reason = 'copied' WHERE instr(why, '; what was written after it was copied to ')")
    db.execute("UPDATE loss SET reason = 'skipped' WHERE why = 'skipped by `sidecar tails skip`'")


@migrations()
def m009_words(db: Database) -> None:
    """Give two tables the names by which everybody knows what they hold: `scheduled` was `later`, `quota` `budget`."""
    # RENAME does not change the word 'later' in the condition of the view, so the view is made again.
    db.execute("DROP VIEW readable_later")
    db.execute("ALTER TABLE later RENAME TO scheduled")
    db.execute("ALTER TABLE budget RENAME TO quota")
    db.execute("UPDATE unreadable SET what = 'scheduled' WHERE what = 'later'")
    _make_readable_view(db, "scheduled")


@migrations()
def m010_power_cuts(db: Database) -> None:
    """Remember of tailed files what shows after a power cut that only their end is missing."""
    db.execute("ALTER TABLE checkpoint ADD COLUMN trail BLOB NOT NULL DEFAULT x''")
    db.execute("ALTER TABLE checkpoint ADD COLUMN boot TEXT NOT NULL DEFAULT ''")


@migrations()
def m011_throttle(db: Database) -> None:
    """Remember of tailed files what the events before leave behind for the next, such as the counts of a throttle."""
    db.execute("ALTER TABLE checkpoint ADD COLUMN state BLOB NOT NULL DEFAULT x''")


@migrations()
def m012_growth(db: Database) -> None:
    """Note by how many bytes the events of a chunk grow in the proxy's message; NULL where nobody has looked."""
    db.execute("ALTER TABLE chunk ADD COLUMN growth INTEGER")


def _make_readable_view(db: Database, table: str) -> None:
    db.create_view(
        f"readable_{table}",
        f"SELECT * FROM {table} WHERE id NOT IN (SELECT id FROM unreadable WHERE what = '{table}')",  # noqa: S608
    )


def chunk_id(lane: int, seq: int) -> int:
    """Return the key of chunk `seq` of `lane`."""
    # A split at the head gives numbers below 0: they must not reach into the keys of the lane before.
    return (lane << SEQ_BITS) - BEFORE_ALL + seq


def lowest_id(lane: int) -> int:
    """Return a number below every key that a chunk of `lane` can have."""
    return lane << SEQ_BITS


def end_id(lane: int) -> int:
    """Return one more than the highest key that a chunk of `lane` can have."""
    return (lane + 1) << SEQ_BITS


def is_corrupt(error: BaseException) -> bool:
    """Return True if what stands in the file makes no sense to SQLite; it may be one row only."""
    # SQLite puts details into the upper bits of its error codes; the low byte is the code itself.
    return isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_CORRUPT


def open_writer(path: Path, durability: Literal["full", "normal"]) -> sqlite3.Connection:
    """Open the connection that writes, and bring the schema up to date. Raises StartError, OSError or sqlite3.Error."""
    _make_file(path)
    # Not `rwc`: a missing file is made by `_make_file` only, with its mode, and never through a link.
    connection = _connect(f"{path.absolute().as_uri()}?mode=rw")
    try:
        for pragma in (
            # Before WAL: in that mode SQLite does not change the page size any more.
            f"page_size = {PAGE_BYTES}",
            "auto_vacuum = INCREMENTAL",  # works only before the first table
            "journal_mode = WAL",
            # In WAL mode, NORMAL may lose the last commits at a power cut: events that we have acknowledged.
            f"synchronous = {durability.upper()}",
            f"cache_size = -{_CACHE_KIB}",
            f"journal_size_limit = {WAL_BYTES}",  # what a reader made it grow beyond is given back
        ):
            connection.execute(f"PRAGMA {pragma}")
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _make_file(path: Path) -> None:
    """Make the file, if it is not there, for its owner only. Raises OSError, also for a link.

    A file that is there is not opened: when a process closes any descriptor of a file, the kernel drops all its locks
    on it, those of SQLite too (fcntl(2)), and the next stranger who opens the database believes to be alone.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        # Only the owner may read it from the first moment on: the table `stream` holds access tokens.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
    else:
        if stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def open_reader(path: Path) -> sqlite3.Connection:
    """Return a connection that can only read. Raises sqlite3.Error."""
    # Read-only, because of SQLite's WAL-reset bug (up to 3.51.2): it needs two connections that write or checkpoint.
    return _connect(f"{path.absolute().as_uri()}?mode=ro")


def _connect(uri: str) -> sqlite3.Connection:
    # The module must not begin transactions by itself. And `start` opens the writer's connection on another thread.
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    db = Database(connection)
    tables = db.table_names()
    if tables and _MIGRATIONS_TABLE not in tables:
        raise StartError(f"{path} is a database, but no queue of a sidecar; move it away, or name another --state")
    known = {migration.name for migration in migrations.pending(db)} | {
        m001_queue.__name__,
        m002_tails.__name__,
        m003_rules.__name__,
        m004_steady.__name__,
        m005_damaged.__name__,
        m006_seen.__name__,
        m007_unreadable.__name__,
        m008_loss_reason.__name__,
        m009_words.__name__,
        m010_power_cuts.__name__,
        m011_throttle.__name__,
        m012_growth.__name__,
    }
    newer = [applied.name for applied in migrations.applied(db) if applied.name not in known]
    if newer:
        raise StartError(
            f"{path} was written by a newer sidecar (schema {newer[-1]}); install that version, or name another --state"
        )
    migrations.apply(db)
