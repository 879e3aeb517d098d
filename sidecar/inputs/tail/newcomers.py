"""Takes in new files: what a path is whose inode no file of the tail has, and what was there before it.

What was rotated away between two looks is taken in before the new file, and read first. Where the path is a link, what
it leads to may have the name of a rotated file, and is none: the name alone does not tell.
"""

import contextlib
import os

import msgspec

from sidecar.config import Tail
from sidecar.core.errors import in_words
from sidecar.core.model import Checkpoint
from sidecar.inputs.tail.open_file import SUFFIXES, first_hole
from sidecar.inputs.tail.registry import Registry
from sidecar.inputs.tail.rotated_names import is_successor
from sidecar.inputs.tail.rotation import (
    Candidate,
    FirstRead,
    LookFor,
    NewFile,
    NewPath,
    decide_first_read,
    decide_new,
)
from sidecar.inputs.tail.scan import IgnoredFiles
from sidecar.inputs.tail.snapshot import (
    DirectorySnapshot,
    candidate,
    identity_of,
    is_short_of_blocks,
    origin_of,
    real_path_of,
    rewritten,
    since_ns_of,
    where_now,
)
from sidecar.inputs.tail.start_position import at_end_of, behind_hole, seen_beginning
from sidecar.inputs.tail.tracked_file import TrackedFile

_CLOCKS_DIFFER_MS = 1000
"""A file system's clock may be behind the system's by a little."""
_MOST_COPIES = 10_000


class LookTime(msgspec.Struct, frozen=True):
    """Say when a look is made, and since when nobody has looked. `is_first`: the tail never ran before."""

    now_s: float
    now_ms: int
    since_ms: int
    is_first: bool


class Newcomers:
    """Take files into the `registry`. Belongs to the thread of the tail."""

    def __init__(self, settings: Tail, registry: Registry, ignored: IgnoredFiles) -> None:
        self._settings, self._registry, self._ignored = settings, registry, ignored
        self._copies: set[tuple[int, int, int, int]] = set()  # plain copies of followed files: inode, size, last change

    def first_read(self, file: TrackedFile, now_ms: int) -> str:
        """Return whether a file, which is open, is a copy of another. Raises OSError or EOFError."""
        assert file.source is not None
        if file.is_original or file.reached.offset:
            return "original"
        state = file.source.state()
        seen = FirstRead(
            is_compressed=file.source.compressed,
            has_rotated_name=self._registry.may_be_rotated(file.path),
            size=state.st_size,
            age_ms=now_ms - state.st_mtime_ns // 1_000_000,
        )
        decision = decide_first_read(seen)
        if decision is LookFor.ORIGIN:
            origin = origin_of(candidate(file.at, state), self._registry.checkpoints(but=file.number))
            unsaved = self._unsaved(origin)
            if unsaved is not None:
                self._registry.mark_unsaved(unsaved)
                return "wait"
            decision = decide_first_read(msgspec.structs.replace(seen, has_origin=origin is not None))
        if decision == "original":
            file.accept_as_original()
        elif decision == "copy":
            file.leave_out()
            self._registry.finish(file)
        return str(decision)

    def try_to_meet(self, path: str, state: os.stat_result, snapshot: DirectorySnapshot, when: LookTime) -> None:
        """One file that cannot be read keeps no other from being followed."""
        try:
            self.meet(path, state, snapshot, when)
        except FileNotFoundError:
            return  # it was renamed meanwhile, which is told
        except (OSError, EOFError) as error:
            self._ignored.add(path, in_words(error) if isinstance(error, OSError) else str(error))

    def meet(
        self,
        path: str,
        state: os.stat_result,
        snapshot: DirectorySnapshot,
        when: LookTime,
        *,
        in_place: bool = False,
    ) -> None:
        """Take in a path whose inode nobody knows. Raises OSError or EOFError if it cannot be read."""
        before, identity = self._registry.newest_at(path), (state.st_dev, state.st_ino)
        at = real_path_of(path, identity)
        seen, kind = self._what_is_new(path, state, before, when, in_place=in_place)
        if kind is NewFile.SPARSE:
            self._ignored.add(path, f"a sparse file: there is a hole at byte {seen.hole}")
            return
        self._ignored.forget(path)
        if kind is NewFile.COPY:
            return
        if kind is NewFile.CONTINUED and before is not None:
            before.close()
            self._registry.relocate(before, candidate(path, state))
            before.observed.match(path)
            before.return_home()
            return
        start = self._start_of(kind, self._registry.blank(path, at, identity, when.now_ms), state)
        if kind is NewFile.AT_BEGINNING and state.st_size and not seen.is_compressed and not start.head_bytes:
            # It was emptied since it was looked at. A copy of what was in it may be newer than the snapshot, too.
            snapshot, state = DirectorySnapshot(self._settings.rotated), os.stat(path)
        made = TrackedFile(start, saved=False)
        if when.is_first and not seen.is_compressed:
            made.accept_as_original()
        if start.finished or before is not None or start.at != path:
            # Else a crash would forget it, once what was there before it is read, or the link leads somewhere else.
            self._registry.mark_unsaved(made)
        if before is not None:
            self.insert_between(before, snapshot, since_ns_of(before), when, but=identity)
            made.wait_for(self._registry.newest_at(path))
        elif not when.is_first and not start.finished:
            made.wait_for(self.insert_before(path, start, snapshot, when, but=identity))
        made.observed.match(path)
        self._registry.add(made)
        made.note(state.st_size, state.st_mtime_ns, when.now_s, when.now_ms)
        if not start.finished:
            self._registry.activate(made)

    def _what_is_new(
        self, path: str, state: os.stat_result, before: TrackedFile | None, when: LookTime, *, in_place: bool
    ) -> tuple[NewPath, NewFile]:
        """Look until it is decided what is at `path`."""
        seen = NewPath(
            is_compressed=path.endswith(SUFFIXES),
            hole=first_hole(path, state.st_size) if is_short_of_blocks(state) else None,
            in_place=in_place,
            is_first_look=when.is_first,
            start_at_end=self._settings.start_at == "end",
        )
        one = candidate(path, state)
        while isinstance(kind := decide_new(seen), LookFor):
            match kind:
                case LookFor.COPY:
                    seen = msgspec.structs.replace(seen, is_copy=self._is_plain_copy(one))
                case LookFor.CONTINUED:
                    goes_on = before is not None and not before.in_flight and rewritten(before.reached) is not None
                    seen = msgspec.structs.replace(seen, is_continued=goes_on)
                case _:
                    origin = self._origin_of(one)
                    has_origin = origin is not None and self._unsaved(origin) is None
                    seen = msgspec.structs.replace(seen, has_origin=has_origin)
        return seen, kind

    def _start_of(self, kind: NewFile, blank: Checkpoint, state: os.stat_result) -> Checkpoint:
        """Return where the reading of a new file begins. Raises OSError or EOFError."""
        match kind:
            case NewFile.LEFT_OUT:
                return msgspec.structs.replace(seen_beginning(blank), finished=True)
            case NewFile.BEHIND_HOLE:
                return behind_hole(blank)
            case NewFile.AT_END:
                return at_end_of(blank, self._settings.max_line, self._settings.encoding, self._settings.line_end)
        return seen_beginning(blank) if state.st_size and not blank.path.endswith(SUFFIXES) else blank

    def insert_between(
        self,
        file: TrackedFile,
        snapshot: DirectorySnapshot,
        since_ns: int,
        when: LookTime,
        but: tuple[int, int] | None = None,
    ) -> bool:
        """Insert files that came to its path after it, and were rotated away before anybody looked.

        `but`: what a look has met there, which is no rotated one, even if it is by now. Returns True if there are any.
        """
        last, here = file, (but, identity_of(file.path))
        for one in snapshot.successors(file.reached, since_ns):
            if one.identity in here or not self._is_new(one):
                continue
            waiting = [other for other in self._registry.files.values() if other.after is last]
            last = self._insert(file.path, one, last, when)
            for other in waiting:
                other.wait_for(last)
        return last is not file

    def insert_before(
        self,
        path: str,
        new: Checkpoint,
        snapshot: DirectorySnapshot,
        when: LookTime,
        but: tuple[int, int] | None = None,
    ) -> TrackedFile | None:
        """Insert files that were at the path of a new one, if they came, and were rotated away, since the last look.

        `but`: as for `insert_between`. Returns the newest of them.
        """
        last, here = None, (but, identity_of(path))
        for one in snapshot.successors(new, (when.since_ms - _CLOCKS_DIFFER_MS) * 1_000_000):
            if one.identity not in here and self._is_new(one):
                last = self._insert(path, one, last, when)
        return last

    def insert_after_newest(self, path: str, one: Candidate, when: LookTime) -> None:
        """Insert a file that was at `path` behind those that are rotated away, and not behind what is there now."""
        newest = self._registry.newest_at(path)
        self._insert(path, one, newest if newest is not None and newest.is_rotated else None, when)

    def _insert(self, path: str, one: Candidate, after: TrackedFile | None, when: LookTime) -> TrackedFile:
        """Take in a file that was at `path`, and is already rotated away."""
        start = self._registry.blank(path, one.path, one.identity, when.now_ms)
        with contextlib.suppress(FileNotFoundError):  # gone, or renamed once more
            start = msgspec.structs.replace(start, at=where_now(one))
            start = seen_beginning(start)
        made = TrackedFile(start, saved=False, rotated=True, after=after)
        made.note(one.size, one.modified_ns, when.now_s, when.now_ms)
        self._registry.add(made)
        self._registry.activate(made)
        self._registry.mark_unsaved(made)  # it is older than what is read before it will have been seen
        return made

    def _is_new(self, one: Candidate) -> bool:
        """Return whether it neither is, nor was, a file of the tail, and is no copy of what is or was."""
        was_here = self._registry.was_here(one.identity, one.path, one.modified_ns)
        return not was_here and self._origin_of(one) is None

    def _origin_of(self, one: Candidate) -> Checkpoint | None:
        """Return of which file it is a copy; of one that cannot be read, that shows once it can be."""
        try:
            return origin_of(one, self._registry.checkpoints())
        except (OSError, EOFError):
            return None

    def _unsaved(self, origin: Checkpoint | None) -> TrackedFile | None:
        """Return a file if it is not on disk yet: a crash would forget it, and know only that there was a copy."""
        file = None if origin is None else self._registry.files.get(origin.number)
        return None if file is None or file.position.saved else file

    def _is_plain_copy(self, one: Candidate) -> bool:
        """Return whether it is a copy of a file that is followed, and is, or will be, truncated."""
        key = (*one.identity, one.size, one.modified_ns)
        if key not in self._copies:
            if not self._registry.may_be_rotated(one.path):
                return False
            origin = self._origin_of(one)
            name = os.path.basename(one.path)
            if origin is None or not any(is_successor(path, name) for path in (origin.path, origin.at)):
                return False
            if len(self._copies) > _MOST_COPIES:
                self._copies.clear()
            self._copies.add(key)
        return True
