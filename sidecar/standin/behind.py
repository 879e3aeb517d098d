"""Models what becomes of an accepted document behind the 200, as measured on the real proxy. Pure.

    accepted ──> decoded a second time ──────────────> items wait for their data_id's next message
                   │ an odd key, a missing target            │ 3,000 items, or `merge_s` after the first
                   └─ the whole document vanishes            └──> the message: passed on, or dropped from 10 MiB on

Sources: bk-collector's `exporter/converter/proxy.go` and `exporter/queue/batch.go`; a whole bk-collector, measured.
"""

import json
import re
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import msgspec

MESSAGE_ITEMS = 3_000
MESSAGE_MAX_BYTES = 10 * 1024 * 1024
_ENVELOPE_BYTES = 400
"""Bytes of a message beside its items: dataid, version, time, and the host's names."""
_EVENT = {"event_name": str, "target": str, "event": dict, "dimension": dict, "timestamp": int}
_SAMPLE = {"metrics": dict, "target": str, "dimension": dict, "timestamp": int}
_EXPONENT = re.compile("[0-9]e[+-]?[0-9]")
_LONGEST_NUMBER = 21
"""Digits of a double that Python writes with an exponent, and Go without."""


class ReportDocument(msgspec.Struct, frozen=True):
    """An accepted document. `number` counts from 1; `at_ms` is since 1970."""

    number: int
    at_ms: int
    data_id: int
    data: list[dict[str, Any]]


class _Message(msgspec.Struct):
    """The next message of one data_id. `items`: how many of each document, in order; `due_s`: when it goes out."""

    due_s: float
    size: int = _ENVELOPE_BYTES
    count: int = 0
    items: list[tuple[ReportDocument, list[dict[str, Any]]]] = []


class Behind:
    """Model the way from a 200 to the platform. `merge_s` 0: each document is a message. Times are in seconds.

    `lost` counts items by what lost them. A document is whole again once all of its items have arrived or are lost.
    """

    def __init__(self, merge_s: float, *, lossless: bool) -> None:
        self.arrived = self.messages = 0
        self.lost: Counter[str] = Counter()
        self._merge_s, self._lossless = merge_s, lossless
        self._waiting: dict[int, _Message] = {}
        self._out: deque[ReportDocument] = deque()

    @property
    def waiting(self) -> int:
        """Return the items that no message has taken yet."""
        return sum(message.count for message in self._waiting.values())

    def accept(self, document: ReportDocument, now_s: float) -> None:
        """Take what was answered with 200."""
        if self._lossless:
            self._arrive(document, document.data)
            return
        items = decode_again(document.data)
        if items is None:
            self.lost["second decoding"] += len(document.data)
            return
        message = self._waiting.get(document.data_id)
        if message is None:
            message = self._waiting[document.data_id] = _Message(now_s + self._merge_s)
        part: list[dict[str, Any]] = []
        message.items.append((document, part))
        for item in items:
            part.append(item)
            message.size += message_bytes(item) + 1
            message.count += 1
            if message.count >= MESSAGE_ITEMS:
                self._send(message)
                part = []
                message.items, message.size, message.count = [(document, part)], _ENVELOPE_BYTES, 0
        if not self._merge_s:
            self.flush(now_s)

    def flush(self, now_s: float) -> None:
        """Send the messages that are due."""
        for data_id, message in list(self._waiting.items()):
            if message.due_s <= now_s:
                del self._waiting[data_id]
                self._send(message)

    def stop(self) -> None:
        """Lose what waits, as the real proxy does at each of its stops."""
        self.lost["restart"] += self.waiting
        self._waiting.clear()

    def take(self) -> Iterator[ReportDocument]:
        """Yield what has arrived since the last time; of a document in parts each part by itself."""
        while self._out:
            yield self._out.popleft()

    def _send(self, message: _Message) -> None:
        if not message.count:
            return
        if message.size >= MESSAGE_MAX_BYTES:
            self.lost["message too large"] += message.count
            return
        self.messages += 1
        for document, items in message.items:
            if items:
                self._arrive(document, items)

    def _arrive(self, document: ReportDocument, items: list[dict[str, Any]]) -> None:
        self.arrived += len(items)
        self._out.append(msgspec.structs.replace(document, data=items))


def decode_again(items: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Return the items as they are published, or None if the second decoding fails, and with it the whole document.

    Keys count without regard to the case of ASCII letters; null leaves a field as it is. Which of two keys counts is
    a matter of luck; here it is always the odd one.
    """
    is_sample = "metrics" in items[0] and not _is_event(items[0])
    fields: dict[str, type] = _SAMPLE if is_sample else _EVENT
    published = []
    for item in items:
        found = {name: item[name] for name in fields if name in item}
        found["dimension"] = {k: v for k, v in found.get("dimension", {}).items() if v is not None}  # as judged before
        for name, value in item.items():
            if name not in fields and name.lower() in fields and value is not None:
                if not _fits(name.lower(), value, fields[name.lower()]):
                    return None
                found[name.lower()] = value
        if is_sample and not isinstance(found.get("target"), str):
            return None
        published.append(found)
    return published


def _is_event(item: dict[str, Any]) -> bool:
    return isinstance(item.get("event"), dict) and "event_name" in item


def _fits(name: str, value: Any, kind: type) -> bool:
    if type(value) is not kind:  # a boolean is no integer either
        return False
    values: list[Any] = list(value.values()) if isinstance(value, dict) else []
    if name == "dimension":
        return all(isinstance(each, str) for each in values)
    return name != "metrics" or all(type(each) in (int, float) for each in values)


def message_bytes(item: dict[str, Any]) -> int:
    """Say how long `item` is in the proxy's message: sonic's compact JSON with HTML escaped, numbers as Go has them."""
    text = json.dumps(item, ensure_ascii=False, separators=(",", ":"))
    size = len(text) if text.isascii() else len(text.encode(errors="replace"))
    size += 5 * (text.count("<") + text.count(">") + text.count("&")) + 4 * (text.count("\\b") + text.count("\\f"))
    if not text.isascii():
        size += 3 * (text.count("\u2028") + text.count("\u2029"))
    return size + sum(_LONGEST_NUMBER for _ in _EXPONENT.finditer(text))
