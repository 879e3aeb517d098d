"""Saves checkpoints that no event moves: of files that were rotated, finished, skipped, found elsewhere, or lost.

The checkpoint on disk is compared before it is replaced. When it is not the one that was expected, an earlier save or
commit succeeded although it was said to have failed: the file goes on from what is on disk.
"""

from collections.abc import Sequence

import msgspec
import structlog

from sidecar.core.errors import Stale, Unavailable
from sidecar.core.model import Advance, Checkpoint
from sidecar.inputs.tail.counts import TailCounts
from sidecar.inputs.tail.messages import CommitPort
from sidecar.inputs.tail.registry import Registry
from sidecar.inputs.tail.tracked_file import TrackedFile

log = structlog.get_logger("inputs.tail")


class Saver:
    """Save checkpoints of one tail, from its thread. All methods raise what `CommitPort.save` does."""

    def __init__(self, queue: CommitPort, registry: Registry, counts: TailCounts) -> None:
        self._queue, self._registry, self._counts = queue, registry, counts
        self._started_ms = 0  # when the tail first ran, if that is in this run; else 0

    def save_start(self, now_ms: int) -> None:
        """Save where the files stand that were there before the first run."""
        self._started_ms = now_ms
        files = [file for file in self._registry.files.values() if file.reached.offset or file.reached.finished]
        self.save(files, [file.reached for file in files])

    def save_unsaved(self) -> None:
        """Save which files go on in other inodes, and what was lost."""
        files = [file for file in self._registry.unsaved.values() if not file.in_flight]
        if files:
            self.save(files, [file.reached for file in files])
        for file in files:
            del self._registry.unsaved[file.number]

    def save_finished(self) -> bool:
        """Save which files have ended, and let them leave. Returns True if there are any."""
        files = [
            file for file in self._registry.finished.values() if not file.in_flight and file.position.failed is None
        ]
        if files:
            self.save(files, [msgspec.structs.replace(file.reached, finished=True) for file in files])
        for file in files:
            file.close()
            self._registry.remove(file)
        return bool(files)

    def save(self, files: Sequence[TrackedFile], checkpoints: Sequence[Checkpoint]) -> None:
        """Save a checkpoint of each of `files`, of which nothing is in flight."""
        advances = [
            Advance(
                checkpoint=checkpoint,
                before=file.committed.offset if file.position.saved else None,
                losses=tuple(file.losses),
            )
            for file, checkpoint in zip(files, checkpoints, strict=True)
        ]
        try:
            self._queue.save(self._started_ms or 1, advances, self._registry.forget_old())
        except Stale as stale:
            self._catch_up(files, advances, stale.checkpoint)
            raise Unavailable(str(stale), retry_after_s=1) from None
        for file, advance in zip(files, advances, strict=True):
            file.save(advance)
            for loss in advance.losses:
                self._counts.lose()
                tell = log.warning if loss.reason.is_expected else log.error
                tell("bytes of a file may be lost", tail=loss.tail, path=loss.path, offset=loss.offset,
                     at_most="unknown" if loss.at_most is None else loss.at_most, reason=loss.why)  # fmt: skip

    def _catch_up(self, files: Sequence[TrackedFile], advances: Sequence[Advance], on_disk: Checkpoint | None) -> None:
        for file, advance in zip(files, advances, strict=True):
            if on_disk is None:
                file.position.forget_row()
            elif file.number == on_disk.number:
                if on_disk == advance.checkpoint:
                    file.drop_losses(len(advance.losses))
                file.rewind(on_disk)
                self._registry.activate(file)
