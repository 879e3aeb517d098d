"""Saves what an open database holds whose file has lost its name."""

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

_PAGES_AT_ONCE = 4096


def save_copy(
    connection: sqlite3.Connection, path: Path, *, before_it_has_its_name: Callable[[], None] = lambda: None
) -> Path:
    """Copy the database into a new file at `path`, or beside it if that is taken; return which.

    Raises OSError or sqlite3.Error. The new file has its name only once all of it is on disk.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Another name at first: the next start would take half a copy at `path` for the queue.
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    # Made here and not by SQLite, so that nobody but the owner can read it: it holds access tokens.
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        copy = sqlite3.connect(part)
        try:
            # Through the open connection: it still sees the file, and the log, that no longer have a name.
            connection.backup(copy, pages=_PAGES_AT_ONCE, sleep=0)
        finally:
            copy.close()
        # Content first, name second: after a power cut the name must not lead to a file without its content.
        _sync(part)
        # A log of the old file must not be there when the new one appears: SQLite would apply it.
        before_it_has_its_name()
        target = _link(part, path)
        # A name is on disk only when its directory is.
        _sync(path.parent)
        return target
    finally:
        part.unlink(missing_ok=True)


def _link(part: Path, path: Path) -> Path:
    """Give the file its name; a name that is taken is left alone."""
    number = 0
    while True:
        target = path if not number else path.with_name(f"{path.stem}-saved-{number}{path.suffix}")
        try:
            # Not rename(2): it would replace a file that somebody has put there meanwhile.
            os.link(part, target)
        except FileExistsError:
            number += 1
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS) or target.exists():
                raise
            part.rename(target)  # a file system without hard links
            return target
        else:
            return target


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)
