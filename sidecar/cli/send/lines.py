"""Cuts a file into numbered lines, and lines into the events that stand in them. Pure.

A line is a bare event where it is said what pipe it is for, else a report.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from sidecar.cli.send.event import Given, Item, complete
from sidecar.cli.send.outbox import Pipe
from sidecar.core.errors import Place, Rejected
from sidecar.report import describe, foreign, mended, open_envelope, valid_utf8

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
        self._rest: list[bytes] = []  # pieces of the line that has no end yet
        self._rest_bytes = 0

    def feed(self, data: bytes) -> Iterator[Line]:
        """Return the lines that are whole now."""
        first, *more = data.split(b"\n")
        self._keep(first)
        for part in more:
            yield from self._end()
            self._keep(part)

    def end(self) -> Iterator[Line]:
        """Return the last line, if it has no end."""
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
    """Return where a line goes, and the events in it. Raises Rejected that says what is wrong with it."""
    if line.text is None:
        raise Rejected(413, f"longer than {MAX_LINE_BYTES} bytes")
    if pipe is None:
        pipe, events = _open_report(line.text)
        items = [_item(bytes(event), ("data", index), given, now_ms) for index, event in enumerate(events)]
        places: list[int | None] = list(range(len(items)))
    else:
        items, places = [_item(line.text, (), given, now_ms)], [None]
    sizes = [len(line.text) + 1] + [0] * (len(items) - 1)
    return pipe, [
        msgspec.structs.replace(item, line=line.number, index=index, size_bytes=size)
        for item, index, size in zip(items, places, sizes, strict=True)
    ]


def _item(text: bytes, place: Place, given: Given, now_ms: int) -> Item:
    clean, event = _decode(text)
    if type(event) is not dict:
        raise Rejected(400, f"expected an event such as {_EXAMPLE}, got {describe(event)}", place, scope="event")
    if not place and type(event.get("data")) is list:
        raise Rejected(400, "expected an event, got a report; those go without --stream and --data-id")
    try:
        return complete(clean, event, given, now_ms)
    except (OverflowError, ValueError, RecursionError):
        raise Rejected(400, "a number is out of range, or it is nested too deep", place, scope="event") from None


def _decode(text: bytes) -> tuple[bytes, Any]:
    clean, _ = valid_utf8(text)
    try:
        try:
            return clean, msgspec.json.decode(clean)
        except msgspec.DecodeError:
            better = mended(clean)
            return better, msgspec.json.decode(better)
    except msgspec.DecodeError as error:
        raise Rejected(400, f"{foreign(error)}; expected an event such as {_EXAMPLE}") from None
    except RecursionError:
        raise Rejected(400, "nested too deep") from None


def _open_report(text: bytes) -> tuple[Pipe, list[msgspec.Raw]]:
    try:
        envelope = open_envelope(text)
    except Rejected as rejected:
        why = rejected.why
        hint = "; for bare events say --stream NAME, or --data-id N and its token" if _is_bare_event(text) else ""
        place = () if why.place == ("body",) else why.place
        raise Rejected(why.status, why.problem + hint, place, scope=why.scope) from None
    events = _split(envelope.data)
    if not events:
        raise Rejected(400, "empty, expected at least one event", ("data",))
    return Pipe(envelope.data_id, envelope.token, envelope.stream), events


def _is_bare_event(text: bytes) -> bool:
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return type(document) is dict and "data" not in document and ("event_name" in document or "metrics" in document)
