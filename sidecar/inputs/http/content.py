"""Undoes Content-Encoding, never beyond a limit. Pure."""

import zlib

from sidecar.core.errors import Rejected

_WBITS = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}
_RAW_DEFLATE = -15
_MAX_MEMBERS = 32
"""The most members of a gzip body: more than anybody sends. Each member costs a copy of the bytes behind it."""


def decode(body: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """Return the body as it was before `encoding`.

    Raises Rejected: 413 beyond `max_bytes`, 400 if damaged or unknown.
    """
    encoding = encoding.strip().lower()
    if encoding in (b"", b"identity"):
        return body
    if encoding not in _WBITS:
        shown = encoding[:40].decode("latin-1")
        raise Rejected(400, f"{shown} is not understood, expected gzip, deflate or none", ("Content-Encoding",))
    wbits = _WBITS[encoding]
    if encoding == b"deflate" and not _has_zlib_header(body):
        wbits = _RAW_DEFLATE  # some clients mean the bare format
    return _inflate(body, wbits, max_bytes)


def _inflate(body: bytes, wbits: int, max_bytes: int) -> bytes:
    pieces, size = [], 0
    try:
        for _ in range(_MAX_MEMBERS):
            inflater = zlib.decompressobj(wbits)
            # One byte beyond the limit is enough to refuse: a few KB can inflate to gigabytes.
            piece = inflater.decompress(body, max_bytes - size + 1)
            size += len(piece)
            if size > max_bytes:
                raise Rejected(413, f"larger than {max_bytes} bytes when decompressed", ("body",))
            if not inflater.eof:
                raise Rejected(400, "compressed data ends too early", ("body",))
            pieces.append(piece)
            body = inflater.unused_data  # gzip allows several members
            if not body:
                return b"".join(pieces)
    except zlib.error as error:
        raise Rejected(400, f"compressed data is damaged: {error}", ("body",)) from None
    raise Rejected(400, f"more than {_MAX_MEMBERS} compressed members", ("body",))


def _has_zlib_header(body: bytes) -> bool:
    return len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
