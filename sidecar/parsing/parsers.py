"""Finds the fields of a line: JSON, logfmt, or a regular expression with named groups."""

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from sidecar.text.regexes import Pattern, search_all

Format = Literal["raw", "json", "logfmt"]
Fields = dict[str, Any]
ELEMENTS = ""
"""The field that stands for a line that is an array: each of its elements is an event."""
_PAIR = re.compile(r'\s*([^\s="]+)(?:=("(?:[^"\\]|\\.)*"|[^\s"]*))?(?=\s|\Z)')
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}
_decode = msgspec.json.Decoder().decode


class Parsed(msgspec.Struct, frozen=True):
    """The fields of each line, None where it does not parse. `late`: lines that took too long."""

    fields: list[Fields | None]
    late: int = 0


def parse_lines(lines: Sequence[str], rule: Format | Pattern, clock: Callable[[], float]) -> Parsed:
    """Return the fields of each of `lines`, by `rule`."""
    if isinstance(rule, Pattern):
        searched = search_all(rule, lines, clock)
        return Parsed([match.groupdict("") if match else None for match in searched.matches], searched.late)
    parse = {"raw": _raw, "json": _json, "logfmt": _logfmt}[rule]
    return Parsed([parse(line) for line in lines])


def _raw(line: str) -> Fields:
    return {"message": line}


def _json(line: str) -> Fields | None:
    try:
        fields = _decode(line)
    except (msgspec.MsgspecError, RecursionError):
        return None
    if type(fields) is list:
        return {ELEMENTS: fields}
    return fields if type(fields) is dict else None


def _logfmt(line: str) -> Fields | None:
    """Parse `key=value key="a value" flag`; a line without any `=` is none."""
    fields: Fields = {}
    place, pairs = 0, 0
    end = len(line.rstrip())
    while place < end:
        found = _PAIR.match(line, place)
        if found is None:
            return None
        name, value = found[1], found[2]
        pairs += value is not None
        fields[name] = "true" if value is None else _unquoted(value)
        place = found.end()
    return fields if pairs else None


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    return _ESCAPED.sub(lambda found: _ESCAPES.get(found[1], found[1]), value[1:-1])
