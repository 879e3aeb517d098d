"""Content-Encoding, within bounds."""

import gzip
import zlib

import pytest

from sidecar.core.errors import Rejected
from sidecar.inputs.http.content import decode

BODY = b'{"data":[]}' * 50


def packed_gzip(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)  # or the bytes would tell the second of their making


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        (b"gzip", packed_gzip(BODY)),
        (b"x-gzip", packed_gzip(BODY)),
        (b" GZIP ", packed_gzip(BODY)),
        (b"deflate", zlib.compress(BODY)),
        (b"deflate", raw_deflate(BODY)),
        (b"identity", BODY),
        (b"", BODY),
        (b"gzip", packed_gzip(BODY[:100]) + packed_gzip(BODY[100:])),
    ],
    ids=["gzip", "x-gzip", "spaces", "deflate", "raw deflate", "identity", "none", "two members"],
)
def test_understood(encoding: bytes, packed: bytes) -> None:
    assert decode(packed, encoding, len(BODY)) == BODY


def test_a_bomb_is_stopped_at_the_limit() -> None:
    with pytest.raises(Rejected, match="when decompressed") as refused:
        decode(packed_gzip(bytes(50_000_000)), b"gzip", 1000)
    assert refused.value.why.status == 413


@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        (b"gzip", packed_gzip(BODY)[:-5], "ends too early"),
        (b"gzip", b"not gzip at all", "damaged"),
        (b"deflate", b"\xff\xff\xff", "damaged"),
        (b"br", BODY, "expected gzip, deflate or none"),
        (b"gzip, gzip", BODY, "not understood"),
    ],
    ids=["cut", "no gzip", "no deflate", "unknown", "twice"],
)
def test_what_cannot_be_decoded_is_refused(encoding: bytes, body: bytes, words: str) -> None:
    with pytest.raises(Rejected, match=words) as refused:
        decode(body, encoding, 1_000_000)
    assert refused.value.why.status == 400
