"""Packs the body of a chunk for the disk: as it is, or zstd where that is worth it; either way with a checksum.

A `Codec` belongs to one thread, since zstandard's contexts do.
"""

import zlib

import zstandard

RAW, ZSTD, CHECKED = 0, 1, 2
"""The formats of a body: plain (older versions); a zstd frame with its checksum; plain, then CRC-32 in four bytes."""
_CRC_BYTES = 4
_WORTH_TRYING_BYTES = 512
_WORTH_KEEPING = 0.9


class Codec:
    """Packs and unpacks bodies."""

    def __init__(self) -> None:
        # Measured: with level 1 the intake is faster than without zstd, since far fewer bytes are written.
        self._packer = zstandard.ZstdCompressor(level=1, write_checksum=True)
        self._unpacker = zstandard.ZstdDecompressor()

    def pack(self, body: bytes) -> tuple[int, bytes]:
        """Return the codec's number and the bytes to store."""
        if len(body) >= _WORTH_TRYING_BYTES:
            packed = self._packer.compress(body)
            if len(packed) <= len(body) * _WORTH_KEEPING:
                return ZSTD, packed
        # SQLite's pages have no checksum: it would hand out a flipped bit as if it were right.
        return CHECKED, body + zlib.crc32(body).to_bytes(_CRC_BYTES)

    def unpack(self, codec: int, stored: bytes, size: int) -> bytes:
        """Return the body, `size` bytes of it. Raises ValueError if the stored bytes are damaged."""
        if codec == CHECKED:
            body = stored[:-_CRC_BYTES]
            if zlib.crc32(body).to_bytes(_CRC_BYTES) != stored[-_CRC_BYTES:]:
                raise ValueError("the checksum is wrong")
        elif codec == ZSTD:
            try:
                body = self._unpacker.decompress(stored, max_output_size=size)
            except zstandard.ZstdError as error:
                raise ValueError(str(error)) from error
        elif codec == RAW:
            body = stored
        else:
            raise ValueError(f"no codec has the number {codec}")
        if len(body) != size:
            raise ValueError(f"{len(body)} bytes, expected {size}")
        return body
