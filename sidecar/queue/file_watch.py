"""Notices that an open database is no longer the one at its path: removed, renamed or replaced, with its directory too.

SQLite does not: it goes on writing into a file without a name, which is gone with the process.
"""

from pathlib import Path

_Identity = tuple[int, int]


class FileWatch:
    """Looks at the file and its write-ahead log. `opened` belongs to the writer's thread, `look` to any."""

    def __init__(self, path: Path) -> None:
        self._paths = (path, path.with_name(f"{path.name}-wal"))
        self._seen: dict[Path, _Identity] = {}  # by the path: which file is open

    def opened(self) -> None:
        """Note what has just been opened; the log is noted once it is there."""
        self._seen = {}
        self.look()

    def closed(self) -> None:
        """Forget the log, which SQLite removes when nobody has the database open."""
        self._seen.pop(self._paths[1], None)

    def look(self) -> str | None:
        """Return what has happened to the files, or None."""
        for path in self._paths:
            found, seen = _identity(path), self._seen.get(path)
            if seen is None and found is not None:
                self._seen[path] = found
            elif seen is not None and found is None:
                return f"{path} was removed while it is in use"
            elif seen != found:
                return f"{path} was replaced while it is in use"
        return None

    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log."""
        try:
            return self._paths[1].stat().st_size
        except OSError:
            return 0


def _identity(path: Path) -> _Identity | None:
    try:
        state = path.stat()
    except OSError:
        return None
    return state.st_dev, state.st_ino
