"""How the body of a chunk stands on disk: as it is, or zstd where that is worth it.

A `Codec` belongs to one thread, since zstandard's contexts do.
"""

import zstandard

RAW, ZSTD = 0, 1
_WORTH_TRYING_BYTES = 512
_WORTH_KEEPING = 0.9


class Codec:
    """Packs and unpacks bodies."""

    def __init__(self) -> None:
        self._packer = zstandard.ZstdCompressor(level=1, write_checksum=True)
        self._unpacker = zstandard.ZstdDecompressor()

    def pack(self, body: bytes) -> tuple[int, bytes]:
        """The codec's number and the bytes to store."""
        if len(body) >= _WORTH_TRYING_BYTES:
            packed = self._packer.compress(body)
            if len(packed) <= len(body) * _WORTH_KEEPING:
                return ZSTD, packed
        return RAW, body

    def unpack(self, codec: int, stored: bytes, size: int) -> bytes:
        """The body, `size` bytes of it. Raises ValueError if the stored bytes are damaged."""
        try:
            body = stored if codec == RAW else self._unpacker.decompress(stored, max_output_size=size)
        except zstandard.ZstdError as error:
            raise ValueError(f"damaged chunk: {error}") from error
        if len(body) != size:
            raise ValueError(f"damaged chunk: {len(body)} bytes, expected {size}")
        return body
