"""The binary frames that clients of the GSE agent send, and the one answer that they get. Pure.

Source: bkmonitor-datalink, `libgse/gse/gsetype.go` and `client.go`. Every frame begins with 24 bytes, big-endian:

    msgtype u32 │ data_id i32 │ utctime u32 │ bodylen u32 │ reserved 2 × u32 │ bodylen bytes of body
    a dynamic frame's body:
    index u64 │ flags u32 │ metaLen u32 │ metaMaxLen u32 │ metaCount u32 │ metaMaxLen bytes of meta │ data

After a type that does not exist nobody knows where the next frame begins: the decoder is `lost`, for good.
"""

import struct

import msgspec

FIRST_BYTE = 0
"""The first byte of every frame, since all types are small numbers. No JSON text begins with it."""

_COMMON, _OPERATIONS, _DYNAMIC, _GET_CONFIGURATION = 3073, 3084, 9, 10
_TYPES = (_COMMON, _OPERATIONS, _DYNAMIC, _GET_CONFIGURATION)
_HEAD = struct.Struct(">IiII8x")
_DYNAMIC_HEAD = struct.Struct(">QIIII")
_ANSWER_HEAD = struct.Struct(">II")
_MAX_BODY_BYTES = 64_000_000
"""The largest body that is believed. It is larger than any real one, so a longer length means broken data."""


class Frame(msgspec.Struct, frozen=True):
    """A report: bytes for one `data_id`, sent at `sent_s` (seconds since 1970; 0: not said)."""

    data_id: int
    sent_s: int
    data: bytes


class GetConfiguration(msgspec.Struct, frozen=True):
    """The client wants to know this host's address and place."""


class BadFrame(msgspec.Struct, frozen=True):
    """A frame that was not taken; what follows it is not touched."""

    data_id: int
    reason: str


FrameItem = Frame | GetConfiguration | BadFrame


class FrameDecoder:
    """The frames of one connection. Holds at most `max_frame_bytes` and what was read at once."""

    __slots__ = ("_buffer", "_max_bytes", "_skip", "lost")

    def __init__(self, max_frame_bytes: int) -> None:
        self._max_bytes = max_frame_bytes
        self._buffer = bytearray()  # the beginning of a frame that is not whole yet
        self._skip = 0  # bytes still to come of a frame that is not wanted
        self.lost: str | None = None  # why nothing that follows can be understood

    @property
    def unfinished_bytes(self) -> int:
        """Memory held by a frame that is not whole yet."""
        return len(self._buffer)

    def feed(self, data: bytes) -> list[FrameItem]:
        """Return the frames that are whole now, in order. Nothing any more once it is `lost`."""
        items: list[FrameItem] = []
        if self.lost:
            return items
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        self._buffer += data
        start = 0
        while (end := self._next(start, items)) is not None:
            start = end
        del self._buffer[:start]
        return items

    def discard(self, reason: str) -> BadFrame | None:
        """Give up the frame that is not whole, up to its end; None if not even its head is here."""
        if len(self._buffer) < _HEAD.size:
            return None
        head: tuple[int, int, int, int] = _HEAD.unpack_from(self._buffer)
        self._skip = _HEAD.size + head[3] - len(self._buffer)
        self._buffer.clear()
        return BadFrame(head[1], reason)

    def end(self) -> bool:
        """Note that the client sends no more; return whether it left a frame that is not whole."""
        left = bool(self._buffer or self._skip)
        self._buffer.clear()
        self._skip = 0
        return left

    def _next(self, start: int, items: list[FrameItem]) -> int | None:
        """Return where the frame at `start` ends, after adding it to `items`; None: it is not whole."""
        have = len(self._buffer) - start
        if have < _HEAD.size:
            return None
        head: tuple[int, int, int, int] = _HEAD.unpack_from(self._buffer, start)
        kind, data_id, sent_s, length = head
        if kind not in _TYPES or length > _MAX_BODY_BYTES:
            self.lost = f"a frame of type {kind}, of {length} bytes, for data_id {data_id}: no client sends this"
            return len(self._buffer)
        body, end = start + _HEAD.size, start + _HEAD.size + length
        if length > self._max_bytes:
            items.append(BadFrame(data_id, f"a frame of {length} bytes, longer than {self._max_bytes} (max_line)"))
            # The head says where the frame ends, so the rest is skipped without holding it in memory.
            self._skip = max(0, end - len(self._buffer))
            return min(end, len(self._buffer))
        if have < _HEAD.size + length:
            return None
        items.append(self._item(kind, data_id, sent_s, bytes(self._buffer[body:end])))
        return end

    def _item(self, kind: int, data_id: int, sent_s: int, body: bytes) -> FrameItem:
        if kind == _GET_CONFIGURATION:
            return GetConfiguration()
        if kind == _DYNAMIC:
            if len(body) < _DYNAMIC_HEAD.size:
                return BadFrame(data_id, f"a dynamic frame of {len(body)} bytes, too short for its own head")
            # metaMaxLen, not metaLen: clients fill the meta with zeros up to metaMaxLen (408 by default).
            _, _, _, meta_bytes, _ = _DYNAMIC_HEAD.unpack_from(body)
            if _DYNAMIC_HEAD.size + meta_bytes > len(body):
                return BadFrame(data_id, f"{meta_bytes} bytes of meta in a frame of {len(body)}")
            body = body[_DYNAMIC_HEAD.size + meta_bytes :]
        return Frame(data_id, sent_s, body)


def configuration(*, ip: str, cloud_id: int, biz_id: int, hostname: str, agent_id: str) -> bytes:
    """Return the answer to `GetConfiguration`; to be written at once, since clients read it in two reads."""
    body = msgspec.json.encode(
        {
            "bizid": biz_id,
            "bk_biz_id": biz_id,
            "cloudid": cloud_id,
            "ip": ip,
            "bk_agent_id": agent_id,
            "hostname": hostname,
        }
    )
    return _ANSWER_HEAD.pack(_GET_CONFIGURATION, len(body)) + body
