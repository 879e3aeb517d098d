"""Makes one report out of consecutive chunks without looking into them. Pure."""

from collections.abc import Sequence

import msgspec

from sidecar.core.model import Chunk, StreamKey

_TAIL = b"]}"


def head(key: StreamKey) -> bytes:
    """Everything of the report before its first event."""
    return b'{"data_id":%d,"access_token":%b,"data":[' % (key.data_id, msgspec.json.encode(key.token))


def room_bytes(key: StreamKey, max_body_bytes: int) -> int:
    """Return the bytes of comma-joined events that fit a body of `max_body_bytes`."""
    return max_body_bytes - len(head(key)) - len(_TAIL)


def splice(key: StreamKey, chunks: Sequence[Chunk]) -> bytes:
    """Return the body of one report with the events of `chunks`, in order."""
    first, *others = [chunk.body for chunk in chunks]
    between = [part for body in others for part in (b",", body)]
    return b"".join((head(key), first, *between, _TAIL))  # one copy of half a megabyte


def fitting(chunks: Sequence[Chunk], max_bytes: int) -> Sequence[Chunk]:
    """Return the first of `chunks` that fit `max_bytes` joined by commas; at least one."""
    left = max_bytes
    for count, chunk in enumerate(chunks):
        if count and len(chunk.body) > left:
            return chunks[:count]
        left -= len(chunk.body) + 1
    return chunks
