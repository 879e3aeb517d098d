"""Handles files that are read to their end, do not go on as they did, or cannot be read.

A line without an end, and an open group of lines, are held back for a while: more may come. A file that was rotated is
drained once all of it is handed over: what came after it may then be read. It is looked at as long as it exists, since
its writer may not have noticed; it is finished when it is gone, or was compressed.
"""

import math
from collections.abc import Callable

import msgspec
import structlog

from sidecar.config import Tail
from sidecar.inputs.tail.reading import NothingRead
from sidecar.inputs.tail.remainder import WaitLimits
from sidecar.inputs.tail.saver import Saver
from sidecar.inputs.tail.tracked_file import TrackedFile
from sidecar.inputs.tail.tracker import Tracker

_ROTATED_GRACE_S = 1.0
"""A line without an end in a rotated file is whole after so long."""
_QUIET_S = 5.0
"""A rotated file counts as finished after so long without growth; it is looked at nevertheless."""
_NAMELESS_S = 30.0
"""A file of which nobody knows the name any more is kept open so long without growth."""
_HOUSEKEEP_EVERY_S = 0.5
_CLOSE_EVERY_S = 5.0
_DAMAGED_AFTER_MS = 60_000
log = structlog.get_logger("inputs.tail")


class EndOfFile:
    """Belongs to the thread of one tail. `look_again` asks for a look at everything."""

    def __init__(self, settings: Tail, tracker: Tracker, saver: Saver, look_again: Callable[[], None]) -> None:
        self._settings, self._tracker, self._saver, self._look_again = settings, tracker, saver, look_again
        self._registry = tracker.registry
        self._held: dict[int, TrackedFile] = {}  # something is left at their end, and waits for more
        self._leaving: dict[int, TrackedFile] = {}  # rotated, and at their end
        self._housekeep_s = self._close_s = 0.0  # when it is due

    def is_complete(self, file: TrackedFile, now_s: float) -> tuple[bool, bool]:
        """Return whether a line without an end, and an open group, will not go on."""
        if file.source is not None and file.source.compressed:
            return True, True
        return file.remainder.is_over(self._wait_limits(file), now_s)

    def reached(self, file: TrackedFile, nothing: NothingRead, now_s: float, now_ms: int) -> bool:
        """Act on a file of which there is nothing more to read now. Returns False if it does not go on as it did."""
        assert file.source is not None
        if file.source.compressed:
            file.reach_end_of_compressed()
            self._registry.finish(file)
            return True
        state = file.source.state()
        if state.st_size >= file.reached.offset:
            file.reach_end(state, nothing.left, now_s, now_ms)
        if state.st_size < file.reached.offset or file.observed.shrunk_from:
            self.changed(file, now_s, now_ms)
            return False
        if nothing.left:
            self._held[file.number] = file
        else:
            self._held.pop(file.number, None)
        if file.is_rotated:
            self._leaving[file.number] = file
        return True

    def changed(self, file: TrackedFile, now_s: float, now_ms: int) -> bool:
        """Act on a file that does not go on as it did. Returns True if there is something else to read now."""
        try:
            return self._tracker.content_changed(file, now_s, now_ms)
        except OSError:
            self._look_again()
        return False

    def failed(self, file: TrackedFile, error: OSError | EOFError, now_ms: int) -> None:
        """Act on a file that could not be read."""
        why = f"damaged: {error}" if isinstance(error, EOFError) else str(error.strerror or error)
        if isinstance(error, FileNotFoundError):
            self._look_again()
        elif isinstance(error, EOFError) and now_ms - file.modified_ms() > _DAMAGED_AFTER_MS and not file.in_flight:
            self._tracker.lose(file, why, now_ms)
            self._registry.finish(file)
        elif why != file.error:
            log.warning("file cannot be read", tail=file.reached.tail, path=file.at, reason=why)
        file.fail(why, unreadable=isinstance(error, OSError))

    def fail_unexpected(self, file: TrackedFile, error: Exception) -> None:
        """Stop reading a file after an unexpected exception; it is tried again when it is next modified."""
        log.exception(
            "unexpected error while reading a file, retrying when it changes",
            tail=file.reached.tail,
            path=file.at,
            error=str(error),
        )
        self._registry.deactivate(file)
        file.fail(f"unexpected: {type(error).__name__}: {error}", unreadable=file.unreadable)

    def due_s(self, now_s: float) -> float:
        """Return when something here is to be done; infinity if never."""
        due_s = [
            moment_s
            for file in self._held.values()
            for moment_s in file.remainder.due_s(self._wait_limits(file))
            if moment_s > now_s
        ]
        if self._leaving or self._registry.finished:
            due_s.append(self._housekeep_s)
        return min(due_s, default=float("inf"))

    def housekeep(self, now_s: float) -> bool:
        """Read lines that have waited long enough, let finished files leave, close what is not used.

        Returns True if there may be something to read now that could not be read before.
        """
        news = False
        for file in list(self._held.values()):
            if file.remainder.try_now(self._wait_limits(file), now_s):
                self._registry.activate(file)
                news = True
        if now_s >= self._close_s:
            self._close_s = now_s + _CLOSE_EVERY_S
            self._close_unused()
        if now_s < self._housekeep_s:
            return news
        self._housekeep_s = now_s + _HOUSEKEEP_EVERY_S
        for file in list(self._leaving.values()):
            self._let_leave(file, now_s)
        return self._saver.save_finished() or news

    def _wait_limits(self, file: TrackedFile) -> WaitLimits:
        """Return how long what is left of a file may wait for more."""
        if file.is_rotated:
            return WaitLimits(_ROTATED_GRACE_S, _ROTATED_GRACE_S)
        settings, rule = self._settings, self._settings.multiline
        grouped = rule.start is not None or rule.continuation is not None or settings.parse.container is not None
        group_s = rule.flush_after if grouped else 0.0 if settings.dedupe is not None else math.inf
        return WaitLimits(settings.partial_after or math.inf, group_s, settings.dedupe or 0.0)

    def _let_leave(self, file: TrackedFile, now_s: float) -> None:
        """Finish a rotated file that nobody writes to any more; its checkpoint says so while it is still there."""
        if file.number not in self._registry.files or file.is_finished:
            del self._leaving[file.number]
            return
        state = file.source.state() if file.source is not None else None
        if state is not None and state.st_size > file.reached.offset and state.st_size != file.observed.size:
            self._registry.activate(file)  # its writer goes on; of a file without a name nothing is told
            return
        quiet_s = now_s - (file.quiet_since_s or now_s)
        if file.in_flight or not file.is_drained or quiet_s < _QUIET_S or file.number in self._registry.active:
            return
        if state is not None and (state.st_nlink == 0 or not file.observed.named):
            if quiet_s >= _NAMELESS_S:
                self._registry.finish(file)
            return
        if not file.committed.finished:
            self._saver.save([file], [msgspec.structs.replace(file.reached, finished=True)])
        del self._leaving[file.number]
        file.close()

    def _close_unused(self) -> None:
        """Keep open what is read, and so many more."""
        idle = [file for file in self._registry.files.values() if file.source is not None and not file.is_drained
                and file.number not in self._registry.active]  # fmt: skip
        spare = len(idle) - self._settings.max_open
        if spare > 0:
            for file in sorted(idle, key=lambda one: one.used_s)[:spare]:
                file.close()
