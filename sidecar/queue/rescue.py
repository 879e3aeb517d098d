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
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        copy = sqlite3.connect(part)
        try:
            connection.backup(copy, pages=_PAGES_AT_ONCE, sleep=0)
        finally:
            copy.close()
        _sync(part)
        before_it_has_its_name()
        target = _link(part, path)
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
