"""What it means to read a file anew, or not what it holds now, when somebody says so: `sidecar tails reset|skip`."""

from collections.abc import Iterable
from typing import Literal

import msgspec

from sidecar.core.model import Checkpoint
from sidecar.inputs.tail.start_position import at_end_of
from sidecar.inputs.tail.tracked_file import TailedFile

Action = Literal["reset", "skip"]


def chosen(files: Iterable[TailedFile], action: Action, path: str | None) -> list[TailedFile]:
    """Those that are meant: all that are not rotated away, to be skipped also those; or the one that is at `path`."""
    there = [file for file in files if not file.ended]
    if path is not None:
        named = [file for file in there if file.path == path and not file.superseded]
        return named or [file for file in there if file.at == path]
    return [file for file in there if not (file.superseded if action == "reset" else file.committed.finished)]


def target(file: TailedFile, action: Action, max_line: int, encoding: str) -> Checkpoint:
    """Return where it is to go on. Raises OSError, or Changed if it is not there any more."""
    file.open()
    known = file.reached
    if action == "reset":
        return msgspec.structs.replace(known, offset=0, mark=b"", inside_line=False, finished=False)
    if file.source is not None and file.source.compressed:
        return msgspec.structs.replace(known, finished=True)
    there = at_end_of(known, max_line, encoding, whole=False)
    return there if there.offset > known.offset else known
