"""Looks for the files that a tail's patterns match, and for the directories whose changes could add to them.

What matches and is not followed is told once, with its reason.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence

import msgspec
import structlog

from sidecar.core.errors import in_words
from sidecar.text.globs import ANY_DEPTH, is_plain, matches_any, name_matcher, split_pattern

_MAX_FILES = 100_000
_ROOT = 0
_MOST_LINKS = 40
"""In a row, as in the kernel."""
_MOST_TOLD = 20
"""Limit what is told of one look: a pattern that matches a thousand directories is one mistake."""
log = structlog.get_logger("inputs.tail")


class ScanResult(msgspec.Struct):
    """What one look found: files by path; what matches and is none, with the reason; directories to be watched.

    `closed` are those of the refused that might be read if somebody let us: files, and directories on the way.
    """

    files: dict[str, os.stat_result]
    refused: dict[str, str]
    directories: set[str]
    closed: set[str]
    more: bool = False


def discover(patterns: Sequence[str], exclude: Sequence[str], *, follow_links: bool = False) -> ScanResult:
    """Return all that `patterns` match now, but for what `exclude` does. Never raises.

    In a directory that everybody can write to, such as /tmp, a link is followed only if that is safe (as the kernel
    does with fs.protected_symlinks), or with `follow_links`: else any user could have any file of the host read.
    """
    look = _Look(exclude, follow_links=follow_links)
    for pattern in patterns:
        directory, names = split_pattern(pattern)
        if os.path.isdir(directory):
            if look.may_enter(directory):
                look.walk(directory, names)
        else:
            look.found.directories.add(nearest_directory(directory))
            look.note_closed(directory)
    return look.found


def nearest_directory(path: str) -> str:
    """Return the directory nearest to `path` that exists, on the way up."""
    while path != "/" and not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


class _Look:
    def __init__(self, exclude: Sequence[str], *, follow_links: bool) -> None:
        self.found = ScanResult({}, {}, set(), set())
        self._exclude, self._follow_links = exclude, follow_links
        self._open_to_all: dict[str, bool] = {}  # directories: whether everybody can write to them
        self._enterable: dict[str, bool] = {}  # directories: whether no link on the way to them may be planted
        self._listings: dict[str, list[os.DirEntry[str]]] = {}  # directories: what is in them

    def walk(self, directory: str, names: tuple[str, ...]) -> None:
        """Everything below `directory` that `names` lead to."""
        self.found.directories.add(directory)
        name, rest = names[0], names[1:]
        if name == ANY_DEPTH:
            self.walk(directory, rest or ("*",))
            for entry in self._list(directory):
                if _is_directory(entry, follow=False) and not entry.name.startswith("."):
                    self.walk(entry.path, names)
        elif not rest:
            self._take(directory, name)
        else:
            for path in self._directories(directory, name):
                self.walk(path, rest)

    def _directories(self, directory: str, name: str) -> Iterable[str]:
        if is_plain(name):
            path = os.path.join(directory, name)
            found = [path] if os.path.isdir(path) else []
        else:
            match = name_matcher(name).fullmatch
            found = [entry.path for entry in self._list(directory) if match(entry.name) and _is_directory(entry)]
        return [path for path in found if self._may_follow(path)]

    def _take(self, directory: str, name: str) -> None:
        for path in self._names(directory, name):
            if path in self.found.files or matches_any(path, self._exclude):
                continue
            if len(self.found.files) >= _MAX_FILES:
                self.found = msgspec.structs.replace(self.found, more=True)
                return
            try:
                seen = os.stat(path)
            except FileNotFoundError:  # gone meanwhile, or a link to nowhere
                continue
            except OSError as error:
                self._close(path, error)
                continue
            if stat.S_ISREG(seen.st_mode):
                if self._may_follow(path, seen):
                    self.found.files[path] = seen
            else:
                self.found.refused[path] = f"{_kind(seen.st_mode)}, not a file"

    def note_closed(self, directory: str) -> None:
        """Note if `directory` cannot be reached for want of a permission, and not since it is not there."""
        try:
            os.stat(directory)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            self._close(directory, error)

    def may_enter(self, directory: str) -> bool:
        """Return True unless one of the directories on the way is a link that somebody may have planted."""
        if self._follow_links:
            return True
        known = self._enterable.get(directory)
        if known is None:
            above = os.path.dirname(directory)
            known = directory == "/" or (self.may_enter(above) and self._judged(directory) is not None)
            self._enterable[directory] = known
        return known

    def _may_follow(self, path: str, target: os.stat_result | None = None) -> bool:
        """Return True unless `path` leads over a link that somebody may have planted; then it is refused.

        `target` is what was found there a moment ago. If it is something else by now, it is looked at next time.
        """
        if self._follow_links:
            return True
        if not self.may_enter(os.path.dirname(path)):
            return False
        found = self._judged(path)
        return found is not None and (target is None or os.path.samestat(found, target))

    def _judged(self, path: str) -> os.stat_result | None:
        """Return what `path` is, behind all links; None if it is gone, or one of the links may be planted."""
        try:
            target, place = os.stat(path), path
            for _ in range(_MOST_LINKS):
                found = os.lstat(place)
                if not stat.S_ISLNK(found.st_mode):
                    return found
                if not self.is_trusted(found.st_uid, target, os.path.dirname(place)):
                    self.found.refused[path] = (
                        f"a link of user {found.st_uid} to what is not theirs, in a directory that everybody can write"
                        " to; follow_links: true follows it"
                    )
                    return None
                place = os.path.normpath(os.path.join(os.path.dirname(place), os.readlink(place)))
                if not self.may_enter(os.path.dirname(place)):
                    return None
        except OSError:
            pass
        return None

    def is_trusted(self, owner: int, target: os.stat_result, directory: str) -> bool:
        """Return True unless a link in `directory` that user `owner` made may be planted."""
        return owner in (_ROOT, os.geteuid(), target.st_uid) or not self._is_open_to_all(directory)

    def _is_open_to_all(self, directory: str) -> bool:
        """Return True if everybody can write to `directory`, or to one above it, and so make one like it."""
        found = self._open_to_all.get(directory)
        if found is None:
            try:
                found = bool(os.stat(directory).st_mode & stat.S_IWOTH)
            except OSError:
                found = True
            found = found or (directory != "/" and self._is_open_to_all(os.path.dirname(directory)))
            self._open_to_all[directory] = found
        return found

    def _names(self, directory: str, name: str) -> Iterator[str]:
        if is_plain(name):
            yield os.path.join(directory, name)
            return
        match = name_matcher(name).fullmatch
        for entry in self._list(directory):
            if match(entry.name):
                yield entry.path

    def _list(self, directory: str) -> list[os.DirEntry[str]]:
        if directory not in self._listings:
            try:
                self._listings[directory] = _entries(directory)
            except (FileNotFoundError, NotADirectoryError):
                self._listings[directory] = []
            except OSError as error:
                self._listings[directory] = []
                self._close(directory, error)
        return self._listings[directory]

    def _close(self, path: str, error: OSError) -> None:
        self.found.refused[path] = in_words(error)
        self.found.closed.add(path)


def behind_link(path: str, target: str, owner: int, *, follow_links: bool) -> os.stat_result | None:
    """Return the file to which a link led that stood at `path`; None if there is none, or it may be planted.

    `target` is the next path on the way, `owner` the number of the user who made the link.
    """
    there = discover([target], (), follow_links=follow_links).files.get(target)
    if there is None or follow_links:
        return there
    look = _Look((), follow_links=False)
    directory = os.path.dirname(path)
    trusted = look.may_enter(directory) and look.is_trusted(owner, there, directory)
    return there if trusted else None


def list_directory(directory: str) -> list[os.DirEntry[str]]:
    """Return what is in a directory; nothing if it cannot be read."""
    try:
        return _entries(directory)
    except OSError:
        return []


def _entries(directory: str) -> list[os.DirEntry[str]]:
    with os.scandir(directory) as entries:
        return list(entries)


def _is_directory(entry: os.DirEntry[str], *, follow: bool = True) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False


def _kind(mode: int) -> str:
    names = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return names.get(stat.S_IFMT(mode), "a device")


class IgnoredFiles:
    """Hold what matches a tail's patterns and is not followed, each with its reason, which is told once."""

    def __init__(self, tail: str) -> None:
        self.shown: dict[str, str] = {}  # all of them: reason by path
        self.closed: set[str] = set()  # those that could be read if the sidecar's user were let
        self.too_old: set[str] = set()  # those that nobody wrote to for longer than `ignore_older`
        self._tail = tail
        self._here: dict[str, str] = {}  # those that were found, and could not be taken in: reason by path

    def update(self, found: ScanResult) -> None:
        """Note what a scan refused; what was refused elsewhere stays so while it is there."""
        new = [(path, why) for path, why in found.refused.items() if self.shown.get(path) != why]
        for path, why in new[:_MOST_TOLD]:
            self._tell(path, why)
        if found.more:
            log.warning("too many files match, some are not followed", tail=self._tail)
        self.too_old.clear()
        self._here = {path: why for path, why in self._here.items() if path in found.files}
        self.shown = found.refused | self._here
        self.closed = found.closed

    def add(self, path: str, why: str) -> None:
        """Note a file that was found, and cannot be followed."""
        if self._here.get(path) != why:
            self._tell(path, why)
        self._here[path] = self.shown[path] = why

    def add_too_old(self, path: str) -> None:
        """Note a file that is not followed before somebody writes to it, which is as it should be."""
        self.too_old.add(path)
        self._here[path] = self.shown[path] = "not written to for longer than ignore_older"

    def forget(self, path: str) -> None:
        """Note that it can be followed now."""
        self._here.pop(path, None)
        self.shown.pop(path, None)

    def _tell(self, path: str, why: str) -> None:
        log.warning("not followed", tail=self._tail, path=path, reason=why)
