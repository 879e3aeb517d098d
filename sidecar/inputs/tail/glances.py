"""Quick looks at single files, which say nothing of what is in them; but for one."""

import os

from sidecar.core.model import Checkpoint
from sidecar.inputs.tail.fingerprint import decide
from sidecar.inputs.tail.rotated_files import Candidate
from sidecar.inputs.tail.tracked_file import TailedFile, look_at

_MOST_LINKS = 40


def is_short_of_blocks(state: os.stat_result) -> bool:
    """Return whether it may be sparse; also a file that the file system compresses looks so."""
    return state.st_blocks * 512 < state.st_size


def rewritten(known: Checkpoint) -> Candidate | None:
    """Return what is at its path, if it is the same in another inode, as an editor or a restored backup leaves it."""
    try:
        if decide(known, look_at(known.path, known)) == "reopen":
            return Candidate(known.path, os.stat(known.path))
    except OSError:
        pass
    return None


def since_ns_of(file: TailedFile) -> int:
    """Return when it was last written to; of one that is gone, when it was last seen."""
    state = file.source.state() if file.source is not None else stat_of(file.at)
    if file.ended or state is None or (state.st_dev, state.st_ino) != file.identity:
        return file.seen_ms * 1_000_000
    return state.st_mtime_ns


def real_path(path: str) -> str:
    """Return where a link leads."""
    return os.path.realpath(path) if os.path.islink(path) else path


def link_directories(path: str) -> set[str]:
    """Return where the links stand on the way from `path` to the file: when one is replaced, that is told there."""
    found: list[str] = []
    at, left = "/", path.split("/")
    while left and len(found) < _MOST_LINKS:  # as many as the system follows
        part = left.pop(0)
        following = os.path.normpath(os.path.join(at, part))
        try:
            target = os.readlink(following)
        except OSError:  # no link
            at = following
            continue
        found.append(at)
        at = "/" if target.startswith("/") else at
        left = target.split("/") + left
    return set(found)


def stat_of(path: str) -> os.stat_result | None:
    """None if there is nothing that can be seen."""
    try:
        return os.stat(path)
    except OSError:
        return None
