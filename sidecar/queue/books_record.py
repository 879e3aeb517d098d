"""The books as they stood a moment ago, in a small file beside the database.

A write-ahead log that was lost or damaged, or a database that was replaced by an older copy, leaves books that balance:
SQLite takes what it finds. Only something outside can tell that there was more.
"""

import contextlib
import os
import re
from pathlib import Path

from sidecar.core.model import Books

# Always of one length: each write covers the whole line before it, and the file never needs to be cut.
_LINE = re.compile(r"accepted=(\d{20}) delivered=(\d{20})\n", re.ASCII)


class BooksRecord:
    """Keep the totals of the books in a small file outside the database. Used on the writer's thread only.

    Errors in reading or writing it are ignored, since it is only an additional check.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1  # its descriptor; -1: not open
        self._totals = Books()  # what was committed in all, as the record is to say
        self._is_stale = False  # what stands there was written by the last run

    def went_back(self, books: Books) -> int:
        """Return how many events more than `books` say were accepted, or delivered, when this was last written."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found = _LINE.fullmatch(self._path.read_text("ascii"))
            if found is not None:
                # A crash right after a COMMIT leaves the record behind. Only a record that is ahead means a loss.
                return max(0, int(found[1]) - books.accepted, int(found[2]) - books.delivered)
        return 0

    def open(self, books: Books) -> None:
        """Begin with `books`, which may be less than the file says. The file is not changed before the next commit."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        # A start that fails later on must not use up the alarm: the next start has to find the old line.
        self._totals, self._is_stale = books, True
        with contextlib.suppress(OSError):
            # No O_TRUNC: until the next commit the old line is the evidence.
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def add(self, accepted: int, delivered: int) -> None:
        """Count what has just been committed. It goes into the page cache, which outlives the process."""
        if accepted or delivered or self._is_stale:
            self._totals = Books(self._totals.accepted + accepted, 0, self._totals.delivered + delivered)
            self._write()

    def close(self) -> None:
        """Write once more; may be called twice."""
        self._write()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self) -> None:
        line = f"accepted={self._totals.accepted:020d} delivered={self._totals.delivered:020d}\n"
        if self._file >= 0:
            self._is_stale = False
            with contextlib.suppress(OSError):
                # No fsync, so a commit costs no more. After a power cut an old line is here, which is no alarm.
                os.pwrite(self._file, line.encode(), 0)
