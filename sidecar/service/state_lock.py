"""The state directory belongs to one sidecar at a time; the kernel drops the lock with the process, however it ends."""

import fcntl
import os
from pathlib import Path
from typing import Self

from sidecar.core.errors import StartError, in_words


def holder_of(directory: Path) -> str | None:
    """Return the number of the process that has the state directory; None if none has, or nobody may know."""
    try:
        number = os.open(directory / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        # Shared, so that two commands that look at the same time do not take each other for the holder.
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return os.pread(number, 64, 0).decode(errors="replace").strip() or "unknown"
    else:
        return None
    finally:
        os.close(number)


class StateLock:
    """An exclusive lock on a state directory, which it creates (0700) when missing."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        self._fd = -1  # of the lock file; -1: not held

    def acquire(self) -> Self:
        """Take the lock. Raises StartError that names the holder, or says why the directory cannot be used."""
        try:
            self._open()
        except OSError as error:
            raise StartError(f"state directory {self._path.parent}: {in_words(error)}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._fd, 64, 0).decode(errors="replace").strip() or "unknown"
            self.release()
            raise StartError(f"state directory {self._path.parent} is in use by process {holder}") from None
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            self.release()
            raise StartError(f"state directory {self._path.parent}: {in_words(error)}") from None
        return self

    def release(self) -> None:
        """Let the directory go; may be called twice."""
        if self._fd >= 0:
            # The file stays: if it were removed, two processes could each lock a different file of this name.
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        directory = self._path.parent
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not any(directory.iterdir()) or self._path.exists():
            directory.chmod(0o700)  # ours alone; a directory that holds other things is left as it is
        # Without O_TRUNC: if another process has the lock, the file holds its number for our message.
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
