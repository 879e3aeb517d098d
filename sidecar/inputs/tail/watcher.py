"""Hears from the system which directories and files change: the only module that knows the library watchdog.

It uses watchdog's reader of inotify itself, in one thread for all tails, and not an observer, which would take three
threads and several queues for each directory. And it pauses after each reading, so that the kernel joins what happens
to the same file meanwhile: a thousand writes are then a hundred events.

    kernel ─> read_events ─> on_event of each directory ─> listener(path, change)
"""

import errno
import os
import threading
from collections.abc import Callable, Collection
from typing import Any

import structlog

from sidecar.core.errors import in_words
from sidecar.inputs.tail.arrivals import Change

try:
    from watchdog.observers.inotify_c import InotifyConstants, InotifyEvent, InotifyFD

    _HAS_INOTIFY = True
except (ImportError, OSError):
    _HAS_INOTIFY = False

_PAUSE_S = 0.01
# Not IN_DELETE_SELF: it is heard before the watch has ended, when the directory could not be watched anew yet.
_CHANGES = {
    "IN_MODIFY": Change.WRITTEN,
    "IN_CREATE": Change.CREATED,
    "IN_MOVED_TO": Change.MOVED_HERE,
    "IN_MOVED_FROM": Change.MOVED_AWAY,
    "IN_DELETE": Change.REMOVED,
}
_STRUCTURE = ("IN_CREATE", "IN_DELETE", "IN_MOVED_FROM", "IN_MOVED_TO", "IN_MOVE_SELF", "IN_ATTRIB")
Listener = Callable[[str, Change], None]
"""Told a path, and what happened there; OTHER: perhaps anything."""
AS_CONFIGURED = "as configured"
log = structlog.get_logger("inputs.tail")


class Watcher:
    """Watches directories for any number of listeners. Without inotify, `watch` says why it cannot."""

    def __init__(self) -> None:
        self._directories: dict[tuple[str, Listener], _Directory] = {}  # what is watched, and for whom
        self._lock = threading.Lock()
        self._reader: Any = None  # watchdog's; None: nothing was watched yet, or all is over
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tail-watch", daemon=True)

    def watch(self, directory: str, listener: Listener) -> str | None:
        """From now on `listener` is told of changes in `directory`; else why that cannot be. May be called again.

        It is told of one at once: what happened until now, perhaps since the listener looked, was not heard of.
        """
        known = self._directories.get((directory, listener))
        if known is not None and known.alive:
            return None
        if not _HAS_INOTIFY:
            return "this system has no inotify"
        self.unwatch(directory, listener)
        made = _Directory(directory, listener)
        try:
            with self._lock:
                if self._reader is None:
                    self._reader = InotifyFD()
                    self._thread.start()
                made.begin(self._reader.add_callback(os.fsencode(directory), _mask(), made, id(made)))
        except (FileNotFoundError, NotADirectoryError):  # it lived too short, which is no fault of inotify
            listener(directory, Change.OTHER)
            return None
        except OSError as error:
            return _reason(error)
        self._directories[directory, listener] = made
        listener(directory, Change.OTHER)
        return None

    def unwatch(self, directory: str, listener: Listener) -> None:
        """Tell `listener` nothing more of `directory`."""
        made = self._directories.pop((directory, listener), None)
        if made is not None and not made.deleted:
            self._reader.remove_callbacks([(made.number, id(made))])

    def stop(self) -> None:
        """May be called twice."""
        self._ended.set()
        if self._reader is not None:
            self._reader.close()
            self._thread.join()
            self._reader = None

    def _run(self) -> None:
        reader = self._reader
        while not self._ended.is_set():
            try:
                for event in reader.read_events():
                    reader.handle_event(event)
            except Exception as error:  # the slow look at everything goes on
                log.error("inotify failed", error=str(error))
                return
            self._ended.wait(_PAUSE_S)


class WatchedDirectories:
    """Keep the directories watched that one tail is to hear of. Belongs to its thread."""

    def __init__(self, tail: str, watcher: Watcher, changed: Listener, *, configured: bool) -> None:
        """Not `configured`: the tail only polls."""
        self.polling: str | None = None if configured else AS_CONFIGURED  # why changes are not heard of; None: they are
        self._tail, self._watcher, self._changed = tail, watcher, changed
        self._directories: set[str] = set()  # that are watched, or should be

    def update(self, directories: Collection[str]) -> None:
        """Watch `directories` from now on, and no others."""
        if self.polling == AS_CONFIGURED:
            return
        for directory in self._directories.difference(directories):
            self._watcher.unwatch(directory, self._changed)
        self._directories = set(directories)
        why = next((why for one in directories if (why := self._watcher.watch(one, self._changed))), None)
        if why is not None and self.polling is None:
            log.warning("inotify unavailable, polling every second", tail=self._tail, reason=why)
        elif why is None and self.polling is not None:
            log.info("inotify available again", tail=self._tail)
        self.polling = why

    def stop(self) -> None:
        """Watch nothing more."""
        for directory in self._directories:
            self._watcher.unwatch(directory, self._changed)


class _Directory:
    """Takes what watchdog calls back."""

    def __init__(self, path: str, listener: Listener) -> None:
        self.number: Any = None  # of the kernel's watch; None: not watched yet
        self.alive = True  # it still is what stands at its path
        self.deleted = False  # the kernel has ended the watch
        self._path, self._listener = path, listener

    def begin(self, number: Any) -> None:
        """Note under which number it is watched."""
        self.number = number

    def on_event(self, event: "InotifyEvent") -> None:
        if event.mask & InotifyConstants.IN_MOVE_SELF:
            self.alive = False  # it is somewhere else now, and what is at its path is another one
        path = os.path.join(self._path, os.fsdecode(event.name)) if event.name else self._path
        self._listener(path, _change(event.mask) if event.name else Change.OTHER)

    def on_watch_deleted(self, _: Any) -> None:
        self.alive, self.deleted = False, True
        self._listener(self._path, Change.OTHER)

    def on_queue_overflow(self) -> None:
        self._listener(self._path, Change.OTHER)


def _change(mask: int) -> Change:
    return next((change for name, change in _CHANGES.items() if mask & getattr(InotifyConstants, name)), Change.OTHER)


def _mask() -> Any:
    mask = InotifyConstants.IN_MODIFY | InotifyConstants.IN_ONLYDIR
    for name in _STRUCTURE:
        mask |= getattr(InotifyConstants, name)
    return mask


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "the limit of inotify watches is reached (sysctl fs.inotify.max_user_watches)"
    if error.errno == errno.EMFILE:
        return "the limit of inotify instances is reached (sysctl fs.inotify.max_user_instances)"
    return f"inotify: {in_words(error)}"
