"""Checks a block of lines, each a bare event or a report: what is good goes on, what is bad costs nothing else."""

from collections.abc import Iterator
from typing import Any

import msgspec

from sidecar.core.errors import Rejected, Rejection
from sidecar.core.model import Block, Kind
from sidecar.report.careful import Rules, check_item, kind_of
from sidecar.report.check import cut, too_large
from sidecar.report.fast import judge_plain_lines
from sidecar.report.repair import mended, valid_utf8
from sidecar.report.words import foreign


class CheckedLines(msgspec.Struct, frozen=True, gc=False):
    """The lines of a block, by what they are. Numbers count lines from 0; `reports` are still to be checked."""

    blocks: dict[Kind, list[Block]]
    reports: list[tuple[int, bytes]]
    rejected: list[tuple[int, Rejection]]
    repaired: int


def check_lines(
    block: bytes, rules: Rules, *, now_ms: int, block_bytes: int, event_bytes: int, skew_ms: int = 0
) -> CheckedLines:
    """Check bare events. `block` is whole lines, each with its end and none of them blank. Never raises."""
    if len(block) <= event_bytes:
        kind = judge_plain_lines(block, rules.kind, now_ms + skew_ms)
        if kind is not None:
            return CheckedLines({kind: list(_cut_lines(block, block_bytes))}, [], [], 0)
    return _Careful(rules, now_ms, skew_ms, event_bytes).check(block.split(b"\n")[:-1], block_bytes)


def _cut_lines(block: bytes, block_bytes: int) -> Iterator[Block]:
    start = 0
    while start < len(block):
        end = block.rfind(b"\n", start, start + block_bytes + 1)
        if end < 0:
            end = block.index(b"\n", start)
        part = block[start:end]
        yield Block(part.replace(b"\n", b","), part.count(b"\n") + 1)
        start = end + 1


class _Careful:
    """One line after the other."""

    def __init__(self, rules: Rules, now_ms: int, skew_ms: int, event_bytes: int) -> None:
        self._rules, self._now_ms, self._skew_ms, self._event_bytes = rules, now_ms, skew_ms, event_bytes
        self._good: dict[tuple[Kind, int | None], list[bytes]] = {}
        self._reports: list[tuple[int, bytes]] = []
        self._rejected: list[tuple[int, Rejection]] = []
        self._repaired = 0

    def check(self, lines: list[bytes], block_bytes: int) -> CheckedLines:
        for number, line in enumerate(lines):
            try:
                self._sort(number, line)
            except Rejected as rejected:
                self._rejected.append((number, rejected.why))
        blocks: dict[Kind, list[Block]] = {}
        for (kind, due_ms), pieces in self._good.items():
            blocks.setdefault(kind, []).extend(cut(pieces, block_bytes, due_ms))
        return CheckedLines(blocks, self._reports, self._rejected, self._repaired)

    def _sort(self, number: int, line: bytes) -> None:
        clean, repaired = valid_utf8(line)
        try:
            document = msgspec.json.decode(clean)
        except (msgspec.DecodeError, RecursionError):
            whole = mended(clean)
            clean, repaired = whole, repaired or whole != clean
            document = _decode_or_reject(clean)
        if type(document) is dict and _is_report(document):
            self._reports.append((number, line))
            return
        kind = self._rules.kind or kind_of(clean)
        item = check_item(clean, kind, self._rules, self._now_ms, self._skew_ms)
        if len(item.json) > self._event_bytes:
            raise too_large(len(item.json), self._event_bytes)
        self._repaired += repaired or item.repaired
        self._good.setdefault((kind, item.due_ms), []).append(item.json)


def _decode_or_reject(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        raise Rejected(400, foreign(error), scope="event") from None
    except RecursionError:  # perhaps in a field that nobody looks at
        return None


def _is_report(document: dict[str, Any]) -> bool:
    if "event" in document or "metrics" in document:
        return False
    # The proxy reads the names of the top level without regard to case.
    return any(type(value) is list and name.lower() == "data" for name, value in document.items())
