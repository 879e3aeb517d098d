"""Indexes the files of a tail: by number, inode and path; which may have something to read, and which to be saved."""

import os
from collections.abc import Collection, Iterable, Iterator

from sidecar.core.model import Checkpoint
from sidecar.inputs.tail.rotated_names import bases_of
from sidecar.inputs.tail.rotation import Candidate, Claim
from sidecar.inputs.tail.tracked_file import TrackedFile

_KEPT_MS = 7 * 86_400_000
_MOST_KEPT = 10_000
"""Of files that are finished and gone, so that a copy of one is known when it turns up."""


class Registry:
    """Hold the files of one tail. Belongs to its thread; other threads may read `files`."""

    def __init__(self, tail: str, checkpoints: Iterable[Checkpoint], boot: str) -> None:
        """`boot` names the present boot of the host; "" if nobody knows."""
        self.boot = boot
        self.files: dict[int, TrackedFile] = {}  # all of them, by number
        self.active: dict[int, TrackedFile] = {}  # may have something to read; who reads one to its end takes it out
        self.finished: dict[int, TrackedFile] = {}  # will not be read any more; that is still to be saved
        self.unsaved: dict[int, TrackedFile] = {}  # have something to be put on disk that no event moves
        self.gone: list[Checkpoint] = []  # of files that left, the oldest first
        self._by_identity: dict[tuple[int, int], TrackedFile] = {}  # whose an inode is
        self._by_path: dict[str, TrackedFile] = {}  # whose name a path is, as of the last look
        self._by_slot: dict[str, dict[int, TrackedFile]] = {}  # which were at a path of the patterns, the oldest first
        self._had: set[tuple[int, int, str, int]] = set()  # inode, path and last change of those that left
        self._bases: set[str] = set()  # the names of all that were ever here
        self._tail = tail
        self.next_number = 1
        for checkpoint in checkpoints:
            self.next_number = max(self.next_number, checkpoint.number + 1)
            other = bool(boot and checkpoint.boot and checkpoint.boot != boot)
            self.add(TrackedFile(checkpoint, saved=True, from_other_boot=other))

    def blank(self, path: str, at: str, identity: tuple[int, int], now_ms: int) -> Checkpoint:
        """Return the checkpoint of a file that was found at `path`, and really is `at`; nothing of it is read."""
        number, self.next_number = self.next_number, self.next_number + 1
        return Checkpoint(
            tail=self._tail, number=number, path=path, at=at, device=identity[0], inode=identity[1], seen_ms=now_ms,
            boot=self.boot,
        )  # fmt: skip

    def add(self, file: TrackedFile) -> None:
        """Take a file in; its inode counts as its own."""
        self.files[file.number] = file
        self._bases |= {os.path.basename(file.path), os.path.basename(file.at)}
        self._by_slot.setdefault(file.path, {})[file.number] = file
        self._by_identity[file.identity] = file
        self._by_path[file.at] = file
        if file.observed.matched_path is not None:
            self._by_path[file.observed.matched_path] = file

    def activate(self, file: TrackedFile) -> None:
        """Let it be read: there may be something."""
        self.active[file.number] = file
        if not file.is_finished:
            self.finished.pop(file.number, None)

    def deactivate(self, file: TrackedFile) -> None:
        """Let it rest until something is told of it."""
        self.active.pop(file.number, None)

    def mark_unsaved(self, file: TrackedFile) -> None:
        """Let its checkpoint be put on disk before anything else is read."""
        self.unsaved[file.number] = file

    def finish(self, file: TrackedFile) -> None:
        """Let nothing more be read of a file; it leaves once that is on disk."""
        file.finish()
        self.active.pop(file.number, None)
        self.finished[file.number] = file

    def unclaim(self, file: TrackedFile) -> None:
        """Let its inode be another file's, now or any time."""
        if self.owns_inode(file):
            del self._by_identity[file.identity]

    def relocate(self, file: TrackedFile, there: Candidate) -> None:
        """Let a file go on in another inode, by `there.claim` also in one that another file had.

        That is saved before anything else is read, lest the old inode is used again.
        """
        owner = self._by_identity.get(there.identity)
        if there.claim in (Claim.IDLE, Claim.STALE) and owner is not None:
            self.unclaim(owner)
            if there.claim is Claim.IDLE:
                self.finish(owner)
        self.unclaim(file)
        file.continue_in(there.path, there.identity)
        self._by_identity[there.identity] = file
        self.activate(file)
        self.mark_unsaved(file)

    def owns_inode(self, file: TrackedFile) -> bool:
        """Return True if its inode counts as its own."""
        return self._by_identity.get(file.identity) is file

    def owner_of(self, identity: tuple[int, int]) -> TrackedFile | None:
        """Return the file whose inode it is; None if it is nobody's."""
        return self._by_identity.get(identity)

    def at_path(self, path: str) -> TrackedFile | None:
        """Return the file that was there at the last look."""
        return self._by_path.get(path)

    def newest_at(self, path: str) -> TrackedFile | None:
        """Return the newest file that was at `path` of the patterns."""
        return next(reversed(self._by_slot.get(path, {}).values()), None)

    def was_here(self, identity: tuple[int, int], path: str, modified_ns: int) -> bool:
        """Return True if it is, or was, a file of the tail."""
        return identity in self._by_identity or (*identity, path, modified_ns) in self._had

    def knows_inode(self, identity: tuple[int, int]) -> bool:
        """Return True if the inode is, or lately was, that of a file of the tail."""
        return identity in self._by_identity or any((one.device, one.inode) == identity for one in self.gone)

    def was_read(self, one: Candidate) -> bool:
        """Return True if it was a file of the tail, is still where it was, and was read."""
        return any(
            (gone.device, gone.inode) == one.identity and gone.at == one.path and gone.offset for gone in self.gone
        )

    def may_be_rotated(self, path: str) -> bool:
        """Return True if the name is that of a rotated file of some that is, or was, followed."""
        return not self._bases.isdisjoint(bases_of(os.path.basename(path)))

    def checkpoints(self, but: int = 0) -> Iterator[Checkpoint]:
        """Return how far all files were read, also those that left; not that with the number `but`."""
        yield from (file.reached for file in self.files.values() if file.number != but)
        yield from (checkpoint for checkpoint in self.gone if checkpoint.number != but)

    def reindex_paths(self) -> Collection[str]:
        """Index the files by the paths they are at after a look; return these paths."""
        self._by_path = {file.at: file for file in self.files.values()}
        self._by_path |= {file.path: file for file in self.files.values() if file.observed.matched_path == file.path}
        return self._by_path.keys()

    def remove(self, file: TrackedFile) -> None:
        """Let a finished file go; its checkpoint stays for a while, so that copies of it are known."""
        for index in (self.files, self.active, self.finished):
            index.pop(file.number, None)
        self.unclaim(file)
        for path in (file.at, file.path):
            if self._by_path.get(path) is file:
                del self._by_path[path]
        self._by_slot[file.path].pop(file.number, None)
        if not self._by_slot[file.path]:
            del self._by_slot[file.path]
        self.gone.append(file.committed)
        self._had.add((*file.identity, file.at, file.observed.modified_ns))

    def forget_old(self) -> list[int]:
        """Forget files that have been gone for long; return the numbers of their checkpoints."""
        newest_ms = max((one.seen_ms for one in self.gone), default=0)
        keep = [one for one in self.gone if newest_ms - one.seen_ms < _KEPT_MS][-_MOST_KEPT:]
        kept = {one.number for one in keep}
        forget = [one.number for one in self.gone if one.number not in kept]
        self.gone = keep
        if len(self._had) > _MOST_KEPT:
            self._had.clear()
        return forget
