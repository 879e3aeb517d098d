"""Notices that an open database is no longer the one at its path: removed, renamed or replaced, with its directory too.

SQLite does not: it goes on writing into a file without a name, which is gone with the process.
"""

from pathlib import Path

_Identity = tuple[int, int]


class FileWatch:
    """Looks at the file and its write-ahead log. `opened` belongs to the writer's thread, `look` to any."""

    def __init__(self, path: Path) -> None:
        self._path, self._log = path, path.with_name(f"{path.name}-wal")
        self._seen: dict[Path, _Identity] = {}  # by the path: which file is open
        self._is_open = False  # while nobody has it open, SQLite removes the log

    def opened(self) -> None:
        """Note what has just been opened; the log is noted once it is there."""
        self._seen = {}
        self._is_open = True
        self.look()

    def closed(self) -> None:
        """Expect no log any more."""
        self._is_open = False
        self._seen.pop(self._log, None)

    def look(self) -> str | None:
        """Return what has happened to the files, or None."""
        for path in (self._path, self._log) if self._is_open else (self._path,):
            found, seen = _identity(path), self._seen.get(path)
            if seen is None and found is not None:
                self._seen[path] = found
            elif seen is not None and found is None:
                return f"{path} was removed while it is in use"
            elif seen != found:
                return f"{path} was replaced while it is in use"
        return None

    def is_there(self) -> bool:
        """Return True if the database is at its path, whatever became of its log."""
        return _identity(self._path) == self._seen.get(self._path)

    def remove_log(self) -> None:
        """Remove the log and its index, if they are the open database's: another one would take them for its own."""
        if _identity(self._log) == self._seen.get(self._log) is not None:
            self._log.unlink(missing_ok=True)
            self._path.with_name(f"{self._path.name}-shm").unlink(missing_ok=True)

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        try:
            return self._log.stat().st_size
        except OSError:
            return 0


def _identity(path: Path) -> _Identity | None:
    try:
        # Never open it to look: closing a descriptor drops SQLite's locks on the file (fcntl(2)).
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino
