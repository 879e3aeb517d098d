"""Content-Encoding, within bounds."""

import gzip
import zlib

import pytest

from sidecar.errors import Refused
from sidecar.inputs.http.content import decode

BODY = b'{"data":[]}' * 50


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        (b"gzip", gzip.compress(BODY)),
        (b"x-gzip", gzip.compress(BODY)),
        (b" GZIP ", gzip.compress(BODY)),
        (b"deflate", zlib.compress(BODY)),
        (b"deflate", raw_deflate(BODY)),
        (b"identity", BODY),
        (b"", BODY),
        (b"gzip", gzip.compress(BODY[:100]) + gzip.compress(BODY[100:])),
    ],
)
def test_understood(encoding: bytes, packed: bytes) -> None:
    assert decode(packed, encoding, len(BODY)) == BODY


def test_a_bomb_is_stopped_at_the_limit() -> None:
    with pytest.raises(Refused, match="when decompressed") as refused:
        decode(gzip.compress(bytes(50_000_000)), b"gzip", 1000)
    assert refused.value.status == 413


@pytest.mark.parametrize(
    ("encoding", "body", "words"),
    [
        (b"gzip", gzip.compress(BODY)[:-5], "ends too early"),
        (b"gzip", b"not gzip at all", "damaged"),
        (b"deflate", b"\xff\xff\xff", "damaged"),
        (b"br", BODY, "expected gzip, deflate or none"),
        (b"gzip, gzip", BODY, "not understood"),
    ],
)
def test_what_cannot_be_decoded_is_refused(encoding: bytes, body: bytes, words: str) -> None:
    with pytest.raises(Refused, match=words) as refused:
        decode(body, encoding, 1_000_000)
    assert refused.value.status == 400
