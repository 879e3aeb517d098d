"""In which encodings a file may be, and how a run of its bytes becomes UTF-8.

Where a line ends is found in the bytes themselves, so an encoding must write the end of a line as the one byte that it
is in ASCII, and use that byte for nothing else; or be one of those of two or four bytes a character.
"""

import codecs
from typing import Literal

import msgspec

_REPLACEMENT = "\ufffd"
_NO_BYTE_FOR_IT = ("utf_7", "hz", "iso2022", "idna", "punycode", "unicode_escape", "raw_unicode_escape")
_MARKS: dict[str, tuple[tuple[bytes, Literal["little", "big"]], ...]] = {
    "utf-16": ((codecs.BOM_UTF16_LE, "little"), (codecs.BOM_UTF16_BE, "big")),
    "utf-32": ((codecs.BOM_UTF32_LE, "little"), (codecs.BOM_UTF32_BE, "big")),
}
HEAD_BYTES = 4
"""Bytes at the beginning of a file that show its byte order."""


class TextCodec(msgspec.Struct, frozen=True):
    """The encoding of one file. A unit of it has `width` bytes."""

    name: str
    width: int = 1

    @property
    def newline(self) -> bytes:
        """Return how the end of a line is written."""
        return "\n".encode(self.name)

    def decode(self, data: bytes) -> tuple[str, int]:
        """Return the text of whole lines, and how many characters were replaced in it."""
        try:
            return data.decode(self.name), 0
        except UnicodeDecodeError:
            text = data.decode(self.name, "replace")
            return text, text.count(_REPLACEMENT) or 1


def encoding_of(name: str) -> str:
    """Return the usual name of an encoding that can be tailed. Raises ValueError."""
    expected = "an encoding such as utf-8, utf-16, gb18030, gbk, big5 or latin-1"
    try:
        info = codecs.lookup(name)
        "\n".encode(info.name)
    except (LookupError, ValueError):
        raise ValueError(expected) from None
    found = info.name
    # Python also has codecs such as `hex`, which make bytes of bytes.
    if not getattr(info, "_is_text_encoding", True) or found.replace("-", "_").startswith(_NO_BYTE_FOR_IT):
        raise ValueError(expected)
    if not found.startswith(("utf-16", "utf-32")) and "\n".encode(found) != b"\n":
        raise ValueError(f"{expected}; in {found} a line does not end as in ASCII")
    return "utf-8" if found in ("ascii", "utf-8-sig") else found


def codec_of(encoding: str, head: bytes) -> TextCodec:
    """Return how a file is encoded that begins with `head`, and is said to be in `encoding`, by its usual name."""
    width = {"utf-16": 2, "utf-32": 4}.get(encoding[:6], 1)
    for mark, order in _MARKS.get(encoding, ()):
        if head.startswith(mark):
            return TextCodec(f"{encoding}-{order[0]}e", width)
    return TextCodec(f"{encoding}-le" if encoding in _MARKS else encoding, width)
