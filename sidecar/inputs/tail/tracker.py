"""Follows the files of one tail: looks which there are, and carries out what `rotation.py` decides of each.

    what the patterns match ─┬─ known by its inode ───> goes on
                             └─ unknown ──────────────> new; behind what was at its path before
    what is not found ───────┬─ open, or renamed ─────> read to its end
                             ├─ copied or compressed ─> found by content, read on there
                             └─ nowhere ──────────────> a loss, if something may not have been read

The order of one look must not change: first all files that are found by their inode, so that no inode counts as that of
a file that is elsewhere by now; then copies of those that are not found; then what was rotated away between two looks;
new files last, since they are read behind all of that.
"""

import contextlib
import os
from collections.abc import Callable, Sequence

import msgspec
import structlog

from sidecar.config import Tail
from sidecar.core.model import Checkpoint
from sidecar.inputs.tail import losses
from sidecar.inputs.tail.fingerprint import Likeness
from sidecar.inputs.tail.newcomers import LookTime, Newcomers
from sidecar.inputs.tail.registry import Registry
from sidecar.inputs.tail.rotation import (
    Candidate,
    Claim,
    CopiedTo,
    CutOff,
    CutShort,
    Gone,
    Known,
    LookAgain,
    LookFor,
    Renamed,
    Reopened,
    Restarted,
    Seen,
    Unknowable,
    Unnamed,
    decide,
)
from sidecar.inputs.tail.scan import IgnoredFiles, ScanResult, discover
from sidecar.inputs.tail.short_lived import ShortLivedFiles
from sidecar.inputs.tail.snapshot import (
    DirectorySnapshot,
    candidate,
    is_it,
    link_directories,
    real_path_of,
    rewritten,
    since_ns_of,
    stat_of,
)
from sidecar.inputs.tail.start_position import where_cut
from sidecar.inputs.tail.tracked_file import TrackedFile

log = structlog.get_logger("inputs.tail")


class HostBoot(msgspec.Struct, frozen=True):
    """Name the present boot of the host ("": nobody knows), with the clock that began with it, in seconds."""

    name: str
    clock: Callable[[], float]


class Tracker:
    """Keep the `registry` as the file system is. Belongs to the thread of the tail."""

    def __init__(
        self, name: str, settings: Tail, known: tuple[int, Sequence[Checkpoint]] | None, boot: HostBoot
    ) -> None:
        """`known`: when the tail first ran, and its checkpoints; None: it never did."""
        started_ms, checkpoints = known or (0, ())
        self.registry = Registry(name, checkpoints, boot.name)
        self._boot = boot
        self.ignored = IgnoredFiles(name)
        self.directories: set[str] = set()  # whose changes could matter, as of the last look
        self.untold: list[TrackedFile] = []  # are looked at more often, as of the last look
        self.is_first_look = known is None
        self._blind = False  # nobody tells what is written: what was not seen may still have been
        self._name, self._settings = name, settings
        # The last look that has ended, also of the run before.
        self._looked_ms = max([started_ms, *(one.seen_ms for one in checkpoints)])
        # Nothing was read of them, and they may not be what they were: what was in them may stand somewhere else.
        self._perhaps_emptied: list[TrackedFile] = []
        self.newcomers = Newcomers(settings, self.registry, self.ignored)
        self.short_lived = ShortLivedFiles(name, settings, self.registry, self.newcomers)

    def look(self, now_s: float, now_ms: int, *, blind: bool) -> None:
        """Bring everything up to date with what is there now. `blind`: nobody told what was written until now."""
        self._blind = blind
        when = self._now(now_s, now_ms)
        passed = self.short_lived.arrivals.take()
        found = discover(self._settings.paths, self._settings.exclude, follow_links=self._settings.follow_links)
        self.short_lived.see(found.files)
        snapshot = DirectorySnapshot(self._settings.rotated)
        self.ignored.update(found)
        missing = {number: file for number, file in self.registry.files.items() if not file.is_finished}
        unknown = [
            (path, state)
            for path, state in found.files.items()
            if not self._note_matched(path, state, found, missing, when)
        ]
        left, first_rotated = list(missing.values()), self.registry.next_number
        gone = [file for file in left if self._look_by_name(file, snapshot, when)]
        for file in gone:
            self._look_by_content(file, snapshot, when)
        for file in left:
            is_news = not file.is_rotated or file in gone
            if is_news and self.registry.newest_at(file.path) is file:
                self.newcomers.insert_between(file, snapshot, since_ns_of(file), when)
            if not file.is_rotated:
                self._rotate(file)
        for file in self._perhaps_emptied:
            file.wait_for(self.newcomers.insert_before(file.path, file.reached, snapshot, when) or file.after)
        self._perhaps_emptied.clear()
        self.short_lived.take(passed, when, first_rotated)
        first_new = self.registry.next_number
        for path, state in sorted(unknown, key=lambda one: one[1].st_mtime_ns):
            if self.registry.owner_of((state.st_dev, state.st_ino)) is None and not self._is_too_old(
                path, state, now_ms
            ):
                self.newcomers.try_to_meet(path, state, snapshot, when)
        self.short_lived.meet(first_new)
        self._index(found)
        self.is_first_look = False
        self._looked_ms = now_ms

    def written(self, path: str) -> bool:
        """Note that somebody told that `path` was written to. Returns True if it was too old to be followed."""
        file = self.registry.at_path(path)
        if file is not None:
            file.observed.mark_dirty()
            self.registry.activate(file)
        return path in self.ignored.too_old

    def look_at_untold(self, now_s: float, now_ms: int) -> None:
        """Look at the files of which nobody tells that they are written to."""
        self.untold = [file for file in self.untold if file.observed.is_untold and not file.is_finished]
        for file in self.untold:
            state = stat_of(file.at)
            if state is None or file.note(state.st_size, state.st_mtime_ns, now_s, now_ms):
                self.registry.activate(file)

    def is_behind(self, file: TrackedFile) -> bool:
        """Return True if another file must be read before it; that one is read then."""
        before = file.after
        if before is None:
            return False
        if before.number not in self.registry.files or before.is_drained or before.unreadable:
            file.wait_for(None)
            return False
        file.look_while_waiting()
        self.registry.active.setdefault(before.number, before)
        return True

    def content_changed(self, file: TrackedFile, now_s: float, now_ms: int) -> bool:
        """Act on a file that does not go on as it did. Returns True if there may be something else to read now.

        Raises OSError if it cannot be looked at, or is to be looked for.
        """
        if file.in_flight:
            return False  # how far it was read is known once that is on disk
        return self.restart(file, file.likeness(), self._now(now_s, now_ms))

    def restart(self, file: TrackedFile, content: Likeness, when: LookTime) -> bool:
        """Act on what was found in place of a file's content, as `content_changed` does."""
        known, seen = self._known(file), Seen(content=content)
        decision = decide(known, seen)
        snapshot, here = DirectorySnapshot(self._settings.rotated), stat_of(file.at)
        if decision is LookFor.CUT:
            booted_ms = when.now_ms - int(self._boot.clock() * 1000)
            cut = where_cut(file.reached, here, self._settings.encoding, booted_ms)
            seen = msgspec.structs.replace(seen, cut=cut)
            decision = decide(known, seen)
        if decision is LookFor.COPY:
            file.close()
            copy = snapshot.find_content(file.reached)
            decision = decide(known, msgspec.structs.replace(seen, copy=self._claimed(copy, file)))
        match decision:
            case CutShort(there):
                log.warning("end of a file is missing since the host went down, going on before it", tail=self._name,
                            path=file.at, offset=there.offset, committed=file.committed.offset)  # fmt: skip
                file.go_on_at(there)
                file.confirm_boot(self.registry.boot)
                self.registry.activate(file)
                self.registry.mark_unsaved(file)
                return True
            case Restarted():
                self._restart(file, decision, snapshot, here, when)
                return True
            case CutOff():
                self.lose(file, "the end of the file was cut off", when.now_ms)
                file.observed.accept_cut()
            case Reopened():
                self.registry.relocate(file, candidate(file.at, os.stat(file.at)))
            case LookAgain():
                raise FileNotFoundError(file.at)
        return False

    def lose(self, file: TrackedFile, why: str, now_ms: int) -> None:
        """Note that what was not read of it cannot be had any more."""
        file.add_loss(losses.unread(file, why, now_ms))
        self.registry.mark_unsaved(file)

    def _now(self, now_s: float, now_ms: int) -> LookTime:
        return LookTime(now_s=now_s, now_ms=now_ms, since_ms=self._looked_ms, is_first=self.is_first_look)

    # One look, in its order.

    def _note_matched(
        self,
        path: str,
        state: os.stat_result,
        found: ScanResult,
        missing: dict[int, TrackedFile],
        when: LookTime,
    ) -> bool:
        """Note what the patterns match. Returns False if it is no file of the tail."""
        file = self.registry.owner_of((state.st_dev, state.st_ino))
        if file is None:
            return False
        if file.number not in missing:  # another name of the same file
            return True
        own = found.files.get(file.path)
        at_home = own is not None and (own.st_dev, own.st_ino) == file.identity
        if at_home:
            path = file.path
        if not at_home or (file.is_rotated and file.at != path):  # else there is nothing to decide, as of nearly all
            seen = Seen(matched=path, at_home=at_home, is_it=not at_home or is_it(path, file.reached))
            if isinstance(decide(self._known(file), seen), Unknowable):
                self.registry.unclaim(file)
                return False
        if not at_home:
            self._rotate(file)
        if file.observed.matched_path != path:
            with contextlib.suppress(FileNotFoundError):  # then it leads somewhere else meanwhile, which is told
                file.move_to(real_path_of(path, file.identity))
            file.observed.match(path)
        del missing[file.number]
        was_noted, size = file.observed.noted, file.observed.size
        is_changed = file.note(state.st_size, state.st_mtime_ns, when.now_s, when.now_ms)
        if was_noted and not self._blind:
            file.observed.look_whether_told(size)
        if is_changed:
            self.registry.activate(file)
            if not file.reached.offset and not (was_noted and state.st_size > size and file.reached.head_bytes):
                self._perhaps_emptied.append(file)
        return True

    def _look_by_name(self, file: TrackedFile, snapshot: DirectorySnapshot, when: LookTime) -> bool:
        """Look for a file that the patterns do not match any more. Returns True if it is not found, and not open."""
        file.observed.match(None)
        seen = Seen()
        decision = decide(self._known(file), seen)
        if decision is LookFor.NAME:
            decision = decide(self._known(file), Seen(name=snapshot.find_name(file.reached)))
        match decision:
            case Renamed(path):
                file.move_to(path)
                file.observed.name(known=True)
                state = stat_of(path)
                if state is None or file.note(state.st_size, state.st_mtime_ns, when.now_s, when.now_ms):
                    self.registry.activate(file)
            case Unnamed():
                file.observed.name(known=False)
                file.look_at_beginning()
                self.registry.activate(file)
            case Gone() | LookFor():
                self.registry.unclaim(file)
                return True
        return False

    def _look_by_content(self, file: TrackedFile, snapshot: DirectorySnapshot, when: LookTime) -> None:
        """Act on a file that has no name any more; perhaps there is a copy of it."""
        known, seen = self._known(file), Seen(name=None)
        decision = decide(known, seen)
        if decision is LookFor.COPY:
            copy = rewritten(file.reached) or snapshot.find_content(file.reached, gone=True)
            decision = decide(known, msgspec.structs.replace(seen, copy=self._claimed(copy, file)))
        match decision:
            case CopiedTo(copy, loss):
                self.registry.relocate(file, copy)
                if loss is not None:
                    self._note_window(file, copy, loss, when.now_ms)
            case Gone(loss):
                if loss is not None:
                    self.lose(file, loss, when.now_ms)
                self.registry.finish(file)

    def _is_too_old(self, path: str, state: os.stat_result, now_ms: int) -> bool:
        """Return True if nobody wrote to it for too long; its end is known where the first look begins at the end."""
        limit_s = self._settings.ignore_older
        if limit_s is None or (self.is_first_look and self._settings.start_at == "end"):
            return False
        if now_ms - state.st_mtime_ns // 1_000_000 <= limit_s * 1000:
            return False
        self.ignored.add_too_old(path)
        return True

    def _index(self, found: ScanResult) -> None:
        self.untold = [file for file in self.registry.files.values() if file.observed.is_untold]
        paths = self.registry.reindex_paths()
        self.directories = found.directories | {os.path.dirname(path) for path in paths}
        for file in self.registry.files.values():
            matched = file.observed.matched_path
            if matched is not None and matched != file.at:
                self.directories |= link_directories(matched)

    # What decisions have in common.

    def _known(self, file: TrackedFile) -> Known:
        reached, observed = file.reached, file.observed
        blind = self._blind or observed.is_untold
        unread = blind or not observed.noted or observed.size != reached.offset or observed.dirty
        emptied = bool(observed.shrunk_from)
        return Known(
            path=file.path,
            is_rotated=file.is_rotated,
            is_open=file.source is not None,
            in_flight=bool(file.in_flight),
            owns_inode=self.registry.owns_inode(file),
            was_read=bool(reached.offset),
            has_beginning=bool(reached.head_bytes),
            had_content=bool(reached.offset or observed.size or reached.head_bytes) or emptied,
            is_unread=unread or emptied,
            is_complete=reached.finished,
            is_shrunk=emptied,
            is_from_other_boot=file.is_from_other_boot,
        )

    def _claimed(self, one: Candidate | None, file: TrackedFile) -> Candidate | None:
        """Return the candidate with who goes on there, if anybody does."""
        if one is None:
            return None
        owner = self.registry.owner_of(one.identity)
        if owner is None:
            claim = Claim.TAKEN if self.registry.was_read(one) else Claim.FREE
        elif owner is file:
            claim = Claim.OWN
        elif not owner.reached.offset and not owner.in_flight:
            # It was left out, or not read yet, as a copy of a file that is gone now, and may not be read to its end.
            claim = Claim.IDLE
        else:
            claim = Claim.TAKEN if owner.source is not None or is_it(one.path, owner.reached) else Claim.STALE
        return msgspec.structs.replace(one, claim=claim)

    def _rotate(self, file: TrackedFile) -> None:
        """Note that it was rotated away; that is saved, in case its inode is used again while nobody looks."""
        if file.is_rotated:
            return
        file.rotate()
        self.registry.activate(file)
        if file.position.saved:
            self.registry.mark_unsaved(file)

    def _restart(
        self,
        file: TrackedFile,
        decision: Restarted,
        snapshot: DirectorySnapshot,
        here: os.stat_result | None,
        when: LookTime,
    ) -> None:
        """Take what is in place of a file for another one, behind what can still be had of the old one."""
        matched, since_ns = file.observed.matched_path, file.reached.seen_ms * 1_000_000
        its_own = here is not None and (here.st_dev, here.st_ino) == file.identity and self.registry.owns_inode(file)
        file.close()
        file.rotate()
        if decision.copy is not None:
            self.registry.relocate(file, decision.copy)
            since_ns = decision.copy.modified_ns
            if decision.window:
                self._note_window(file, decision.copy, decision.why, when.now_ms)
        else:
            self.registry.unclaim(file)
        if here is not None and its_own and matched is not None:
            with contextlib.suppress(FileNotFoundError):
                self.newcomers.meet(matched, here, snapshot, when, in_place=True)
        between = self.newcomers.insert_between(file, snapshot, since_ns, when)
        if decision.copy is None:
            if decision.loss and not (decision.unless_between and between):
                self.lose(file, decision.why, when.now_ms)
            self.registry.finish(file)

    def _note_window(self, file: TrackedFile, copy: Candidate, why: str, now_ms: int) -> None:
        upto = file.reached.offset if copy.compressed else max(copy.size, file.reached.offset)
        file.add_loss(losses.window(file, upto, copy.modified_ns / 1_000_000, why, copy.path, now_ms))
