"""What becomes of files that are read to their end, do not go on as they did, or are gone; and what is saved of that.

A file that was rotated away is drained once all of it is handed over: what came after it may then be read. It is looked
at as long as it exists, since its writer may not have noticed; it is finished when it is gone, or was compressed.
"""

import os
from collections.abc import Callable, Iterable

import msgspec
import structlog

from sidecar.config import Tail
from sidecar.core.errors import Stale, Unavailable
from sidecar.core.model import Advance, Checkpoint
from sidecar.inputs.tail import losses
from sidecar.inputs.tail.commands import Action, target
from sidecar.inputs.tail.counts import TailCounts
from sidecar.inputs.tail.messages import CommitPort
from sidecar.inputs.tail.reading import NothingRead
from sidecar.inputs.tail.rotated_files import Candidate
from sidecar.inputs.tail.tracked_file import Changed, TailedFile
from sidecar.inputs.tail.tracker import Tracker

_ROTATED_GRACE_S = 1.0
"""A line without an end in a file that was rotated away is whole after so long."""
_QUIET_S = 5.0
"""A file that was rotated away counts as finished after so long without growth; it is looked at nevertheless."""
_NAMELESS_S = 30.0
"""A file of which nobody knows the name any more is kept open so long without growth."""
_TEND_EVERY_S = 0.5
_CLOSE_EVERY_S = 5.0
_DAMAGED_AFTER_MS = 60_000
_TRUNCATED = {"truncated": "the file was truncated", "replaced": "the file was overwritten, or its inode used again"}
log = structlog.get_logger("inputs.tail")


class EndOfFile:
    """For the thread of one tail. `look_again` asks for a look at everything."""

    def __init__(
        self,
        settings: Tail,
        following: Tracker,
        queue: CommitPort,
        counts: TailCounts,
        look_again: Callable[[], None],
    ) -> None:
        self._settings, self._following, self._queue, self._counts = settings, following, queue, counts
        self._look_again = look_again
        self._register = following.register
        self._held: dict[int, TailedFile] = {}
        self._leaving: dict[int, TailedFile] = {}
        self._tend_s = self._close_s = 0.0
        self._started_ms = 0

    def final(self, file: TailedFile, now_s: float) -> tuple[bool, bool]:
        """Return whether a line without an end, and an open group, will not go on."""
        if file.source is not None and file.source.compressed:
            return True, True
        if file.held_since_s is None:
            return False, False
        waited_s = now_s - file.held_since_s
        line_s, group_s = self._patience_s(file)
        return waited_s >= line_s, waited_s >= group_s

    def at_end(self, file: TailedFile, nothing: NothingRead, now_s: float, now_ms: int) -> bool:
        """There is nothing more to read of it now; whether that is all there is to say."""
        assert file.source is not None
        state = file.source.state()
        if file.source.compressed:
            file.size = file.reached.offset
            self._register.end(file)
            return True
        if state.st_size < file.reached.offset:
            self.changed(file, now_s, now_ms)
            return False
        if file.note(state, now_s, now_ms) or file.quiet_since_s is None:
            file.quiet_since_s = now_s
        if file.shrunk_from:
            self.changed(file, now_s, now_ms)
            return False
        if nothing.left:
            end = file.reached.offset + nothing.left
            if file.held_since_s is None or end != file.held_to:
                file.held_since_s, file.held_to = now_s, end
            self._held[file.number] = file
        else:
            file.held_since_s = None
            self._held.pop(file.number, None)
        file.caught_up_ms, file.touched, file.begins_as_before = now_ms, False, False
        file.superseded |= state.st_nlink == 0
        file.drained = file.superseded and not nothing.left
        if file.superseded:
            self._leaving[file.number] = file
        return True

    def changed(self, file: TailedFile, now_s: float, now_ms: int) -> bool:
        """It does not go on as it did. Whether there is something else to read now."""
        if file.in_flight:
            return False  # how far it was read is known once that is on disk
        try:
            verdict = file.verdict()
            if verdict == "follow" and file.shrunk_from and not file.reached.offset:
                verdict = "truncated"
            if verdict in ("truncated", "replaced"):
                self._following.restarted(file, _TRUNCATED[verdict], now_s, now_ms)
                return True
            if verdict == "follow" and file.shrunk_from:
                self._following.lose(file, "the end of the file was cut off", now_ms)
                file.shrunk_from = 0
            elif verdict == "reopen":
                self._register.relocate(file, Candidate(file.at, os.stat(file.at)))
            elif verdict != "follow":
                self._look_again()
        except OSError:
            self._look_again()
        return False

    def failed(self, file: TailedFile, error: OSError | EOFError, now_ms: int) -> None:
        """It could not be read."""
        why = f"damaged: {error}" if isinstance(error, EOFError) else str(error.strerror or error)
        if isinstance(error, FileNotFoundError):
            self._look_again()
        elif isinstance(error, EOFError) and now_ms - file.modified_ms() > _DAMAGED_AFTER_MS and not file.in_flight:
            self._following.lose(file, why, now_ms)
            self._register.end(file)
        elif why != file.why:
            log.warning("file cannot be read", tail=file.reached.tail, path=file.at, reason=why)
        file.why, file.unreadable = why, isinstance(error, OSError)
        file.close()

    def puzzled(self, file: TailedFile, error: Exception) -> None:
        """It cannot be read, and nobody knows why; it is tried again when it changes."""
        log.exception(
            "unexpected error while reading a file, retrying when it changes",
            tail=file.reached.tail,
            path=file.at,
            error=str(error),
        )
        file.why = f"unexpected: {type(error).__name__}: {error}"
        self._register.active.pop(file.number, None)
        file.close()

    def due_s(self, now_s: float) -> float:
        """Return when something here is to be done."""
        due_s = [file.held_since_s + wait_s
                 for file in self._held.values() if file.held_since_s is not None
                 for wait_s in self._patience_s(file) if file.held_since_s + wait_s > now_s]  # fmt: skip
        if self._leaving or self._register.ended:
            due_s.append(self._tend_s)
        return min(due_s, default=float("inf"))

    def tend(self, now_s: float) -> bool:
        """Take up lines that have waited long enough, finish what has ended, close what is not used.

        Whether there may be something to read now that could not be read before.
        """
        news = False
        for file in list(self._held.values()):
            if any(self.final(file, now_s)) and file.final_tried_s != file.held_since_s:
                file.final_tried_s = file.held_since_s if all(self.final(file, now_s)) else None
                self._register.active[file.number] = file
                news = True
        if now_s >= self._close_s:
            self._close_s = now_s + _CLOSE_EVERY_S
            self._close_unused()
        if now_s < self._tend_s:
            return news
        self._tend_s = now_s + _TEND_EVERY_S
        for file in list(self._leaving.values()):
            self._tend_leaving(file, now_s)
        ended = [file for file in self._register.ended.values() if not file.in_flight and file.failed is None]
        if ended:
            self._finish(ended)
        return news or bool(ended)

    def save_start(self, now_ms: int) -> None:
        """Put on disk where the files stand that were there before the first run. Raises what `Queue.save` does."""
        self._started_ms = now_ms
        files = [file for file in self._register.files.values() if file.reached.offset or file.reached.finished]
        self._save(files, [self._advance(file, file.reached) for file in files])

    def save_unsaved(self) -> None:
        """Put on disk which files go on in other inodes, and what was lost. Raises what `Queue.save` does."""
        files = [file for file in self._register.unsaved.values() if not file.in_flight]
        if files:
            self._save(files, [self._advance(file, file.reached) for file in files])
        for file in files:
            del self._register.unsaved[file.number]

    def move(self, files: Iterable[TailedFile], action: Action, now_ms: int) -> int:
        """Read files anew, or not what is there of them now; how many. Raises what `Queue.save` does."""
        moved, advances = [], []
        for file in files:
            try:
                there = target(file, action, self._settings.max_line, self._settings.encoding)
            except (OSError, EOFError, Changed) as error:
                why = str(error) or "it is not where it was"
                log.warning("reset or skip of a file failed", tail=file.reached.tail, path=file.at, reason=why)
                self._look_again()
                continue
            if action == "skip" and there != file.committed:
                file.losses.append(losses.skipped(file, there, now_ms))
            advances.append(self._advance(file, there))
            moved.append(file)
        self._save(moved, advances)
        for file in moved:
            file.rewind()
            file.held_since_s = None
            self._register.active[file.number] = file
        return len(moved)

    def _patience_s(self, file: TailedFile) -> tuple[float, float]:
        """Return how long a line without an end, and an open group, may wait for more."""
        if file.superseded:
            return _ROTATED_GRACE_S, _ROTATED_GRACE_S
        rule = self._settings.multiline
        grouped = rule.start is not None or rule.continuation is not None
        return self._settings.partial_after or float("inf"), rule.flush_after if grouped else float("inf")

    def _tend_leaving(self, file: TailedFile, now_s: float) -> None:
        if file.number not in self._register.files or file.ended:
            del self._leaving[file.number]
            return
        state = file.source.state() if file.source is not None else None
        if state is not None and state.st_size > file.reached.offset and state.st_size != file.size:
            self._register.active[file.number] = file  # its writer goes on; of a file without a name nothing is told
            return
        quiet_s = now_s - (file.quiet_since_s or now_s)
        if file.in_flight or not file.drained or quiet_s < _QUIET_S or file.number in self._register.active:
            return
        if state is not None and (state.st_nlink == 0 or not file.located):
            if quiet_s >= _NAMELESS_S:
                self._register.end(file)
            return
        if not file.committed.finished:
            done = msgspec.structs.replace(file.reached, finished=True)
            self._save([file], [self._advance(file, done)])
        del self._leaving[file.number]
        file.close()

    def _finish(self, files: list[TailedFile]) -> None:
        self._save(
            files,
            [self._advance(file, msgspec.structs.replace(file.reached, finished=True)) for file in files],
        )
        for file in files:
            self._register.finish(file)

    def _advance(self, file: TailedFile, checkpoint: Checkpoint) -> Advance:
        before = file.committed.offset if file.saved else None
        return Advance(checkpoint=checkpoint, before=before, losses=tuple(file.losses))

    def _save(self, files: list[TailedFile], advances: list[Advance]) -> None:
        """Of files of which nothing is on its way to the disk. Raises what `Queue.save` does."""
        try:
            self._queue.save(self._started_ms or 1, advances, self._register.forgettable())
        except Stale as stale:  # something was saved after all, when it seemed not to be
            self._catch_up(files, advances, stale.checkpoint)
            raise Unavailable(str(stale), retry_after_s=1) from None
        for file, advance in zip(files, advances, strict=True):
            file.committed = file.reached = advance.checkpoint
            file.saved = file.expected = True
            del file.losses[: len(advance.losses)]
            for loss in advance.losses:
                self._counts.losses += 1
                tell = log.warning if loss.reason.is_expected else log.error
                tell("bytes of a file may be lost", tail=loss.tail, path=loss.path, offset=loss.offset,
                     at_most="unknown" if loss.at_most is None else loss.at_most, reason=loss.why)  # fmt: skip

    def _catch_up(self, files: list[TailedFile], advances: list[Advance], on_disk: Checkpoint | None) -> None:
        for file, advance in zip(files, advances, strict=True):
            if on_disk is None:
                file.saved = file.expected = False
            elif file.number == on_disk.number:
                if on_disk == advance.checkpoint:
                    del file.losses[: len(advance.losses)]
                file.rewind(on_disk)
                self._register.active[file.number] = file

    def _close_unused(self) -> None:
        """Keep open what is read, and so many more."""
        idle = [file for file in self._register.files.values() if file.source is not None and not file.drained
                and file.number not in self._register.active]  # fmt: skip
        spare = len(idle) - self._settings.max_open
        if spare > 0:
            for file in sorted(idle, key=lambda one: one.used_s)[:spare]:
                file.close()
