"""Takes a snapshot of what stands beside the files of a tail, and compares contents.

By name only where to look is decided; which file it is, by its inode or by its content. A directory is listed twice
where a race matters: what was renamed or compressed between the listing and the look is found in the second listing.
"""

import errno
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence

from sidecar.core.model import Checkpoint
from sidecar.inputs.tail.fingerprint import HEAD_BYTES, compare, digest, holds
from sidecar.inputs.tail.open_file import open_source
from sidecar.inputs.tail.rotated_names import bases_of, date_in, is_related, is_successor
from sidecar.inputs.tail.rotation import Candidate
from sidecar.inputs.tail.scan import discover, list_directory
from sidecar.inputs.tail.tracked_file import TrackedFile, look_at

_GRANULARITY_NS = 10_000_000
"""The times of files are those of the kernel's ticks."""
_MOST = 1000
"""Candidates that are looked into for one file, the newest first."""
_MOST_LINKS = 40
"""On the way to one file, as many as the system follows."""


class DirectorySnapshot:
    """Hold what stands beside the files of a tail, as of one look; each directory is listed once, or twice."""

    def __init__(self, rotated: Sequence[str]) -> None:
        """`rotated`: patterns for rotated files that stand elsewhere."""
        self._rotated = rotated
        self._first = _Listing(rotated)
        self._second: _Listing | None = None  # None: nobody needed it yet

    def find_name(self, known: Checkpoint) -> str | None:
        """Return where a file is, whatever it is called; its inode may be another file's by now."""
        return self._first.with_inode(known) or self._again().with_inode(known)

    def find_content(self, known: Checkpoint, *, gone: bool = False) -> Candidate | None:
        """Return a file that holds all that was read of it, also in compressed form.

        Logs may begin alike. If it is `gone`, and little of it is known, only a compressed file can be a copy of it:
        one that is not is another log.
        """
        return self._first.with_content(known, gone=gone) or self._again().with_content(known, gone=gone)

    def successors(self, known: Checkpoint, since_ns: int) -> list[Candidate]:
        """Return files that were at its path after it, and were rotated away too, the oldest first.

        All are as new as `since_ns`. Where one is there both as it is and compressed, the first counts.
        """
        return self._first.after(known, since_ns)

    def _again(self) -> "_Listing":
        self._second = self._second or _Listing(self._rotated)
        return self._second


class _Listing:
    def __init__(self, rotated: Sequence[str]) -> None:
        self._rotated = rotated
        # What is in a directory: all; paths by inode; paths by the name of which they surely are rotated ones.
        self._entries: dict[str, list[os.DirEntry[str]]] = {}
        self._inodes: dict[str, dict[int, str]] = {}  # of one directory
        self._rotated_of: dict[str, dict[str, list[str]]] = {}  # of one directory
        self._elsewhere: list[Candidate] | None = None  # what `rotated` matches; None: not looked for

    def with_inode(self, known: Checkpoint) -> str | None:
        identity = (known.device, known.inode)
        # Of a file that was empty, its inode at the very place where it was last is all that there is to know.
        if identity_of(known.at) == identity and (not known.head_bytes or is_it(known.at, known)):
            return known.at
        for directory in _directories(known):
            path = self._inodes_in(directory).get(known.inode)
            if path is not None and identity_of(path) == identity and is_it(path, known):
                return path
        return next((one.path for one in self._others() if one.identity == identity and is_it(one.path, known)), None)

    def with_content(self, known: Checkpoint, *, gone: bool) -> Candidate | None:
        if not known.head_bytes:
            return None
        related = self._related(known, is_related)
        if gone and known.head_bytes < HEAD_BYTES:
            related = [one for one in related if one.compressed]
        return next((one for one in related if _holds(one.path, known)), None)

    def after(self, known: Checkpoint, since_ns: int) -> list[Candidate]:
        found = [
            one
            for one in self._related(known, is_successor)
            if one.size and one.modified_ns >= since_ns - _GRANULARITY_NS
        ]
        plain = {one.path for one in found if not one.compressed}
        found = [one for one in found if not one.compressed or os.path.splitext(one.path)[0] not in plain]
        # Who compresses a file may leave it a new time; numbers say nothing, since some count up and others down.
        dates = {one.path: date_in(os.path.basename(one.path)) for one in found}
        dated = all(dates.values())
        return sorted(found, key=lambda one: (dates[one.path] if dated else "", one.modified_ns, one.path))

    def _related(self, known: Checkpoint, by_name: Callable[[str, str], bool]) -> list[Candidate]:
        names = {known.path, os.path.realpath(known.path)}
        if by_name is is_successor:
            bases = {os.path.basename(path) for path in names}
            paths = {path for directory in _directories(known) for path in self._successors_in(directory, bases)}
        else:
            names.add(known.at)
            paths = {
                entry.path
                for directory in _directories(known)
                for entry in self._list(directory)
                if any(by_name(path, entry.name) for path in names)
            }
        found = [one for path in paths if (one := _file_at(path)) is not None]
        known_names = {one.identity for one in found}
        found += [
            one
            for one in self._others()
            if one.identity not in known_names and any(by_name(path, os.path.basename(one.path)) for path in names)
        ]
        return sorted(found, key=lambda one: -one.modified_ns)[:_MOST]

    def _others(self) -> list[Candidate]:
        if self._elsewhere is None:
            files = discover(self._rotated, ()).files if self._rotated else {}
            self._elsewhere = [candidate(path, state) for path, state in files.items()]
        return self._elsewhere

    def _successors_in(self, directory: str, bases: set[str]) -> list[str]:
        """Return what surely are rotated ones of files called as in `bases`: at once, however many files there are."""
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
        if directory not in self._entries:
            self._entries[directory] = list_directory(directory)
        return self._entries[directory]


def candidate(path: str, state: os.stat_result) -> Candidate:
    """Return what stands at `path` as a candidate."""
    return Candidate(path, (state.st_dev, state.st_ino), state.st_size, state.st_mtime_ns)


def origin_of(one: Candidate, known: Iterable[Checkpoint]) -> Checkpoint | None:
    """Return the file of which it is a copy; None if of none. Raises OSError or EOFError if it cannot be read."""
    name = os.path.basename(one.path)
    named = [
        checkpoint
        for checkpoint in known
        if checkpoint.head_bytes
        and any(is_related(path, name) or path == one.path for path in {checkpoint.path, checkpoint.at})
    ]
    begins = beginnings(one.path, {checkpoint.head_bytes for checkpoint in named})
    alike = [checkpoint for checkpoint in named if begins.get(checkpoint.head_bytes) == checkpoint.head]
    found = next((each for each in alike if _is_copy(one.path, each)), None)
    now = os.stat(one.path)
    if (now.st_dev, now.st_ino) != one.identity:  # it was renamed, and what was looked into may be another
        raise FileNotFoundError(errno.ENOENT, "renamed meanwhile", one.path)
    return found


def beginnings(path: str, sizes: Collection[int]) -> dict[int, bytes]:
    """Return the digests of the first bytes, for so many of them as in `sizes`. Raises OSError or EOFError."""
    if not sizes:
        return {}
    source = open_source(path)
    try:
        head = source.read(HEAD_BYTES, 0)
    finally:
        source.close()
    return {size: digest(head[:size]) for size in sizes if size <= len(head)}


def _is_copy(path: str, known: Checkpoint) -> bool:
    """Return whether a file that begins as `known` does is a copy of it. Raises OSError.

    Logs may begin alike: where little is known, it must be all of it and no more. A copy that ends before the place up
    to which the file was read can only be compared at its beginning.
    """
    if known.head_bytes < HEAD_BYTES:
        return _ends_at(path, max(known.offset, known.head_bytes))
    look = look_at(path, known)
    return len(look.before) < len(known.mark) or look.before == known.mark


def _ends_at(path: str, size: int) -> bool:
    source = open_source(path)
    try:
        return len(source.read(size + 1, 0)) == size
    except EOFError as error:
        raise OSError(str(error)) from None
    finally:
        source.close()


def rewritten(known: Checkpoint) -> Candidate | None:
    """Return what is at its path, if it is the same in another inode, as an editor or a restored backup leaves it."""
    try:
        if compare(known, look_at(known.path, known)) == "reopen":
            return candidate(known.path, os.stat(known.path))
    except OSError:
        pass
    return None


def is_it(path: str, known: Checkpoint) -> bool:
    """Return whether the file with its inode is it; of one that was empty nobody can tell, and so it is not."""
    return bool(known.head_bytes) and _holds(path, known)


def _holds(path: str, known: Checkpoint) -> bool:
    try:
        return holds(known, look_at(path, known))
    except OSError:
        return False


def where_now(one: Candidate) -> str:
    """Return its path in its directory, where it may have been renamed. Raises FileNotFoundError if it is gone."""
    if identity_of(one.path) == one.identity:
        return one.path
    for entry in list_directory(os.path.dirname(one.path)):
        if entry.inode() == one.identity[1] and identity_of(entry.path) == one.identity:
            return entry.path
    raise FileNotFoundError(errno.ENOENT, "gone meanwhile", one.path)


def since_ns_of(file: TrackedFile) -> int:
    """Return when it was last written to; of one that is gone, when it was last seen."""
    state = file.source.state() if file.source is not None else stat_of(file.at)
    if file.is_finished or state is None or (state.st_dev, state.st_ino) != file.identity:
        return file.observed.seen_ms * 1_000_000
    return state.st_mtime_ns


def is_short_of_blocks(state: os.stat_result) -> bool:
    """Return True if it may be sparse; also a file that the file system compresses looks so."""
    return state.st_blocks * 512 < state.st_size


def real_path(path: str) -> str:
    """Return where a link leads; any other path as it is."""
    return os.path.realpath(path) if os.path.islink(path) else path


def real_path_of(path: str, identity: tuple[int, int]) -> str:
    """Return where `path` leads, if that still is the file of `identity`. Raises FileNotFoundError if it is not."""
    found = real_path(path)
    if identity_of(found) != identity:
        raise FileNotFoundError(errno.ENOENT, "it leads somewhere else meanwhile", path)
    return found


def link_directories(path: str) -> set[str]:
    """Return where the links stand on the way from `path` to the file: when one is replaced, that is told there."""
    found: list[str] = []
    at, left = "/", path.split("/")
    while left and len(found) < _MOST_LINKS:
        part = left.pop(0)
        following = os.path.normpath(os.path.join(at, part))
        try:
            target = os.readlink(following)
        except OSError:  # no link
            at = following
            continue
        found.append(at)
        at = "/" if target.startswith("/") else at
        left = target.split("/") + left
    return set(found)


def stat_of(path: str) -> os.stat_result | None:
    """Return what is there; None if there is nothing that can be seen."""
    try:
        return os.stat(path)
    except OSError:
        return None


def identity_of(path: str) -> tuple[int, int] | None:
    """Return device and inode of what is there; None if there is nothing that can be seen."""
    state = stat_of(path)
    return None if state is None else (state.st_dev, state.st_ino)


def _directories(known: Checkpoint) -> list[str]:
    """Return where it may be: beside the path, beside what a link there leads to, and where it was last."""
    paths = (known.path, os.path.realpath(known.path), known.at, os.path.realpath(known.at))
    return list(dict.fromkeys(map(os.path.dirname, paths)))


def _file_at(path: str) -> Candidate | None:
    state = stat_of(path)
    return candidate(path, state) if state is not None and os.path.isfile(path) else None
