"""Makes good JSON of what the proxy's decoder takes and others refuse: a mangled character costs no event. Pure.

invalid UTF-8, half a surrogate pair    U+FFFD
a raw newline, tab or other control     its escape, as `\\n`
"""

import re

# An escaped backslash, a surrogate pair, or (group 1) half a pair that stands alone.
_SURROGATES = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)
# Anything with strings that hold no control character (group 1), and then a string that may hold some (group 2).
_CONTROLS = re.compile(
    rb'((?:[^"]++|"[^"\\\x00-\x1f]*+(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*+)*+")*+)("[^"\\]*+(?:\\.[^"\\]*+)*+")', re.DOTALL
)
# A character behind a backslash, which is its escape or a bad one (group 1), or a control character.
_CONTROL = re.compile(rb"(\\.)|[\x00-\x1f]", re.DOTALL)
_ESCAPES = {b"\n": rb"\n", b"\r": rb"\r", b"\t": rb"\t"}


def valid_utf8(text: bytes) -> tuple[bytes, bool]:
    """Return `text` in valid UTF-8, and whether it had to be changed."""
    if text.isascii():
        return text, False
    try:
        text.decode()
    except UnicodeDecodeError:
        return text.decode(errors="replace").encode(), True
    return text, False


def mended(json: bytes) -> bytes:
    """Return `json` with raw control characters in strings escaped, and halves of surrogate pairs replaced.

    Only needed where a decoder refused it. `json` need not be good otherwise.
    """
    return _SURROGATES.sub(_replace_half, _escape_controls(json))


def _escape_controls(json: bytes) -> bytes:
    parts, place = [], 0
    while found := _CONTROLS.match(json, place):
        parts += [found[1], _CONTROL.sub(_escape, found[2])]
        place = found.end()
    return b"".join([*parts, json[place:]])


def _escape(found: re.Match[bytes]) -> bytes:
    if found[1]:
        return found[1]
    return _ESCAPES.get(found[0]) or rb"\u%04x" % found[0][0]


def _replace_half(found: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if found[1] else found[0]
