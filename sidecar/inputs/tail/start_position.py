"""Where the reading of a file begins that was not read before: at its beginning, at its end, or behind a hole."""

import errno

import msgspec

from sidecar.core.model import Checkpoint
from sidecar.inputs.tail.fingerprint import HEAD_BYTES, MARK_BYTES, digest
from sidecar.inputs.tail.open_file import next_data, open_source
from sidecar.parsing import HEAD_BYTES as CODEC_BYTES
from sidecar.parsing import codec_of, last_end


def seen_beginning(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint of a file of which nothing is taken yet with its beginning, if that can be read.

    Raises FileNotFoundError if another file is there by now.
    """
    try:
        source = open_source(checkpoint.at)
        try:
            identity, head = (source.device, source.inode), source.read(HEAD_BYTES, 0)
        finally:
            source.close()
    except FileNotFoundError:
        raise
    except (OSError, EOFError):
        return checkpoint
    if identity != (checkpoint.device, checkpoint.inode):
        raise FileNotFoundError(errno.ENOENT, "renamed meanwhile", checkpoint.at)
    return msgspec.structs.replace(checkpoint, head=digest(head), head_bytes=len(head))


def at_end_of(checkpoint: Checkpoint, max_line: int, encoding: str, *, whole: bool = True) -> Checkpoint:
    """Return the checkpoint behind the last `whole` line that is there now; else behind all, inside the last line."""
    source = open_source(checkpoint.at)
    try:
        size = source.state().st_size
        codec = codec_of(encoding, source.read(CODEC_BYTES, 0))
        start = max(0, size - max_line) // codec.width * codec.width
        offset = last = start + last_end(source.read(size - start, start), codec)
        if not whole:
            offset = size - size % codec.width
        head = source.read(min(HEAD_BYTES, offset), 0)
        mark = source.read(min(MARK_BYTES, offset), max(0, offset - MARK_BYTES))
    finally:
        source.close()
    return msgspec.structs.replace(
        checkpoint, offset=offset, head=digest(head), head_bytes=len(head), mark=mark, inside_line=offset > last
    )


def behind_hole(checkpoint: Checkpoint) -> Checkpoint:
    """Return the checkpoint behind the hole that a writer leaves who does not notice a truncation."""
    offset = next_data(checkpoint.at)
    head, mark = bytes(min(HEAD_BYTES, offset)), bytes(min(MARK_BYTES, offset))
    return msgspec.structs.replace(checkpoint, offset=offset, head=digest(head), head_bytes=len(head), mark=mark)
