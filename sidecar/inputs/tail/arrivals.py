"""Gathers what is told of paths between two looks, and finds out what came to one and was gone again.

Between two looks a file may be made, written to and made again, or a link be pointed somewhere else twice. The system
tells of each step, though not what stood there; so there is a glance at each path as soon as it is told of. What that
glance missed too is a loss.

    told              | then told                      | is
    ------------------|--------------------------------|---------------------------------------------------
    a file came       | it was written to, and went    | passed; also if another one came in its place
    a link came       | it went, or another one came   | passed, with where it led to
    something came    | it was renamed                 | under another name, where the look finds it
    came, unseen      | never written to               | a link, if one stands there now; or an empty file
"""

import enum
import os
import stat
import threading
from collections.abc import Callable, Mapping

import msgspec

from sidecar.inputs.tail.snapshot import identity_of

_MOST = 10_000
"""Limit what is remembered between two looks, of the paths of one tail; what came first is forgotten first."""


class Change(enum.Enum):
    """Tell what happened at a path."""

    WRITTEN = "written"
    CREATED = "created"
    MOVED_HERE = "moved here"
    MOVED_AWAY = "moved away"
    REMOVED = "removed"
    OTHER = "other"


class Glance(msgspec.Struct, frozen=True):
    """Say what stood at a path when it was told that something came: the file's inode, and where a link leads to."""

    entry: int  # the inode of the file, or of the link itself
    identity: tuple[int, int]  # (0, 0): the link led to nothing
    target: str | None = None  # the next path on the way there; None: it is no link
    link_owner: int = 0  # the number of the user who made the link


class Passed(msgspec.Struct, frozen=True):
    """Say what stood at `path` and is gone. `seen` is None if nobody knows what it was."""

    path: str
    seen: Glance | None
    was_created: bool  # False: moved there
    was_written: bool = False


class Arrivals:
    """Gather what is told between two looks: the watcher's thread tells, the tail's asks."""

    def __init__(self, concerns: Callable[[str], bool]) -> None:
        """`concerns`: whether a path is one of the tail's."""
        self._concerns = concerns
        self._lock = threading.Lock()
        self._here: dict[str, Passed] = {}  # what came, by path, and was not seen by a look
        self._passed: list[Passed] = []  # that nobody asked for yet, the oldest first

    def tell(self, path: str, change: Change) -> None:
        """Note what was told, and look at what stands there now."""
        if change is Change.WRITTEN:
            if path in self._here:
                with self._lock:
                    self._here[path] = msgspec.structs.replace(self._here[path], was_written=True)
        elif change is not Change.OTHER and self._concerns(path):
            came = change in (Change.CREATED, Change.MOVED_HERE)
            here = Passed(path, glance(path), change is Change.CREATED) if came else None
            with self._lock:
                before = self._here.pop(path, None)
                if before is not None and change is not Change.MOVED_AWAY:
                    self._passed.append(before)
                if here is not None:
                    self._note_late_glance(here)
                    self._here[path] = here
                if len(self._here) + len(self._passed) > _MOST:
                    self._here.pop(next(iter(self._here), ""), None)

    def _note_late_glance(self, here: Passed) -> None:
        """Forget what was seen of what passed at this path last, if that is what is told of only now."""
        last = self._passed[-1] if self._passed else None
        if last is None or last.path != here.path or last.seen is None or here.seen is None:
            return
        if last.seen.entry == here.seen.entry:
            self._passed[-1] = msgspec.structs.replace(last, seen=None)

    def take(self) -> list[Passed]:
        """Return what came, and went or was replaced, in its order."""
        with self._lock:
            found, self._passed = self._passed, []
        return found

    def forget(self, seen: Mapping[str, os.stat_result]) -> set[str]:
        """Note what a look saw at each path. Returns the paths at which that was told of before."""
        with self._lock:
            found = {path for path, one in self._here.items() if _is_seen(one, seen.get(path))}
            for path in found:
                del self._here[path]
        return found


def _is_seen(one: Passed, state: os.stat_result | None) -> bool:
    return state is not None and (one.seen is None or one.seen.identity == (state.st_dev, state.st_ino))


def glance(path: str) -> Glance | None:
    """Return what stands at a path; None if nothing, or neither a file nor a link."""
    try:
        state = os.lstat(path)
        if stat.S_ISLNK(state.st_mode):
            target = os.path.normpath(os.path.join(os.path.dirname(path), os.readlink(path)))
            return Glance(state.st_ino, identity_of(target) or (0, 0), target, state.st_uid)
    except OSError:
        return None
    return Glance(state.st_ino, (state.st_dev, state.st_ino)) if stat.S_ISREG(state.st_mode) else None
