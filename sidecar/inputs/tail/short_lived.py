"""Acts on what came to a path and was gone before a look: reads what can still be read, else notes a loss.

Of each arrival the system tells once, perhaps only after a look has met the file. So the arrivals that a look meets
untold are remembered until they are told, and no other arrival counts as seen.
"""

import os
from collections.abc import Mapping, Sequence

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
        self._untold: dict[str, tuple[int, int]] = {}  # where the last look met an inode that nobody had told of
        self._told: set[str] = set()  # where it met one that somebody had told of

    def see(self, files: Mapping[str, os.stat_result]) -> None:
        """Note what a look sees at each path, before it acts on it."""
        self._told = self.arrivals.forget(files)
        for path in self._told:
            self._untold.pop(path, None)

    def take(self, passed: Sequence[Passed], when: LookTime) -> None:
        """Act on what had passed when the look began."""
        for one in passed:
            self._take(one, when)

    def meet(self, first_number: int) -> None:
        """Note which files the look has met: those with this number, or a larger one."""
        numbers = range(first_number, self._registry.next_number)
        met = filter(None, (self._registry.files.get(number) for number in numbers))
        self._untold = {file.path: file.identity for file in met if file.path not in self._told}

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
        met = self._untold.get(one.path)
        if met is not None and (one.seen is None or one.seen.identity == met):
            del self._untold[one.path]
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
