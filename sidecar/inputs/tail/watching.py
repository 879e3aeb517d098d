"""Which directories a tail hears of; and why it does not, if it does not."""

from collections.abc import Callable, Collection

import structlog

from sidecar.inputs.tail.watcher import Watcher

AS_CONFIGURED = "as configured"
log = structlog.get_logger("inputs.tail")


class Watching:
    """Not `configured`: the tail only looks. Belongs to the thread of one tail."""

    def __init__(self, tail: str, watcher: Watcher, changed: Callable[[str, bool], None], *, configured: bool) -> None:
        self.polling: str | None = None if configured else AS_CONFIGURED
        self._tail, self._watcher, self._changed = tail, watcher, changed
        self._directories: set[str] = set()

    def update(self, directories: Collection[str]) -> None:
        """From now on `directories` are to be heard of."""
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
        """Hears of nothing more."""
        for directory in self._directories:
            self._watcher.unwatch(directory, self._changed)
