"""Looks for the files that a tail's patterns match, and for the directories whose changes could add to them."""

import os
import stat
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from sidecar.globs import ANY_DEPTH, is_excluded, is_plain, name_matcher, split_pattern

_MAX_FILES = 100_000


class Found(msgspec.Struct):
    """What one look found: files by path; what matches and is none, with the reason; directories to be watched."""

    files: dict[str, os.stat_result]
    refused: dict[str, str]
    directories: set[str]
    more: bool = False


def discover(patterns: Sequence[str], exclude: Sequence[str]) -> Found:
    """All that `patterns` match now, but for what `exclude` does. Never raises."""
    look = _Look(exclude)
    for pattern in patterns:
        directory, names = split_pattern(pattern)
        if os.path.isdir(directory):
            look.walk(directory, names)
        else:
            look.found.directories.add(nearest_directory(directory))
    return look.found


def nearest_directory(path: str) -> str:
    """The directory nearest to `path` that exists, on the way up."""
    while path != "/" and not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


class _Look:
    def __init__(self, exclude: Sequence[str]) -> None:
        self.found = Found({}, {}, set())
        self._exclude = exclude
        self._listings: dict[str, list[os.DirEntry[str]]] = {}

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
            return [path] if os.path.isdir(path) else []
        match = name_matcher(name).fullmatch
        return [entry.path for entry in self._list(directory) if match(entry.name) and _is_directory(entry)]

    def _take(self, directory: str, name: str) -> None:
        for path in self._names(directory, name):
            if path in self.found.files or is_excluded(path, self._exclude):
                continue
            if len(self.found.files) >= _MAX_FILES:
                self.found.more = True
                return
            try:
                seen = os.stat(path)
            except FileNotFoundError:  # gone meanwhile, or a link to nowhere
                continue
            except OSError as error:
                self.found.refused[path] = os.strerror(error.errno or 0)
                continue
            if stat.S_ISREG(seen.st_mode):
                self.found.files[path] = seen
            else:
                self.found.refused[path] = f"{_kind(seen.st_mode)}, not a file"

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
            self._listings[directory] = list_directory(directory)
        return self._listings[directory]


def list_directory(directory: str) -> list[os.DirEntry[str]]:
    """What is in it; nothing if it cannot be read."""
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except OSError:
        return []


def _is_directory(entry: os.DirEntry[str], *, follow: bool = True) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False


def _kind(mode: int) -> str:
    names = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return names.get(stat.S_IFMT(mode), "a device")
