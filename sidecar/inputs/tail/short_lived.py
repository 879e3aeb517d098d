"""Acts on what came to a path and was gone before a look: reads what can still be read, else notes a loss.

Of each arrival the system tells once, perhaps only after a look has met the file. So the arrivals that a look meets
untold are remembered until they are told, and no other arrival counts as seen.
"""

import os
from collections.abc import Collection, Mapping, Sequence

from sidecar.config import Tail
from sidecar.inputs.tail import losses
from sidecar.inputs.tail.arrivals import Arrivals, Passed
from sidecar.inputs.tail.newcomers import LookTime, Newcomers
from sidecar.inputs.tail.registry import Registry
from sidecar.inputs.tail.rotated_names import COMPRESSED_SUFFIXES
from sidecar.inputs.tail.rotation import ShortLived, decide_short_lived
from sidecar.inputs.tail.scan import behind_link
from sidecar.inputs.tail.snapshot import candidate, real_path
from sidecar.inputs.tail.tracked_file import TrackedFile
from sidecar.text.globs import matches_any


class ShortLivedFiles:
    """Follow what is gone before it is looked at. Belongs to the thread of the tail, but for `arrivals`."""

    def __init__(self, name: str, settings: Tail, registry: Registry, newcomers: Newcomers) -> None:
        self._name, self._settings = name, settings
        self._registry, self._newcomers = registry, newcomers
        self.arrivals = Arrivals(self._is_matched)  # what the system tells
        # The inodes that a look has met at each path, now or rotated away, and that nobody had told of; by its number.
        self._untold: dict[str, list[tuple[tuple[int, int], int]]] = {}
        self._looks = 0  # that have begun
        self._told: set[str] = set()  # where it met one that somebody had told of

    def see(self, files: Mapping[str, os.stat_result]) -> None:
        """Note what a look sees at each path, before it acts on it."""
        self._looks += 1
        self._told = self.arrivals.forget(files)
        for path in self._told:
            self._tell_of(path, (files[path].st_dev, files[path].st_ino))

    def take(self, passed: Sequence[Passed], when: LookTime, first_number: int) -> None:
        """Act on what had passed when the look began, which has met rotated files with this number, or a larger one."""
        self._note_untold(first_number)
        for one in passed:
            self._take(one, when)

    def meet(self, first_number: int) -> None:
        """Note which new files the look has met: those with this number, or a larger one."""
        self._note_untold(first_number, but=self._told)
        for path, met in list(self._untold.items()):
            self._untold[path] = [(identity, look) for identity, look in met if look == self._looks]
            if not self._untold[path]:
                del self._untold[path]

    def _note_untold(self, first_number: int, but: Collection[str] = ()) -> None:
        if self._looks == 1:  # nothing was watched before the first look, so nobody will tell of what it met
            return
        for number in range(first_number, self._registry.next_number):
            file = self._registry.files.get(number)
            if file is not None and file.path not in but:
                self._untold.setdefault(file.path, []).append((file.identity, self._looks))

    def _tell_of(self, path: str, identity: tuple[int, int] | None) -> bool:
        """Note that somebody has told of what came to `path`; None: of anything. Returns True if a look had met it."""
        met = self._untold.get(path, [])
        found = next((one for one in met if identity in (None, one[0])), None)
        if found is not None:
            met.remove(found)
        return found is not None

    def _take(self, one: Passed, when: LookTime) -> None:
        target, there = (one.seen.target if one.seen is not None else None), None
        if one.seen is not None and target is not None:
            there = behind_link(one.path, target, one.seen.link_owner, follow_links=self._settings.follow_links)
        decision = decide_short_lived(
            ShortLived(
                is_known=self._is_known(one),
                is_copy=self._registry.may_be_rotated(one.path)
                or any(os.path.exists(one.path + suffix) for suffix in COMPRESSED_SUFFIXES),
                is_link=None if one.seen is None else target is not None,
                target_is_there=there is not None,
                was_written=one.was_written,
                link_is_there_now=os.path.islink(one.path),
            )
        )
        if decision == "read" and target is not None and there is not None:
            self._newcomers.insert_after_newest(one.path, candidate(real_path(target), there), when)
        elif decision == "lost":
            self._lose(one.path, when)

    def _is_known(self, one: Passed) -> bool:
        """Return True if a look has met it, so that it is followed, or was."""
        if self._tell_of(one.path, None if one.seen is None else one.seen.identity):
            return True
        may_be_used_again = one.was_created and one.seen is not None and one.seen.target is None
        return one.seen is not None and not may_be_used_again and self._registry.knows_inode(one.seen.identity)

    def _lose(self, path: str, when: LookTime) -> None:
        """Note a loss; where no file ever was, one that has ended carries it to the disk."""
        carrier = self._registry.newest_at(path)
        if carrier is None:
            blank = self._registry.blank(path, path, (0, 0), when.now_ms)
            carrier = TrackedFile(blank, saved=False, rotated=True)
            self._registry.add(carrier)
            self._registry.finish(carrier)
        carrier.add_loss(losses.short_lived(self._name, path, when.since_ms, when.now_ms))
        self._registry.mark_unsaved(carrier)

    def _is_matched(self, path: str) -> bool:
        settings = self._settings
        return matches_any(path, settings.paths) and not matches_any(path, settings.exclude)
