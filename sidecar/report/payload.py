"""Makes events of what clients of the GSE agent put into a frame: whole reports, single events, or plain text.

    bkmonitorbeat -report      {"dataid": ..., "data": [items], ...}
    gsecmdline -l TEXT         {"_value_": [TEXT], "_server_": ..., ...}
    gsecmdline -J OBJECT       the object, with such fields added
    gsecmdline -s RAW          bare bytes

Source: bkmonitor-datalink, `bkmonitorbeat/report/sender/agent`; documentation of gsecmdline. These clients get no
answer, so nothing here is refused as a whole: what cannot be sent is handed back, with the reason.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from sidecar.core.errors import Rejected
from sidecar.core.model import Block, Kind
from sidecar.report.careful import Rules, check_item, kind_of
from sidecar.report.check import check_items, cut, too_large
from sidecar.report.limits import SECONDS_MAX, SECONDS_MIN
from sidecar.report.repair import mended, valid_utf8


class TextRule(msgspec.Struct, frozen=True, kw_only=True):
    """The rule that makes an event of plain text."""

    event_name: str
    target: str


class CheckedPayload(msgspec.Struct, frozen=True, gc=False):
    """The events of a frame. `dead`: what can never be sent, as JSON, with its kind and the reason."""

    blocks: dict[Kind, list[Block]]
    dead: list[tuple[Kind, bytes, str]]
    repaired: bool

    def kinds(self) -> set[Kind]:
        """Return the kinds of the events."""
        return {*self.blocks, *(kind for kind, _, _ in self.dead)}

    def all_dead(self, reason: str) -> "CheckedPayload":
        """Return the same, if none of it can be sent, for `reason`."""
        good = [
            (kind, bytes(item), reason)
            for kind, blocks in self.blocks.items()
            for block in blocks
            for item in _split(b"[%b]" % block.body)
        ]
        return CheckedPayload({}, good + self.dead, self.repaired)


class _Document(msgspec.Struct):
    data: msgspec.Raw = msgspec.Raw(b"")
    value: Any = msgspec.field(name="_value_", default=None)
    event: msgspec.Raw = msgspec.Raw(b"")
    metrics: msgspec.Raw = msgspec.Raw(b"")


_decode = msgspec.json.Decoder(_Document).decode
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_FALLBACK_BYTES = 4096
_MAX_ITEMS = 5_000
"""The most items of a frame with a bad item that are checked one by one. A larger frame becomes one dead letter."""


def check_payload(
    payload: bytes,
    rules: Rules,
    text_rule: TextRule,
    *,
    sent_s: int,
    now_ms: int,
    block_bytes: int,
    event_bytes: int,
    skew_ms: int = 0,
) -> CheckedPayload:
    """Return the events in `payload`, which a client sent at `sent_s` by its own clock (0: not said). Never raises."""
    clean, repaired = valid_utf8(payload.strip(b"\0"))
    better = mended(clean)
    items, texts = _look_into(clean) or _look_into(better) or ([], [clean.decode().strip()])
    repaired |= better != clean and bool(items)
    if len(texts) > _MAX_ITEMS:
        texts = [clean.decode()]
    # Nothing was sent in the future: then the clock of the client is wrong, and ours counts.
    stamp_ms = sent_s * 1000 if SECONDS_MIN <= sent_s <= SECONDS_MAX and sent_s * 1000 <= now_ms else now_ms
    items = [*items, *(_text_event(text, text_rule, stamp_ms, event_bytes) for text in texts)]
    limits = {"block_bytes": block_bytes, "event_bytes": event_bytes}
    try:
        good = check_items(b"[%b]" % b",".join(items), rules, now_ms=now_ms, skew_ms=skew_ms, **limits)
        return CheckedPayload({good.kind: good.blocks}, [], repaired or good.repaired)
    except (Rejected, msgspec.DecodeError, RecursionError):
        if len(items) > _MAX_ITEMS:
            reason = f"{len(items)} items, and some are bad; at most {_MAX_ITEMS} are looked at one by one"
            return CheckedPayload({}, [("event", b"[%b]" % b",".join(items), reason)], repaired)
        return _one_by_one(items, rules, now_ms, skew_ms, limits, repaired=repaired)


def _look_into(clean: bytes) -> tuple[list[bytes], list[str]] | None:
    """Return the items that stand in it, as JSON, or the texts; None if it is no document of these clients."""
    try:
        document = _decode(clean)
    except (msgspec.MsgspecError, RecursionError):
        return None
    if bytes(document.data).startswith(b"["):
        return [bytes(item) for item in _split(document.data)], []
    if bytes(document.event) or bytes(document.metrics):
        return [clean], []
    if type(document.value) is list:
        return [], [_as_text(value) for value in document.value]
    return None


def _as_text(value: Any) -> str:
    return value if type(value) is str else msgspec.json.encode(value).decode()


def _text_event(text: str, rule: TextRule, stamp_ms: int, event_bytes: int) -> bytes:
    """Return an event with `text` as its content; cut, and marked so, if the proxy would not take it whole."""
    encoded = _event(text, {}, rule, stamp_ms)
    while len(encoded) > event_bytes and text:
        text = text[: min(len(text) // 2, event_bytes - _FALLBACK_BYTES)]
        encoded = _event(text, {"truncated": "true"}, rule, stamp_ms)
    return encoded


def _event(text: str, dimension: dict[str, str], rule: TextRule, stamp_ms: int) -> bytes:
    return msgspec.json.encode(
        {
            "event_name": rule.event_name,
            "target": rule.target,
            "event": {"content": text},
            "dimension": dimension,
            "timestamp": stamp_ms,
        }
    )


def _one_by_one(
    items: Iterable[bytes], rules: Rules, now_ms: int, skew_ms: int, limits: dict[str, int], *, repaired: bool
) -> CheckedPayload:
    good: dict[tuple[Kind, int | None], list[bytes]] = {}
    dead: list[tuple[Kind, bytes, str]] = []
    for item in items:
        own: Kind = "event"
        try:
            own = kind_of(item)
            checked = check_item(item, rules.kind or own, rules, now_ms, skew_ms)
            if len(checked.json) > limits["event_bytes"]:
                raise too_large(len(checked.json), limits["event_bytes"])
            good.setdefault((rules.kind or own, checked.due_ms), []).append(checked.json)
            repaired |= checked.repaired
        except Rejected as rejected:
            dead.append((own, item, rejected.why.message))
    blocks: dict[Kind, list[Block]] = {}
    for (kind, due_ms), pieces in good.items():
        blocks.setdefault(kind, []).extend(cut(pieces, limits["block_bytes"], due_ms))
    return CheckedPayload(blocks, dead, repaired)
