"""Counts the strings in a piece of JSON, to tell duplicate keys that a decoder silently merges. Pure.

Decoding keeps one of each name, so a document has duplicates exactly if it spells more strings (names and values) than
were decoded.
"""

import re
from typing import Any

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def strings_written(json: bytes) -> int:
    """Return how many strings stand in `json`, which must be valid JSON. Exact.

    Every string has two quotes, and a quote inside a string is written with a backslash before it; only where
    backslashes themselves are escaped need the strings be told apart one by one.
    """
    if b"\\" not in json:
        return json.count(b'"') // 2
    if b"\\\\" not in json:
        return (json.count(b'"') - json.count(b'\\"')) // 2
    return sum(1 for _ in _STRING.finditer(json))


def strings_decoded(value: Any) -> int:
    """Return how many strings a decoded value is made of, names and values together."""
    if type(value) is str:
        return 1
    if type(value) is dict:
        return len(value) + sum(map(strings_decoded, value.values()))
    if type(value) is list:
        return sum(map(strings_decoded, value))
    return 0
