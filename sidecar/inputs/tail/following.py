"""The files of one tail: which there are, which is which, and in what order they are read.

    what the patterns match ─┬─ known by its inode ───> goes on
                             └─ unknown ──────────────> new; behind what was at its path before
    what is not found ───────┬─ open, or renamed ─────> read to its end
                             ├─ copied or compressed ─> found by content, read on there
                             └─ nowhere ──────────────> a receipt for what may be lost

It looks at names and inodes; what a file holds is judged when it is read.
"""

import math
import os
from collections.abc import Iterable, Iterator

import msgspec
import structlog

from sidecar.config import Tail
from sidecar.inputs.tail.discovery import Found, discover
from sidecar.inputs.tail.families import is_related
from sidecar.inputs.tail.files import TailedFile, at_end_of, behind_hole, look_at
from sidecar.inputs.tail.identity import Look, digest
from sidecar.inputs.tail.sources import SUFFIXES, first_hole
from sidecar.inputs.tail.successors import Candidate, Neighbours
from sidecar.model import Checkpoint, Loss

_KEPT_MS = 7 * 86_400_000
_MOST_KEPT = 10_000
"""Of files that are finished and gone, so that a copy of one is known when it turns up."""
_MOST_TOLD = 20
_CLOCKS_DIFFER_MS = 1000
"""A file system's clock may be behind the system's by a little."""
log = structlog.get_logger("inputs.tail")


class Following:
    """`active` are the files that may have something to read; whoever reads one to its end takes it out."""

    def __init__(self, name: str, settings: Tail, known: tuple[int, Iterable[Checkpoint]] | None) -> None:
        """`known`: when the tail first ran, and its checkpoints; None: it never did."""
        self.first = known is None
        self._alive_ms, checkpoints = known or (0, ())
        self._since_ms = self._alive_ms
        self.files: dict[int, TailedFile] = {}
        self.active: dict[int, TailedFile] = {}
        self.refused: dict[str, str] = {}
        self.directories: set[str] = set()
        self.ended: dict[int, TailedFile] = {}
        self.unsaved: dict[int, TailedFile] = {}
        self.gone: list[Checkpoint] = []
        self._name, self._settings = name, settings
        self._by_identity: dict[tuple[int, int], TailedFile] = {}
        self._by_path: dict[str, TailedFile] = {}
        self._next = 1
        for checkpoint in checkpoints:
            self._alive_ms = max(self._alive_ms, checkpoint.seen_ms)
            self._next = max(self._next, checkpoint.number + 1)
            self._add(TailedFile(checkpoint, saved=True))

    def at(self, path: str) -> TailedFile | None:
        """The file that was last found at `path`."""
        return self._by_path.get(path)

    def touched(self, path: str) -> None:
        """Something was written there."""
        file = self._by_path.get(path)
        if file is not None:
            self.active[file.number] = file

    def look(self, now_s: float, now_ms: int) -> None:
        """Brings everything up to date with what is there now."""
        self._since_ms = self._alive_ms
        found = discover(self._settings.paths, self._settings.exclude)
        neighbours = Neighbours(self._settings.rotated)
        self._tell_refused(found)
        for file in self.files.values():
            file.missing = True
        unknown = [
            (path, state)
            for path, state in found.files.items()
            if not self._note_known(path, state, found, now_s, now_ms)
        ]
        left = [file for file in self.files.values() if file.missing]
        for file in left:
            self._locate(file, neighbours, now_s, now_ms)
        for file in left:
            if file.path in found.files and not self.first:
                state = None if file.ended else _stat(file.at)
                since_ns = state.st_mtime_ns if state is not None else file.seen_ms * 1_000_000
                self._find_between(file, neighbours, since_ns, now_ms)
        for path, state in sorted(unknown, key=lambda one: one[1].st_mtime_ns):
            if (state.st_dev, state.st_ino) not in self._by_identity:
                self._meet(path, state, neighbours, now_s, now_ms)
        self._index(found)
        self.first = False
        self._alive_ms = now_ms

    def restarted(self, file: TailedFile, why: str, now_s: float, now_ms: int) -> None:
        """It has other content now: what is there is another file, behind what can still be had of the old one."""
        neighbours = Neighbours(self._settings.rotated)
        here, shown = _stat(file.at), file.shown
        its_own = here is not None and (here.st_dev, here.st_ino) == file.identity and self._is_known_as(file)
        since_ns = file.reached.seen_ms * 1_000_000
        file.close()
        file.superseded = True
        copy = None if file.reached.finished else neighbours.with_content(file.reached)
        if copy is not None and copy.identity not in self._by_identity:
            self._relocate(file, copy)
            since_ns = copy.state.st_mtime_ns
            self._note_window(file, copy, why, now_ms)
        else:
            self._unclaim(file)
            copy = None
        if here is not None and its_own and shown is not None:
            self._meet(shown, here, neighbours, now_s, now_ms, may_be_sparse=True)
        between = self._find_between(file, neighbours, since_ns, now_ms)
        if copy is None:
            if not file.reached.finished and (file.reached.offset or not between):
                self.lose(file, why, now_ms)
            self.end(file)

    def lose(self, file: TailedFile, why: str, now_ms: int) -> None:
        """What was not read of it cannot be had any more."""
        gap_s = max(0.0, (now_ms - file.seen_ms) / 1000)
        known = max(0, max(file.size, file.shrunk_from) - file.reached.offset) if file.noted else None
        at_most = None if known is None else known + math.ceil(file.peak_rate * gap_s)
        file.losses.append(self._receipt(file, file.reached.offset, at_most, why, now_ms))
        self.unsaved[file.number] = file

    def shrunk(self, file: TailedFile, now_ms: int) -> None:
        """Its end was cut off, but not what was read of it."""
        self.lose(file, "the end of the file was cut off", now_ms)
        file.shrunk_from = 0

    def _note_window(self, file: TailedFile, copy: Candidate, why: str, now_ms: int) -> None:
        """Between the copying of a file and its truncation somebody may have written to it."""
        window_s = max(0.0, now_ms / 1000 - copy.state.st_mtime_ns / 1e9)
        at_most = math.ceil(file.peak_rate * window_s) if file.peak_rate else None
        offset = file.reached.offset if copy.compressed else max(copy.state.st_size, file.reached.offset)
        why = f"{why}; what was written after it was copied to {copy.path}"
        file.losses.append(self._receipt(file, offset, at_most, why, now_ms))

    def _receipt(self, file: TailedFile, offset: int, at_most: int | None, why: str, now_ms: int) -> Loss:
        return Loss(
            tail=self._name,
            path=file.path,
            offset=offset,
            at_most=at_most,
            why=why,
            since_ms=file.seen_ms,
            found_ms=now_ms,
        )

    def _unclaim(self, file: TailedFile) -> None:
        """Its inode is another file's now, or may be any time."""
        if self._is_known_as(file):
            del self._by_identity[file.identity]

    def _is_known_as(self, file: TailedFile) -> bool:
        return self._by_identity.get(file.identity) is file

    def end(self, file: TailedFile) -> None:
        """Nothing more will be read of it; its checkpoint is still to be saved."""
        file.ended = True
        self.active.pop(file.number, None)
        self.ended[file.number] = file

    def moved(self, file: TailedFile) -> None:
        """The same content stands in another inode now. Raises OSError."""
        self._relocate(file, Candidate(file.at, os.stat(file.at)))

    def _relocate(self, file: TailedFile, there: Candidate) -> None:
        """It goes on in another inode; that is to be saved before anything else is read, lest its own is used again."""
        self._unclaim(file)
        file.is_at(there.path, there.state)
        file.noted, file.shrunk_from = False, 0
        self._by_identity[there.identity] = file
        self.active[file.number] = self.unsaved[file.number] = file

    def finish(self, file: TailedFile) -> None:
        """It was read to its end, and will not be looked at again; its checkpoint stays, to know copies of it."""
        file.close()
        self.files.pop(file.number, None)
        self.active.pop(file.number, None)
        self.ended.pop(file.number, None)
        self._by_identity = {key: other for key, other in self._by_identity.items() if other is not file}
        self._by_path = {key: other for key, other in self._by_path.items() if other is not file}
        for other in self.files.values():
            if other.after is file:
                other.after = None
        self.gone.append(file.committed)

    def forgettable(self) -> list[int]:
        """Numbers of checkpoints of files that have been gone for long."""
        newest_ms = max((one.seen_ms for one in self.gone), default=0)
        keep = [one for one in self.gone if newest_ms - one.seen_ms < _KEPT_MS][-_MOST_KEPT:]
        kept = {one.number for one in keep}
        forget = [one.number for one in self.gone if one.number not in kept]
        self.gone = keep
        return forget

    def _note_known(self, path: str, state: os.stat_result, found: Found, now_s: float, now_ms: int) -> bool:
        file = self._by_identity.get((state.st_dev, state.st_ino))
        if file is None:
            return False
        if not file.missing:  # another name of the same file
            return True
        own = found.files.get(file.path)
        at_home = own is not None and (own.st_dev, own.st_ino) == file.identity
        if at_home:
            path = file.path
        elif not file.superseded:
            file.superseded = True
            self.active[file.number] = file
        if file.shown != path:
            file.is_at(_real(path))
            file.shown = path
        file.missing = False
        known = file.noted
        done = file.reached.finished and state.st_size == file.reached.offset
        if file.note(state, now_s, now_ms) and not (done and known):
            self.active[file.number] = file
        return True

    def _locate(self, file: TailedFile, neighbours: Neighbours, now_s: float, now_ms: int) -> None:
        """It is not where the patterns look; it may be anywhere beside that."""
        file.shown = None
        if not file.superseded:
            file.superseded = True
            self.active[file.number] = file
        path = neighbours.with_inode(file.reached) if self._is_known_as(file) else None
        if path is not None or file.source is not None:
            if path is not None:
                file.is_at(path)
                state = _stat(path)
                if state is not None and not file.note(state, now_s, now_ms):
                    return
            self.active[file.number] = file
            return
        if file.in_flight:
            return  # what is on its way to the disk decides how far it was read
        self._unclaim(file)
        unread = not file.noted or file.size != file.reached.offset or file.number in self.active
        if file.reached.finished or not unread:
            self.end(file)
            return
        copy = neighbours.with_content(file.reached)
        if copy is not None and copy.identity not in self._by_identity:
            self._relocate(file, copy)
            file.size, file.modified_ns = copy.state.st_size, copy.state.st_mtime_ns
        elif file.reached.offset or file.size:
            self.lose(file, "the file is gone, and no copy of it was found", now_ms)
            self.end(file)
        else:
            self.end(file)

    def _find_between(self, file: TailedFile, neighbours: Neighbours, since_ns: int, now_ms: int) -> bool:
        """Files that came to its path after it, and were rotated away before anybody looked; whether there are any."""
        last = file
        for one in neighbours.after(file.reached, since_ns):
            if one.identity in self._by_identity or self._origin_of(one, now_ms) is not None:
                continue
            waiting = [other for other in self.files.values() if other.after is last]
            last = self._insert(file.path, one, last, now_ms)
            for other in waiting:
                other.after = last
        return last is not file

    def _find_before(self, path: str, new: Checkpoint, neighbours: Neighbours, now_ms: int) -> TailedFile | None:
        """Files that were at the path of a new one, if they came, and were rotated away, since the last look."""
        last = None
        for one in neighbours.after(new, (self._since_ms - _CLOCKS_DIFFER_MS) * 1_000_000):
            if one.identity not in self._by_identity and self._origin_of(one, now_ms) is None:
                last = self._insert(path, one, last, now_ms)
        return last

    def _insert(self, path: str, one: Candidate, after: TailedFile | None, now_ms: int) -> TailedFile:
        """A file that was at `path`, and is already rotated away."""
        made = self._new(path, one.path, one.state, now_ms)
        made.superseded, made.after = True, after
        self._add(made)
        self.active[made.number] = made
        return made

    def _meet(
        self,
        path: str,
        state: os.stat_result,
        neighbours: Neighbours,
        now_s: float,
        now_ms: int,
        *,
        may_be_sparse: bool = False,
    ) -> None:
        """A file that was never seen: new, or there before the first run, or a compressed copy of a known one."""
        hole = first_hole(path, state.st_size) if _is_short_of_blocks(state) else None
        if hole is not None and not may_be_sparse:
            why = f"a sparse file: there is a hole at byte {hole}"
            if self.refused.get(path) != why:
                log.warning("not followed", tail=self._name, path=path, reason=why)
                self.refused[path] = why
            return
        made = self._new(path, _real(path), state, now_ms)
        if path.endswith(SUFFIXES):
            origin = self._origin_of(Candidate(path, state), now_ms)
            if origin is not None or (self.first and self._settings.start_at == "end"):
                made.reached = msgspec.structs.replace(
                    made.reached,
                    finished=True,
                    offset=origin.offset if origin else 0,
                    head=origin.head if origin else b"",
                    head_bytes=origin.head_bytes if origin else 0,
                    mark=origin.mark if origin else b"",
                )
                made.superseded = True
        elif hole == 0:
            made.reached = behind_hole(made.reached)
        elif self.first and self._settings.start_at == "end":
            made.reached = at_end_of(made.reached, self._settings.max_line, self._settings.encoding)
        made.after = self._before(path)
        if made.after is None and not self.first and not made.reached.finished:
            made.after = self._find_before(path, made.reached, neighbours, now_ms)
        made.shown = path
        self._add(made)
        made.note(state, now_s, now_ms)
        if not made.reached.finished:
            self.active[made.number] = made

    def _before(self, path: str) -> TailedFile | None:
        """The newest file that was at `path` before."""
        return max(
            (file for file in self.files.values() if file.path == path), key=lambda one: one.number, default=None
        )

    def _origin_of(self, one: Candidate, now_ms: int) -> Checkpoint | None:
        """Of which known file it is a copy, if of any. What cannot be read yet is nobody's."""
        name = os.path.basename(one.path)
        known = [file.reached for file in self.files.values()] + self.gone
        for checkpoint in known:
            if checkpoint.head_bytes and (is_related(checkpoint.path, name) or checkpoint.path == one.path):
                try:
                    look = look_at(one.path, checkpoint)
                except OSError:
                    return checkpoint if now_ms - one.state.st_mtime_ns // 1_000_000 < 5000 else None
                if digest(look.head) == checkpoint.head and _same_so_far(look, checkpoint):
                    return checkpoint
        return None

    def _new(self, path: str, at: str, state: os.stat_result, now_ms: int) -> TailedFile:
        checkpoint = Checkpoint(
            tail=self._name,
            number=self._next,
            path=path,
            at=at,
            device=state.st_dev,
            inode=state.st_ino,
            seen_ms=now_ms,
        )
        self._next += 1
        return TailedFile(checkpoint, saved=False)

    def _add(self, file: TailedFile) -> None:
        self.files[file.number] = file
        self._by_identity[file.identity] = file
        self._by_path[file.at] = file
        if file.shown is not None:
            self._by_path[file.shown] = file

    def _index(self, found: Found) -> None:
        self._by_path = {file.at: file for file in self.files.values()}
        self._by_path |= {file.path: file for file in self.files.values() if file.shown == file.path}
        self.directories = found.directories | {os.path.dirname(path) for path in self._by_path}

    def _tell_refused(self, found: Found) -> None:
        for path, why in list(_new_ones(found.refused, self.refused))[:_MOST_TOLD]:
            log.warning("not followed", tail=self._name, path=path, reason=why)
        sparse = {path: why for path, why in self.refused.items() if path in found.files}
        if found.more:
            log.warning("too many files match; not all are followed", tail=self._name)
        self.refused = found.refused | sparse


def _same_so_far(look: Look, known: Checkpoint) -> bool:
    """A copy that ends before the place up to which the file was read can only be compared at its beginning."""
    return len(look.before) < len(known.mark) or look.before == known.mark


def _is_short_of_blocks(state: os.stat_result) -> bool:
    return state.st_blocks * 512 < state.st_size


def _real(path: str) -> str:
    return os.path.realpath(path) if os.path.islink(path) else path


def _stat(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:
        return None


def _new_ones(now: dict[str, str], before: dict[str, str]) -> Iterator[tuple[str, str]]:
    return ((path, why) for path, why in now.items() if before.get(path) != why)
