"""The files of one tail: which there are, which is which, and in what order they are read.

    what the patterns match ─┬─ known by its inode ───> goes on
                             └─ unknown ──────────────> new; behind what was at its path before
    what is not found ───────┬─ open, or renamed ─────> read to its end
                             ├─ copied or compressed ─> found by content, read on there
                             └─ nowhere ──────────────> a receipt for what may be lost

It looks at names and inodes; what a file holds is judged when it is read.
"""

import contextlib
import os
from collections.abc import Sequence

import msgspec

from sidecar.config import Tail
from sidecar.core.model import Checkpoint
from sidecar.inputs.tail import losses
from sidecar.inputs.tail.glances import is_short_of_blocks, link_directories, real_path, rewritten, since_ns_of, stat_of
from sidecar.inputs.tail.ignored_files import Refusals
from sidecar.inputs.tail.open_file import SUFFIXES, first_hole
from sidecar.inputs.tail.registry import Registry
from sidecar.inputs.tail.rotated_files import Candidate, Neighbours
from sidecar.inputs.tail.scan import ScanResult, discover
from sidecar.inputs.tail.start_position import at_end_of, behind_hole, seen_beginning
from sidecar.inputs.tail.tracked_file import TailedFile

_CLOCKS_DIFFER_MS = 1000
"""A file system's clock may be behind the system's by a little."""


class Tracker:
    """The files are in the `register`."""

    def __init__(self, name: str, settings: Tail, known: tuple[int, Sequence[Checkpoint]] | None) -> None:
        """`known`: when the tail first ran, and its checkpoints; None: it never did."""
        self.first = known is None
        started_ms, checkpoints = known or (0, ())
        self._alive_ms = self._since_ms = max([started_ms, *(one.seen_ms for one in checkpoints)])
        self._refusals = Refusals(name)
        self.directories: set[str] = set()
        self._name, self._settings = name, settings
        self.register = Registry(name, checkpoints)
        self.blind = settings.poll is not None
        """Nobody tells what is written: what was not seen may still have been."""
        self._again: Neighbours | None = None
        self._perhaps_emptied: list[TailedFile] = []
        """Nothing was read of them, and they may not be what they were: what was in them may stand somewhere else."""

    @property
    def refused(self) -> dict[str, str]:
        """Paths that match and are not followed, with the reason."""
        return self._refusals.shown

    @property
    def closed(self) -> set[str]:
        """Paths that could be read if the sidecar's user were let."""
        return self._refusals.closed

    def look(self, now_s: float, now_ms: int) -> None:
        """Bring everything up to date with what is there now."""
        self._since_ms, self._again = self._alive_ms, None
        found = discover(self._settings.paths, self._settings.exclude, follow_links=self._settings.follow_links)
        neighbours = Neighbours(self._settings.rotated)
        self._refusals.found(found)
        for file in self.register.files.values():
            file.missing = not file.ended
        unknown = [
            (path, state)
            for path, state in found.files.items()
            if not self._note_known(path, state, found, now_s, now_ms)
        ]
        left = [file for file in self.register.files.values() if file.missing]
        gone = [file for file in left if not self._find_by_inode(file, neighbours, now_s, now_ms)]
        for file in gone:
            self._find_by_content(file, neighbours, now_ms)
        for file in left:
            news = not file.superseded or file in gone
            if news and self.register.newest_at(file.path) is file:
                self._find_between(file, neighbours, since_ns_of(file), now_ms)
            if not file.superseded and not file.ended:
                self._supersede(file)
        for file in self._perhaps_emptied:
            file.after = self._find_before(file.path, file.reached, neighbours, now_ms) or file.after
        self._perhaps_emptied.clear()
        for path, state in sorted(unknown, key=lambda one: one[1].st_mtime_ns):
            if (state.st_dev, state.st_ino) not in self.register.by_identity:
                self._try_to_meet(path, state, neighbours, now_s, now_ms)
        self._index(found)
        self.first = False
        self._alive_ms = now_ms

    def restarted(self, file: TailedFile, why: str, now_s: float, now_ms: int) -> None:
        """It has other content now: what is there is another file, behind what can still be had of the old one."""
        neighbours = Neighbours(self._settings.rotated)
        here, shown = stat_of(file.at), file.shown
        its_own = here is not None and (here.st_dev, here.st_ino) == file.identity and self.register.is_known_as(file)
        since_ns = file.reached.seen_ms * 1_000_000
        file.close()
        was_rotated, file.superseded = file.superseded, True
        copy = None
        if not file.reached.finished:  # it may have been compressed while it was looked for
            again = Neighbours(self._settings.rotated)
            copy = neighbours.with_content(file.reached) or again.with_content(file.reached)
        if copy is not None and not self.register.is_taken(copy, file):
            self.register.relocate(file, copy)
            since_ns = copy.state.st_mtime_ns
            if not was_rotated:  # else its inode was used again
                self._note_window(file, copy, why, now_ms)
        else:
            self.register.unclaim(file)
            copy = None
        if here is not None and its_own and shown is not None:
            with contextlib.suppress(FileNotFoundError):
                self._meet(shown, here, neighbours, now_s, now_ms, may_be_sparse=True)
        between = self._find_between(file, neighbours, since_ns, now_ms)
        if copy is None:
            if not file.reached.finished and (file.reached.offset or not between):
                self.lose(file, why, now_ms)
            self.register.end(file)

    def _afresh(self) -> Neighbours:
        """Directories as they are listed a second time in one look."""
        self._again = self._again or Neighbours(self._settings.rotated)
        return self._again

    def _note_window(self, file: TailedFile, copy: Candidate, why: str, now_ms: int) -> None:
        upto = file.reached.offset if copy.compressed else max(copy.state.st_size, file.reached.offset)
        file.losses.append(losses.window(file, upto, copy.state.st_mtime_ns / 1_000_000, why, copy.path, now_ms))

    def lose(self, file: TailedFile, why: str, now_ms: int) -> None:
        """What was not read of it cannot be had any more."""
        file.losses.append(losses.unread(file, why, now_ms))
        self.register.unsaved[file.number] = file

    def _note_known(self, path: str, state: os.stat_result, found: ScanResult, now_s: float, now_ms: int) -> bool:
        file = self.register.by_identity.get((state.st_dev, state.st_ino))
        if file is None:
            return False
        if not file.missing:  # another name of the same file
            return True
        own = found.files.get(file.path)
        at_home = own is not None and (own.st_dev, own.st_ino) == file.identity
        if not at_home and not file.reached.head_bytes and file.source is None:
            self.register.unclaim(file)  # it was empty, and whether this is it nobody can tell
            return False
        if at_home:
            path = file.path
        elif not file.superseded:
            self._supersede(file)
        if file.shown != path:
            file.is_at(real_path(path))
            file.shown = path
        file.missing = False
        known, size = file.noted, file.size
        if file.note(state, now_s, now_ms):
            self.register.active[file.number] = file
            if known and not file.reached.offset and (state.st_size <= size or not file.reached.head_bytes):
                self._perhaps_emptied.append(file)
        return True

    def _supersede(self, file: TailedFile) -> None:
        """It was rotated away; that is remembered, in case its inode is used again while nobody looks."""
        file.superseded = True
        self.register.active[file.number] = file
        if file.saved:
            self.register.unsaved[file.number] = file

    def _find_by_inode(self, file: TailedFile, neighbours: Neighbours, now_s: float, now_ms: int) -> bool:
        """It is not where the patterns look; it may be anywhere beside that. Whether it is still there, or open."""
        file.shown = None
        path = None
        if self.register.is_known_as(file):  # it may have been renamed while it was looked for
            path = neighbours.with_inode(file.reached) or self._afresh().with_inode(file.reached)
        if path is not None:
            file.is_at(path)
            file.located = True
            state = stat_of(path)
            if state is not None and not file.note(state, now_s, now_ms):
                return True
        elif file.source is not None:
            file.located = False
            file.look_at_beginning()
        else:
            if not file.in_flight:  # what is on its way to the disk decides how far it was read
                self.register.unclaim(file)
            return bool(file.in_flight)
        self.register.active[file.number] = file
        return True

    def _find_by_content(self, file: TailedFile, neighbours: Neighbours, now_ms: int) -> None:
        """It has no name any more; perhaps there is a copy of it."""
        unread = self.blind or not file.noted or file.size != file.reached.offset or file.touched
        copy = None
        if unread and not file.reached.finished:
            copy = rewritten(file.reached) or neighbours.with_content(file.reached, gone=True)
            if copy is None:  # it may have been compressed while it was looked for
                copy = self._afresh().with_content(file.reached, gone=True)
        if copy is not None and self.register.is_taken(copy, file):
            self.register.end(file)
            return
        if copy is not None:
            self.register.relocate(file, copy)
            if not copy.compressed and copy.path != file.path:
                self._note_window(file, copy, "the file is gone", now_ms)
            return
        if unread and not file.reached.finished and (file.reached.offset or file.size):
            self.lose(file, "the file is gone, and no copy of it was found", now_ms)
        self.register.end(file)

    def _find_between(self, file: TailedFile, neighbours: Neighbours, since_ns: int, now_ms: int) -> bool:
        """Files that came to its path after it, and were rotated away before anybody looked; whether there are any."""
        last = file
        for one in neighbours.after(file.reached, since_ns):
            if not self.register.is_new(one):
                continue
            waiting = [other for other in self.register.files.values() if other.after is last]
            last = self.register.insert(file.path, one, last, now_ms)
            for other in waiting:
                other.after = last
        return last is not file

    def _find_before(self, path: str, new: Checkpoint, neighbours: Neighbours, now_ms: int) -> TailedFile | None:
        """Files that were at the path of a new one, if they came, and were rotated away, since the last look."""
        last = None
        for one in neighbours.after(new, (self._since_ms - _CLOCKS_DIFFER_MS) * 1_000_000):
            if self.register.is_new(one):
                last = self.register.insert(path, one, last, now_ms)
        return last

    def _try_to_meet(self, path: str, state: os.stat_result, neighbours: Neighbours, now_s: float, now_ms: int) -> None:
        """One file that cannot be read keeps no other from being followed."""
        try:
            self._meet(path, state, neighbours, now_s, now_ms)
        except FileNotFoundError:
            return  # it was renamed meanwhile, which is told
        except (OSError, EOFError) as error:
            self._refusals.refuse(
                path, os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
            )

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
        hole = first_hole(path, state.st_size) if is_short_of_blocks(state) else None
        if hole is not None and not may_be_sparse:
            self._refusals.refuse(path, f"a sparse file: there is a hole at byte {hole}")
            return
        self._refusals.forget(path)
        if not self.first and not path.endswith(SUFFIXES) and self.register.is_plain_copy(Candidate(path, state)):
            return
        before = self.register.newest_at(path)
        if before is not None and not before.in_flight and rewritten(before.reached):
            before.close()
            self.register.relocate(before, Candidate(path, state))
            before.shown, before.superseded = path, False
            return
        made = self.register.new(path, real_path(path), state, now_ms)
        made.is_no_copy = self.first and not path.endswith(SUFFIXES)
        if path.endswith(SUFFIXES):
            origin = self.register.origin_of(Candidate(path, state))
            if origin is not None or (self.first and self._settings.start_at == "end"):
                made.reached = msgspec.structs.replace(seen_beginning(made.reached), finished=True)
                made.superseded = True
                self.register.unsaved[made.number] = made
        elif hole == 0:
            made.reached = behind_hole(made.reached)
        elif self.first and self._settings.start_at == "end":
            made.reached = at_end_of(made.reached, self._settings.max_line, self._settings.encoding)
        elif state.st_size:
            made.reached = seen_beginning(made.reached)
        if before is not None:
            self._find_between(before, neighbours, since_ns_of(before), now_ms)
            made.after = self.register.newest_at(path)
        elif not self.first and not made.reached.finished:
            made.after = self._find_before(path, made.reached, neighbours, now_ms)
        made.shown = path
        self.register.add(made)
        made.note(state, now_s, now_ms)
        if not made.reached.finished:
            self.register.active[made.number] = made

    def _index(self, found: ScanResult) -> None:
        self.register.by_path = {file.at: file for file in self.register.files.values()}
        self.register.by_path |= {file.path: file for file in self.register.files.values() if file.shown == file.path}
        self.directories = found.directories | {os.path.dirname(path) for path in self.register.by_path}
        for file in self.register.files.values():
            if file.shown is not None and file.shown != file.at:
                self.directories |= link_directories(file.shown)
