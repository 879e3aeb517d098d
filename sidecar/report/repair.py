"""Makes characters that are none into U+FFFD, as Go's decoder in the proxy does: a mangled one costs no event."""

import re

# An escaped backslash, a surrogate pair, or (group 1) half a pair that stands alone.
_SURROGATES = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def valid_utf8(text: bytes) -> tuple[bytes, bool]:
    """`text` in valid UTF-8, and whether it had to be changed."""
    if text.isascii():
        return text, False
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode(errors="replace").encode(), True
    return text, False


def without_halves(json: bytes) -> bytes:
    """`json` without escapes of half a surrogate pair; only needed where a decoder refused it."""
    return _SURROGATES.sub(_replace_half, json)


def _replace_half(found: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if found[1] else found[0]
