"""Finds what became of a file that is not at its path any more: renamed, copied, compressed; and what came after it.

By name only where to look is decided; which file it is, by its inode or by its content.
"""

import errno
import os
from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec

from sidecar.core.model import Checkpoint
from sidecar.inputs.tail.fingerprint import HEAD_BYTES, holds
from sidecar.inputs.tail.open_file import SUFFIXES
from sidecar.inputs.tail.rotated_names import bases_of, is_related, is_successor
from sidecar.inputs.tail.scan import discover, list_directory
from sidecar.inputs.tail.tracked_file import look_at

_GRANULARITY_NS = 10_000_000
"""The times of files are those of the kernel's ticks."""
_MOST = 1000
"""Candidates that are looked into for one file, the newest first."""


class Candidate(msgspec.Struct, frozen=True):
    """A file that may be, or follow, the one that is looked for."""

    path: str
    state: os.stat_result

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        return self.state.st_dev, self.state.st_ino

    @property
    def compressed(self) -> bool:
        """As its name says."""
        return self.path.endswith(SUFFIXES)


class Neighbours:
    """What stands beside the files of a tail, as of one look; each directory is listed once."""

    def __init__(self, rotated: Sequence[str]) -> None:
        self._rotated = rotated
        self._listings: dict[str, list[os.DirEntry[str]]] = {}
        self._inodes: dict[str, dict[int, str]] = {}
        self._rotated_of: dict[str, dict[str, list[str]]] = {}
        self._elsewhere: list[Candidate] | None = None

    def with_inode(self, known: Checkpoint) -> str | None:
        """Return where in its directories it is, whatever it is called; its inode may be another file's by now."""
        identity = (known.device, known.inode)
        if _identity(known.at) == identity and is_it(known.at, known):
            return known.at
        for directory in _directories(known):
            path = self._inodes_in(directory).get(known.inode)
            if path is not None and _identity(path) == identity and is_it(path, known):
                return path
        return next((one.path for one in self._others() if one.identity == identity and is_it(one.path, known)), None)

    def with_content(self, known: Checkpoint, *, gone: bool = False) -> Candidate | None:
        """Return a file that holds all that was read of it, also in compressed form.

        Logs may begin alike. If it is `gone`, and little of it is known, only a compressed file can be a copy of it:
        one that is not is another log.
        """
        if not known.head_bytes:
            return None
        related = self._related(known, is_related)
        if gone and known.head_bytes < HEAD_BYTES:
            related = [one for one in related if one.compressed]
        return next((one for one in related if _holds(one.path, known)), None)

    def after(self, known: Checkpoint, since_ns: int) -> list[Candidate]:
        """Files that were at its path after it, and were rotated away too, the oldest first: all as new as `since_ns`.

        Where one is there both as it is and compressed, the first counts.
        """
        found = [
            one
            for one in self._related(known, is_successor)
            if one.state.st_size and one.state.st_mtime_ns >= since_ns - _GRANULARITY_NS
        ]
        plain = {one.path for one in found if not one.compressed}
        found = [one for one in found if not one.compressed or os.path.splitext(one.path)[0] not in plain]
        return sorted(found, key=lambda one: (one.state.st_mtime_ns, one.path))

    def _related(self, known: Checkpoint, by_name: Callable[[str, str], bool]) -> list[Candidate]:
        names = {known.path, os.path.realpath(known.path)}
        bases = {os.path.basename(path) for path in names}
        if by_name is is_successor:
            paths = {path for directory in _directories(known) for path in self._successors_in(directory, bases)}
        else:
            paths = {
                entry.path
                for directory in _directories(known)
                for entry in self._list(directory)
                if any(by_name(path, entry.name) for path in names)
            }
        found = [one for path in paths if (one := _candidate(path)) is not None]
        known_names = {one.identity for one in found}
        found += [
            one
            for one in self._others()
            if one.identity not in known_names and by_name(known.path, os.path.basename(one.path))
        ]
        return sorted(found, key=lambda one: -one.state.st_mtime_ns)[:_MOST]

    def _others(self) -> list[Candidate]:
        if self._elsewhere is None:
            files = discover(self._rotated, ()).files if self._rotated else {}
            self._elsewhere = [Candidate(path, state) for path, state in files.items()]
        return self._elsewhere

    def _successors_in(self, directory: str, bases: set[str]) -> list[str]:
        """What are surely rotated ones of files called as in `bases`: found at once, however many files there are."""
        if directory not in self._rotated_of:
            found = self._rotated_of[directory] = defaultdict(list)
            for entry in self._list(directory):
                for base in bases_of(entry.name):
                    found[base].append(entry.path)
        return [path for base in bases for path in self._rotated_of[directory].get(base, ())]

    def _inodes_in(self, directory: str) -> dict[int, str]:
        if directory not in self._inodes:
            self._inodes[directory] = {entry.inode(): entry.path for entry in self._list(directory)}
        return self._inodes[directory]

    def _list(self, directory: str) -> list[os.DirEntry[str]]:
        if directory not in self._listings:
            self._listings[directory] = list_directory(directory)
        return self._listings[directory]


def _directories(known: Checkpoint) -> list[str]:
    """Return where it may be: beside the path, beside what a link there leads to, and where it was last."""
    paths = (known.path, os.path.realpath(known.path), known.at, os.path.realpath(known.at))
    return list(dict.fromkeys(map(os.path.dirname, paths)))


def _candidate(path: str) -> Candidate | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return Candidate(path, state) if os.path.isfile(path) else None


def where_now(one: Candidate) -> str:
    """Its path in its directory, where it may have been renamed since. Raises FileNotFoundError if it is not there."""
    if _identity(one.path) == one.identity:
        return one.path
    for entry in list_directory(os.path.dirname(one.path)):
        if entry.inode() == one.state.st_ino and _identity(entry.path) == one.identity:
            return entry.path
    raise FileNotFoundError(errno.ENOENT, "gone meanwhile", one.path)


def is_it(path: str, known: Checkpoint) -> bool:
    """Return whether the file with its inode is it; of one that was empty nobody can tell, and so it is not."""
    return bool(known.head_bytes) and _holds(path, known)


def _holds(path: str, known: Checkpoint) -> bool:
    try:
        return holds(known, look_at(path, known))
    except OSError:
        return False


def _identity(path: str) -> tuple[int, int] | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_dev, state.st_ino
