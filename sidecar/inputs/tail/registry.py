"""The register of a tail's files: which number, inode and path is whose, what is to be read, and what to be saved."""

import contextlib
import errno
import os
from collections.abc import Collection, Iterable
from typing import Literal

import msgspec

from sidecar.core.model import Checkpoint
from sidecar.inputs.tail.fingerprint import HEAD_BYTES, digest
from sidecar.inputs.tail.open_file import open_source
from sidecar.inputs.tail.rotated_files import Candidate, is_it, where_now
from sidecar.inputs.tail.rotated_names import bases_of, is_related, is_successor
from sidecar.inputs.tail.start_position import seen_beginning
from sidecar.inputs.tail.tracked_file import TailedFile, look_at

_KEPT_MS = 7 * 86_400_000
_MOST_KEPT = 10_000
"""Of files that are finished and gone, so that a copy of one is known when it turns up."""

_MOST_COPIES = 10_000
_BEING_COPIED_MS = 2000
"""A small file with the name of a rotated one, written to so lately, may be a copy that is not whole yet."""


class Registry:
    """`active` are the files that may have something to read: whoever reads one to its end takes it out. `ended` will
    not be read any more, `unsaved` have something to be put on disk, `gone` were there once."""

    def __init__(self, tail: str, checkpoints: Iterable[Checkpoint]) -> None:
        self.files: dict[int, TailedFile] = {}
        self.active: dict[int, TailedFile] = {}
        self.ended: dict[int, TailedFile] = {}
        self.unsaved: dict[int, TailedFile] = {}
        self.gone: list[Checkpoint] = []
        self.by_identity: dict[tuple[int, int], TailedFile] = {}
        self.by_path: dict[str, TailedFile] = {}
        self._by_slot: dict[str, dict[int, TailedFile]] = {}
        self._had: set[tuple[int, int, str, int]] = set()
        self._copies: set[tuple[int, int, int, int]] = set()
        self._bases: set[str] = set()
        self._tail = tail
        self._next = 1
        for checkpoint in checkpoints:
            self._next = max(self._next, checkpoint.number + 1)
            self.add(TailedFile(checkpoint, saved=True))

    def add(self, file: TailedFile) -> None:
        self.files[file.number] = file
        self._bases.add(os.path.basename(file.path))
        self._by_slot.setdefault(file.path, {})[file.number] = file
        self.by_identity[file.identity] = file
        self.by_path[file.at] = file
        if file.shown is not None:
            self.by_path[file.shown] = file

    def touched(self, path: str) -> None:
        """Something was written there."""
        file = self.by_path.get(path)
        if file is not None:
            file.touched = True
            self.active[file.number] = file

    def new(self, path: str, at: str, state: os.stat_result, now_ms: int) -> TailedFile:
        """Return a file that was found `path`, and really is `at`; not in the register yet."""
        checkpoint = Checkpoint(
            tail=self._tail,
            number=self._next,
            path=path,
            at=at,
            device=state.st_dev,
            inode=state.st_ino,
            seen_ms=now_ms,
        )
        self._next += 1
        return TailedFile(checkpoint, saved=False)

    def insert(self, path: str, one: Candidate, after: TailedFile | None, now_ms: int) -> TailedFile:
        """Return a file that was at `path`, and is already rotated away."""
        made = self.new(path, one.path, one.state, now_ms)
        made.superseded, made.after = True, after
        with contextlib.suppress(FileNotFoundError):  # gone, or renamed once more
            made.is_at(where_now(one))
            made.reached = seen_beginning(made.reached)
        made.note(one.state, 0.0, now_ms)
        self.add(made)
        self.active[made.number] = made
        return made

    def newest_at(self, path: str) -> TailedFile | None:
        """Return the newest file that was at `path` before."""
        return next(reversed(self._by_slot.get(path, {}).values()), None)

    def is_new(self, one: Candidate) -> bool:
        """Return whether it neither is, nor was, in the register, and is no copy of what is or was."""
        had = one.identity in self.by_identity or (*one.identity, one.path, one.state.st_mtime_ns) in self._had
        return not had and self.origin_of(one) is None

    def origin_of(self, one: Candidate) -> Checkpoint | None:
        """Of which known file it is a copy, if of any. Of one that cannot be read, that shows once it can be."""
        try:
            return self._origin_of(one)
        except (OSError, EOFError):
            return None

    def copied(self, file: TailedFile, now_ms: int) -> Literal["yes", "no", "perhaps"]:
        """Return whether a file, which is open, is a copy of another, if nothing was taken of it yet.

        Of a compressed one that shows once it can be read; another may still be written. Raises OSError or EOFError.
        """
        assert file.source is not None
        if file.is_no_copy or file.reached.offset:
            return "no"
        if not file.source.compressed and not self.may_be_rotated(file.path):
            file.is_no_copy = True
            return "no"
        state = file.source.state()
        young = now_ms - state.st_mtime_ns // 1_000_000 < _BEING_COPIED_MS
        if not file.source.compressed and state.st_size < HEAD_BYTES and young:
            return "perhaps"
        if self._origin_of(Candidate(file.at, state), but=file.number) is not None:
            return "yes"
        file.is_no_copy = True
        return "no"

    def _origin_of(self, one: Candidate, but: int = 0) -> Checkpoint | None:
        name = os.path.basename(one.path)
        known = [
            checkpoint
            for checkpoint in (*(file.reached for file in self.files.values()), *self.gone)
            if checkpoint.number != but
            and checkpoint.head_bytes
            and (is_related(checkpoint.path, name) or checkpoint.path == one.path)
        ]
        begins = _beginnings(one.path, {checkpoint.head_bytes for checkpoint in known})
        alike = [checkpoint for checkpoint in known if begins.get(checkpoint.head_bytes) == checkpoint.head]
        found = next((each for each in alike if _is_copy(one.path, each)), None)
        now = os.stat(one.path)
        if (now.st_dev, now.st_ino) != one.identity:  # it was renamed, and what was looked into may be another
            raise FileNotFoundError(errno.ENOENT, "renamed meanwhile", one.path)
        return found

    def may_be_rotated(self, path: str) -> bool:
        """Return whether the name is that of a rotated file of some that is, or was, followed."""
        return not self._bases.isdisjoint(bases_of(os.path.basename(path)))

    def is_plain_copy(self, one: Candidate) -> bool:
        """Of a file that is followed, and is, or will be, truncated; what is not read of it is found there then."""
        key = (*one.identity, one.state.st_size, one.state.st_mtime_ns)
        if key not in self._copies:
            if not self.may_be_rotated(one.path):
                return False
            origin = self.origin_of(one)
            if origin is None or not is_successor(origin.path, os.path.basename(one.path)):
                return False
            if len(self._copies) > _MOST_COPIES:
                self._copies.clear()
            self._copies.add(key)
        return True

    def is_behind(self, file: TailedFile) -> bool:
        """Return whether another file must be read before it."""
        before = file.after
        if before is None or before.number not in self.files or before.drained or before.unreadable:
            file.after = None
            return False
        file.see()
        self.active.setdefault(before.number, before)
        return True

    def is_known_as(self, file: TailedFile) -> bool:
        """Return whether its inode counts as its own."""
        return self.by_identity.get(file.identity) is file

    def is_taken(self, one: Candidate, file: TailedFile) -> bool:
        """Whether another than `file` goes on there; a claim to an inode that was used again meanwhile is none."""
        claimer = self.by_identity.get(one.identity)
        if claimer is file:
            return False
        if claimer is not None and not claimer.reached.offset and not claimer.in_flight:
            # It was left out, or not read yet, as a copy of a file that is gone now, and may not be read to its end.
            self.unclaim(claimer)
            self.end(claimer)
            return False
        if claimer is None or claimer.source is not None or is_it(one.path, claimer.reached):
            return claimer is not None
        self.unclaim(claimer)
        return False

    def unclaim(self, file: TailedFile) -> None:
        """Its inode is another file's now, or may be any time."""
        if self.is_known_as(file):
            del self.by_identity[file.identity]

    def relocate(self, file: TailedFile, there: Candidate) -> None:
        """It goes on in another inode; that is to be saved before anything else is read, lest its own is used again."""
        self.unclaim(file)
        file.is_at(there.path, there.state)
        file.noted, file.shrunk_from, file.is_no_copy = False, 0, True  # it goes on in one
        self.by_identity[there.identity] = file
        self.active[file.number] = self.unsaved[file.number] = file

    def end(self, file: TailedFile) -> None:
        """Nothing more will be read of it; its checkpoint is still to be saved."""
        file.ended = True
        self.active.pop(file.number, None)
        self.ended[file.number] = file

    def leave_out(self, file: TailedFile) -> None:
        """It is a copy; what may still have to be read of it is for the file that it is a copy of."""
        file.reached = msgspec.structs.replace(file.reached, finished=True)
        self.end(file)

    def finish(self, file: TailedFile) -> None:
        """It was read to its end, and will not be looked at again; its checkpoint stays, to know copies of it."""
        file.close()
        self.files.pop(file.number, None)
        self.active.pop(file.number, None)
        self.ended.pop(file.number, None)
        self.unclaim(file)
        for path in (file.at, file.path):
            if self.by_path.get(path) is file:
                del self.by_path[path]
        self._by_slot[file.path].pop(file.number, None)
        if not self._by_slot[file.path]:
            del self._by_slot[file.path]
        self.gone.append(file.committed)
        self._had.add((*file.identity, file.at, file.modified_ns))

    def forgettable(self) -> list[int]:
        """Numbers of checkpoints of files that have been gone for long."""
        newest_ms = max((one.seen_ms for one in self.gone), default=0)
        keep = [one for one in self.gone if newest_ms - one.seen_ms < _KEPT_MS][-_MOST_KEPT:]
        kept = {one.number for one in keep}
        forget = [one.number for one in self.gone if one.number not in kept]
        self.gone = keep
        if len(self._had) > _MOST_KEPT:
            self._had.clear()
        return forget


def _beginnings(path: str, sizes: Collection[int]) -> dict[int, bytes]:
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
