"""Cuts a file into numbered lines, and lines into the events that stand in them. Pure.

A line is a bare event where it is said what pipe it is for, else a report.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from sidecar.cli.send.event import Given, Item, complete
from sidecar.cli.send.report import Pipe
from sidecar.errors import Refused
from sidecar.report import open_envelope
from sidecar.report.repair import mended, valid_utf8
from sidecar.report.words import describe, foreign

MAX_LINE_BYTES = 5_000_000
_BOM = b"\xef\xbb\xbf"
_EXAMPLE = '{"event_name": "login_failed", "event": {"content": "..."}, "dimension": {...}}'
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Line(msgspec.Struct, frozen=True, gc=False):
    """A line that is not blank, without its end; blank ones are counted too. `text` None: it was too long."""

    number: int
    text: bytes | None


class LineCutter:
    """The lines of one file, which comes in pieces."""

    def __init__(self, max_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._number = 0
        self._rest: list[bytes] = []
        self._rest_bytes = 0

    def feed(self, data: bytes) -> Iterator[Line]:
        """The lines that are whole now."""
        first, *more = data.split(b"\n")
        self._keep(first)
        for part in more:
            yield from self._end()
            self._keep(part)

    def end(self) -> Iterator[Line]:
        """The last line, if it has no end."""
        if self._rest_bytes:
            yield from self._end()

    def _keep(self, part: bytes) -> None:
        self._rest_bytes += len(part)
        if self._rest_bytes > self._max_bytes:
            self._rest = []
        elif part:
            self._rest.append(part)

    def _end(self) -> Iterator[Line]:
        self._number += 1
        text = b"".join(self._rest)
        if self._rest_bytes > self._max_bytes:
            yield Line(self._number, None)
        elif text := (text.removeprefix(_BOM) if self._number == 1 else text).strip():
            yield Line(self._number, text)
        self._rest, self._rest_bytes = [], 0


def items_of(line: Line, pipe: Pipe | None, given: Given, now_ms: int) -> tuple[Pipe, list[Item]]:
    """What stands in a line, and where it goes. Raises Refused that says what is wrong with it."""
    if line.text is None:
        raise Refused(413, f"longer than {MAX_LINE_BYTES} bytes")
    if pipe is None:
        pipe, events = _open_report(line.text)
        items = [_item(bytes(event), f"data[{index}]: ", given, now_ms) for index, event in enumerate(events)]
        places: list[int | None] = list(range(len(items)))
    else:
        items, places = [_item(line.text, "", given, now_ms)], [None]
    sizes = [len(line.text) + 1] + [0] * (len(items) - 1)
    return pipe, [
        msgspec.structs.replace(item, line=line.number, index=index, size_bytes=size)
        for item, index, size in zip(items, places, sizes, strict=True)
    ]


def _item(text: bytes, place: str, given: Given, now_ms: int) -> Item:
    clean, event = _decode(text)
    if type(event) is not dict:
        raise Refused(400, f"{place}expected an event such as {_EXAMPLE}, got {describe(event)}")
    if not place and type(event.get("data")) is list:
        raise Refused(400, "expected an event, got a report; those go without --stream and --data-id")
    try:
        return complete(clean, event, given, now_ms)
    except (OverflowError, ValueError, RecursionError):
        raise Refused(400, f"{place}a number is out of range, or it is nested too deep") from None


def _decode(text: bytes) -> tuple[bytes, Any]:
    clean, _ = valid_utf8(text)
    try:
        try:
            return clean, msgspec.json.decode(clean)
        except msgspec.DecodeError:
            better = mended(clean)
            return better, msgspec.json.decode(better)
    except msgspec.DecodeError as error:
        raise Refused(400, f"{foreign(error)}; expected an event such as {_EXAMPLE}") from None
    except RecursionError:
        raise Refused(400, "nested too deep") from None


def _open_report(text: bytes) -> tuple[Pipe, list[msgspec.Raw]]:
    try:
        envelope = open_envelope(text)
    except Refused as refused:
        bare = refused.message.startswith("data_id: missing") and (b'"event_name"' in text or b'"metrics"' in text)
        hint = "; for bare events say --stream NAME, or --data-id N and its token" if bare else ""
        raise Refused(refused.status, refused.message.removeprefix("body: ") + hint) from None
    events = _split(envelope.data)
    if not events:
        raise Refused(400, "data: empty, expected at least one event")
    return Pipe(envelope.data_id, envelope.token, envelope.stream), events
