"""Cuts JSON that a strict decoder refuses into its members or elements, without looking inside them. Pure.

The proxy skips fields that it does not know without a look at their escapes or their depth, and of a repeated key it
may take another one than the last. Strict decoders do neither. This is the slow way, for what is odd: it knows strings
and brackets, nothing else, and needs no stack for nesting.
"""

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

MAX_BYTES = 262_144
"""The largest text that is scanned: about 50 ms of work for the worst one. Larger odd texts are refused."""
MAX_DEPTH = 10_000
"""Levels of nesting that the proxy takes (sonic, `MaxDepth`)."""

T = TypeVar("T")
# Possessive (`*+`): no step is taken back, so the time grows only with the length, whatever stands there.
_SPACE = re.compile(rb"[ \t\r\n]*+")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_SCALAR = re.compile(rb"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null")
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|([\[{])|([\]}])', re.DOTALL)


class NotScannable(ValueError):
    """The text is no JSON even for a lenient reader, or too large to be read leniently."""


def members(json: bytes) -> list[tuple[str, bytes]]:
    """Return names and values of the object `json`, in order, repeated ones too. Raises NotScannable."""
    return _walk(json, b"{", b"}", _member)


def elements(json: bytes) -> list[bytes]:
    """Return the elements of the array `json`, in order. Raises NotScannable."""
    return _walk(json, b"[", b"]", _element)


def _walk(json: bytes, opening: bytes, closing: bytes, read: Callable[[bytes, int], tuple[T, int]]) -> list[T]:
    """Return what `read` makes of each part between the brackets; it also says where the part ends."""
    if len(json) > MAX_BYTES:
        raise NotScannable(f"too large to be looked through: over {MAX_BYTES} bytes")
    found: list[T] = []
    place = _skip_space(json, 0)
    if json[place : place + 1] != opening:
        raise NotScannable(f"expected {opening.decode()}")
    place = _skip_space(json, place + 1)
    mark = closing if json[place : place + 1] == closing else b","
    if mark == closing:
        place += 1
    while mark == b",":
        part, end = read(json, place)
        found.append(part)
        end = _skip_space(json, end)
        mark, place = json[end : end + 1], _skip_space(json, end + 1)
    if mark != closing or _skip_space(json, place) != len(json):
        raise NotScannable(f"expected a comma or {closing.decode()}, and then the end")
    return found


def _member(json: bytes, place: int) -> tuple[tuple[str, bytes], int]:
    name = _STRING.match(json, place)
    colon = _skip_space(json, name.end()) if name else 0
    if name is None or json[colon : colon + 1] != b":":
        raise NotScannable("expected a name and a colon")
    start = _skip_space(json, colon + 1)
    end = _end_of(json, start)
    return (_text(name[0]), json[start:end]), end


def _element(json: bytes, place: int) -> tuple[bytes, int]:
    end = _end_of(json, place)
    return json[place:end], end


def _end_of(json: bytes, start: int) -> int:
    """Return the offset after the value that begins at `start`."""
    if json[start : start + 1] not in (b"{", b"["):
        found = _STRING.match(json, start) or _SCALAR.match(json, start)
        if found is None:
            raise NotScannable("expected a value")
        return found.end()
    depth = 0
    for token in _TOKEN.finditer(json, start):
        if token[1]:
            depth += 1
            if depth > MAX_DEPTH:
                raise NotScannable(f"nested deeper than {MAX_DEPTH} levels")
        elif token[2]:
            depth -= 1
            if depth == 0:
                return token.end()
    raise NotScannable("a bracket is not closed")


def _skip_space(json: bytes, place: int) -> int:
    found = _SPACE.match(json, place)
    assert found is not None  # it matches nothing as well
    return found.end()


def _text(string: bytes) -> str:
    """Return the name that `string` spells; as it stands if its escapes are bad."""
    try:
        return msgspec.json.decode(string, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return string.decode(errors="replace")
