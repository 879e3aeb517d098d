"""Says what it means to read a file anew, or not what it holds now: `sidecar tails reset|skip`."""

from collections.abc import Iterable

import msgspec

from sidecar.config import Tail
from sidecar.core.model import Checkpoint
from sidecar.inputs.tail.messages import Action
from sidecar.inputs.tail.start_position import at_end_of
from sidecar.inputs.tail.tracked_file import TrackedFile


def chosen(files: Iterable[TrackedFile], action: Action, path: str | None) -> list[TrackedFile]:
    """Return those that are meant: all that are not rotated, to be skipped also those; or the one that is at `path`."""
    there = [file for file in files if not file.is_finished]
    if path is not None:
        named = [file for file in there if file.path == path and not file.is_rotated]
        return named or [file for file in there if file.at == path]
    return [file for file in there if not (file.is_rotated if action == "reset" else file.committed.finished)]


def target(file: TrackedFile, action: Action, settings: Tail) -> Checkpoint:
    """Return where it is to go on. Raises OSError, or Changed if it is not there any more."""
    file.open()
    known = file.reached
    if action == "reset":
        return msgspec.structs.replace(
            known, offset=0, mark=b"", inside_line=False, finished=False, trail=b"", state=b""
        )
    if file.source is not None and file.source.compressed:
        return msgspec.structs.replace(known, finished=True)
    there = at_end_of(known, settings.max_line, settings.encoding, settings.line_end, whole=False)
    return there if there.offset > known.offset else known
