"""Reads files whose columns are named by a line of their own: CSV, W3C (IIS), Zeek. Pure.

    csv     time,level,message                     the first line of the file, unless the columns are configured
    w3c     #Fields: date time cs-method           also further on, when the server was started again
    zeek    #fields<TAB>ts<TAB>uid                 other lines that begin with # are none of both

The names hold until the next such line, for all that follows: whoever reads on in the middle of a file has to know
those of before (`last_columns`).
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

Columns = tuple[str, ...]
_DIRECTIVES = {"w3c": "#Fields:", "zeek": "#fields\t"}
_UNSET = {"w3c": ("-",), "zeek": ("-", "(empty)")}
_MOST_COLUMNS = 1000
_HEADER_BYTES = 64 * 1024
"""A line with names is at most so long."""
_SEARCH_BYTES = 1 << 20


class DelimitedRule(msgspec.Struct, frozen=True, kw_only=True):
    """Say how a line is split into columns. `columns`: their names, of CSV; empty: the file says."""

    format: Literal["csv", "w3c", "zeek"]
    delimiter: str = ","
    columns: Columns = ()


class Rows(msgspec.Struct, frozen=True):
    """The rows of some lines: the fields of each, None where it does not fit, `COMMENT` where it is no row.

    `columns` are the names behind the last line.
    """

    found: list[Mapping[str, str] | None]
    columns: Columns


COMMENT: Mapping[str, str] = {}


def read_rows(lines: Sequence[str], rule: DelimitedRule, columns: Columns, *, at_start: bool) -> Rows:
    """Return the rows of `lines`, which follow upon `columns`. `at_start`: the first one is the file's first."""
    split = _splitter(rule)
    rows: list[Mapping[str, str] | None] = []
    columns = rule.columns or columns
    for number, line in enumerate(lines):
        named = _named(line, rule, split) if number or not at_start or rule.format != "csv" else tuple(split(line))
        if named is not None and not (rule.columns and named != columns):
            columns = rule.columns or named[:_MOST_COLUMNS]
            rows.append(COMMENT)
        elif rule.format != "csv" and line.startswith("#"):
            rows.append(COMMENT)
        else:
            rows.append(_row(split(line), columns, rule))
    return Rows(rows, columns)


def last_columns(read: Callable[[int, int], bytes], offset: int, rule: DelimitedRule) -> Columns:
    """Return the names that hold at `offset` of a file, of which `read(size, offset)` returns bytes."""
    if rule.columns or not offset:
        return rule.columns
    split = _splitter(rule)
    if rule.format == "csv":
        return tuple(split(_first_line(read(_HEADER_BYTES, 0))))[:_MOST_COLUMNS]
    directive = _DIRECTIVES[rule.format].encode()
    end = offset
    while end > 0:
        start = max(0, end - _SEARCH_BYTES)
        data = read(end - start + _HEADER_BYTES, start)
        found = _last_line(data, directive, end - start, is_first=start == 0)
        if found is not None:
            return (_named(_first_line(data[found:]), rule, split) or ())[:_MOST_COLUMNS]
        end = start
    return ()


def _first_line(data: bytes) -> str:
    return data.split(b"\n", 1)[0].decode(errors="replace").removeprefix("\ufeff").rstrip("\r")


def _last_line(data: bytes, begins: bytes, before: int, *, is_first: bool) -> int | None:
    """Return where the last line stands that begins so, and begins before that place."""
    found = data.rfind(b"\n" + begins, 0, before + len(begins) - 1)
    if found >= 0:
        return found + 1
    return 0 if is_first and data.startswith(begins) else None


def _splitter(rule: DelimitedRule) -> Callable[[str], list[str]]:
    if rule.format == "zeek":
        return lambda line: line.split("\t")
    if rule.format == "w3c":
        return str.split
    return lambda line: _split_csv(line, rule.delimiter)


def _split_csv(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a field that is too long: the line does not fit
        return []


def _named(line: str, rule: DelimitedRule, split: Callable[[str], list[str]]) -> Columns | None:
    """Return the names that a line gives; None if it gives none."""
    if rule.format == "csv":
        return tuple(rule.columns) if rule.columns and tuple(split(line)) == rule.columns else None
    directive = _DIRECTIVES[rule.format]
    return tuple(split(line.removeprefix(directive))) if line.startswith(directive) else None


def _row(values: Sequence[str], columns: Columns, rule: DelimitedRule) -> Mapping[str, str] | None:
    if len(values) != len(columns):
        return None
    unset = _UNSET.get(rule.format, ())
    return {name: "" if value in unset else value for name, value in zip(columns, values, strict=True)}
